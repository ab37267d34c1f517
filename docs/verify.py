#!/usr/bin/env python3
"""A second verifier of Weighbridge's evidence files, written apart from the first one.

    verify.py FILE [--trust KEY|KEYFILE]...

It needs Python 3.10 and `pip install cryptography`, and must say of every file of suite `nist` and version 2 or 3 what
`weighbridge verify` says; others it refuses by name. The verdict is the last line; exit codes: 0 proven, 1 not, 2 wrong
command line. docs/evidence.md says what the fields mean.
"""

import argparse
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

MAX_BYTES = 16 << 20
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256's group
GUOMI = "1"  # what a key of the other suite begins with

def need(holds, why):
    if not holds:
        raise ValueError(why)

# -- Forms. A form refuses what JSON gave if it is not of that form, and else returns the bytes of it that are hashed
# (borsh: integers little-endian, a u32 length before texts and lists, one byte before an option and for a choice).

def form(name, fits, encode):
    def encoded(value):
        if not fits(value):
            raise ValueError(f"{value!r:.99} is not {name}")
        return encode(value)
    return encoded

# The kinds of forms: in words, what fits, and its bytes.
number = lambda bits: form(f"a u{bits}", lambda v: type(v) is int and 0 <= v < 1 << bits,
                           lambda v: v.to_bytes(bits // 8, "little"))
written = lambda pattern, encode=bytes.fromhex: form(f"written as {pattern}",
                                                     lambda v: type(v) is str and re.fullmatch(pattern, v), encode)
digits = written("0|-?[1-9][0-9]{0,19}", int)
decimal = lambda low, high: form(f"from {low} to {high}", lambda v: low <= digits(v) <= high,
                                 lambda v: int(v).to_bytes(8, "little", signed=low < 0))
choice = lambda *names: form(f"one of {names}", lambda v: type(v) is str and v in names,
                             lambda v: bytes([names.index(v)]))
option = lambda inner: lambda v: b"\0" if v is None else b"\1" + inner(v)
several = lambda inner: form("a list", lambda v: type(v) is list, lambda v: U32(len(v)) + b"".join(map(inner, v)))
fields = lambda **forms: form(f"an object of {list(forms)}", lambda v: type(v) is dict and list(v) == list(forms),
                              lambda v: b"".join(inner(v[name]) for name, inner in forms.items()))

def one_of(**forms):  # an object with one field, whose name says which
    def encode(value):
        (name, inner), = value.items()
        return bytes([list(forms).index(name)]) + forms[name](inner)
    return form(f"one of {list(forms)}", lambda v: type(v) is dict and len(v) == 1 and set(v) <= set(forms), encode)

U8, U32, U64, I64 = number(8), number(32), decimal(0, 2**64 - 1), decimal(-(2**63), 2**63 - 1)
BOOL = form("true or false", lambda v: type(v) is bool, lambda v: bytes([v]))
TEXT = form("text", lambda v: type(v) is str, lambda v: U32(len(v.encode())) + v.encode())
BYTES, SALT, HASH, SIGNATURE = (written("([0-9a-f]{2})" + count) for count in ("*", "{16}", "{32}", "{64}"))
COUNTED = lambda v: U32(len(BYTES(v))) + BYTES(v)
KEY = form("a key of suite nist", lambda v: written("[0-9a-f]{66}")(v) and v[0] != GUOMI, bytes.fromhex)
F64 = written("[0-9a-f]{16}", lambda v: bytes.fromhex(v)[::-1])  # its bits, the sign first
OTHER_SUITE = form("of suite nist", lambda v: False, bytes)
VALUE = one_of(bool=BOOL, i64=I64, u64=U64, f64=F64, text=lambda v: TEXT(v)[4:], bytes=BYTES)  # no length in a leaf
HUBS = several(fields(id=TEXT, key=KEY))
DECIDING, STANDING_BY = fields(validators=HUBS, threshold=U32), fields(validators=HUBS, threshold=U32, standbys=HUBS)
def VALIDATORS(v):  # the highest bit of the threshold says that standbys follow
    if type(v) is not dict or "standbys" not in v:
        return DECIDING(v)
    need(v["standbys"] != [], "nobody stands by, and that is said")
    return STANDING_BY(v | {"threshold": v["threshold"] | 1 << 31} if type(v.get("threshold")) is int else v)
HEADER = fields(version=U8, chain=TEXT, height=U64, previous_hash=HASH, time=I64, record_count=U32, merkle_root=HASH,
                state_hash=HASH, validators_hash=HASH, proposer=TEXT)
SIGNATURES = several(fields(validator=TEXT, signature=SIGNATURE))
SOLO, QUORUM = fields(signatures=SIGNATURES), fields(round=U32, signatures=SIGNATURES)
CERTIFICATE = lambda v: (QUORUM if type(v) is dict and "round" in v else SOLO)(v)
SEALED = fields(hash=HASH, length=U64, key_epoch=U64)
ATTESTED = dict(device=TEXT, epoch=U64, sequence=U64, samples=U32, grade=U8, inner_root=HASH)
VERDICT = {"class": choice("accepted", "out_of_control", "invalid"), "chart": TEXT, "rule": TEXT}
BATCH = fields(**ATTESTED, sealed=option(SEALED), verdict=fields(**VERDICT), judged_by=HASH,
               attester=option(fields(key=KEY, signature=SIGNATURE)))
IDENTITY = fields(id=TEXT, kind=choice("hub", "edge", "device", "user"), key=option(KEY))
CONTENT = one_of(batch=BATCH, document=fields(kind=TEXT, version=U64, commitment=HASH, sealed=SEALED),
                 identity=IDENTITY, commitment=HASH, message=fields(kind=TEXT, commitment=HASH, sealed=SEALED),
                 rotation=fields(identity=IDENTITY, replaces=KEY, proof=SIGNATURE, consent=option(SIGNATURE)),
                 centres=OTHER_SUITE, derived=OTHER_SUITE,
                 hub_vote=fields(hub=TEXT, key=KEY, change=choice("admit", "dismiss", "standby"), faults=choice("byzantine", "crash")),
                 lease=fields(device=TEXT, epoch=U64, hub=TEXT),
                 equivocation=fields(evidence=COUNTED),
                 anchor=fields(grade=U8, header=HEADER, certificate=CERTIFICATE, leads=COUNTED),
                 exchange=fields(acid=TEXT, number=U64, ceid=TEXT, grade=U8,
                                 step=choice("request", "answer", "confirm", "refuse"), sealed=HASH,
                                 header=option(HASH), t_timestamp=I64, t_confirm=option(I64), hub=TEXT,
                                 signature=SIGNATURE))
OF_SEVERAL = {"hub_vote", "lease", "equivocation"}  # what only blocks of several hubs hold
ACTION = choice("enrol", "revoke", "configure", "store", "read", "control", "grant", "release", "refuse", "session",
                "summary", "exchange", "membership", "erase", "acknowledge", "alarm")
BODY = fields(version=U8, chain=TEXT, hub=TEXT, sequence=U64, previous=HASH, time=I64, subject=TEXT, action=ACTION,
              object=TEXT, permit=option(HASH), content=CONTENT, response=choice("accepted", "refused"))
RECORD = fields(body=BODY, signature=SIGNATURE)
SAMPLE = fields(position=U32, tag=TEXT, index=U32, time=I64, value=VALUE, quality=U32, salt=SALT)
SHOWN = fields(position=U32, record=RECORD, samples=several(SAMPLE), path=several(HASH),
               opened=option(fields(salt=SALT, content=BYTES)))
BLOCK = fields(header=HEADER, certificate=CERTIFICATE, records=several(SHOWN), path=several(HASH))
FILE = fields(format=choice("weighbridge-evidence/2", "weighbridge-evidence/3"), validators=VALIDATORS, blocks=several(BLOCK))

def read(data):
    need(len(data) <= MAX_BYTES, "the file is too long")
    need(not data.startswith(b"WBEV\1"), "this program does versions 2 and 3 only, and the file is of version 1")
    evidence = json.loads(data.decode())
    # JSON has many ways to write the same; a file has one.
    canonical = json.dumps(evidence, ensure_ascii=False, separators=(",", ":")) + "\n"
    need(canonical.encode() == data, "the file is not in the one form of an evidence file")
    suite = evidence.get("suite", "nist") if type(evidence) is dict else "nist"
    need(suite == "nist", f"this program does suite nist only, and the file is of suite {suite!r:.20}")
    FILE(evidence)
    shared = any(block["header"]["version"] == 2 for block in evidence["blocks"])
    need(evidence["format"][-1] == "23"[shared], "the file is of version 3 if and only if several hubs decided a block in it")
    return evidence

# -- Hashes, trees, signatures.

sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
tagged = lambda what, *parts: sha256(f"weighbridge/{what}/v1\0".encode(), *parts)
block_hash = lambda header: tagged("header", HEADER(header))

def sample_leaf(device, sample):
    tag = sha256(struct.pack("<Q", len(device.encode())), device.encode(), sample["tag"].encode())
    head = SALT(sample["salt"]) + U32(sample["index"]) + I64(sample["time"]) + U32(sample["quality"])
    return sha256(b"\0", tag, bytes(31), head, VALUE(sample["value"]))

def root(known, size, path):
    """Root of an RFC 6962 tree of `size` leaves, of which `known` are (position, hash), with the siblings `path`."""
    need(known and all(a[0] < b[0] for a, b in zip(known, known[1:])) and known[-1][0] < size, "positions out of order")
    nodes, siblings, last = dict(known), map(HASH, path), size - 1
    while last > 0:
        above = {}
        for left in sorted({at - at % 2 for at in nodes}):
            pair = [nodes[at] if at in nodes else next(siblings, None) for at in (left, left + 1) if at <= last]
            need(None not in pair, "the path is too short")
            above[left // 2] = sha256(b"\1", *pair) if len(pair) == 2 else pair[0]  # the odd one goes up as it is
        nodes, last = above, last // 2
    need(next(siblings, None) is None, "the path is too long")
    return nodes[0].hex()

def check_signature(key, message, signature):
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    need(0 < r < ORDER and 0 < s <= ORDER // 2, "the signature is malformed or not in low-s form")
    need(key[:2] in ("02", "03"), "the public key is not a compressed point")
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), KEY(key))
    point.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

# -- Who signs. A set is the keys of its hubs by id, how many of them decide, the votes that are open (by the hub voted
# on, then by the hub that votes), and the keys of those that stand by, by id in their order. What a record changes is a
# set, and keys that count because of others.

MOST_HUBS, MOST_BALLOTS, MOST_STANDBYS = 64, 64, 16

def threshold_of(hubs, faults):
    """How many of so many hubs decide; 0 where a set of that size cannot be trusted in that way."""
    return (2 if hubs == 3 else 0) if faults == "crash" else hubs * 2 // 3 + 1

def changed_set(change, hub, key, faults, hubs, threshold, votes, standbys):
    """The set with a hub more, or less; whatever was said on it is forgotten, and what was said by one that leaves. Who
    stands by first comes for one that leaves."""
    leaves = change == "dismiss" and hub in hubs
    waiting = [name for name in standbys if name != hub]
    comes = [hub] if change == "admit" else waiting[:1] if leaves else []
    known = standbys | {hub: key}
    votes = {about: {by: said for by, said in ballots.items() if by != hub or not leaves}
             for about, ballots in votes.items() if about not in (hub, *comes)}
    votes = {about: ballots for about, ballots in votes.items() if ballots}
    later = {name: known[name] for name in waiting + [hub] * (change == "standby") if name not in comes}
    kept = {name: other for name, other in hubs.items() if name != hub} | {name: known[name] for name in comes}
    kept = {name: kept[name] for name in sorted(kept, key=str.encode)}
    return kept, threshold_of(len(kept), faults) if kept != hubs else threshold, votes, later

def counted(by, vote, hubs, threshold, votes, standbys):
    """The set after a vote by one of its hubs."""
    hub, key, change, faults = vote.values()
    others = [about for about, ballots in votes.items() if about != hub and by in ballots]
    taken = [other for name, other in (hubs | standbys).items() if name != hub]
    comes = key not in taken and hub not in hubs
    size, fits = {
        "admit": (len(hubs) + 1, comes and standbys.get(hub, key) == key and len(hubs) < MOST_HUBS),
        "standby": (len(hubs), comes and hub not in standbys and len(standbys) < MOST_STANDBYS),
        "dismiss": (len(hubs) - (hub in hubs and not standbys), (hubs | standbys).get(hub) == key and hubs != {hub: key}),
    }[change]
    if not (fits and threshold_of(size, faults) and len(others) < MOST_BALLOTS):
        return hubs, threshold, votes, standbys
    votes = votes | {hub: votes.get(hub, {}) | {by: (key, change, faults)}}
    same = [voter for voter, said in votes[hub].items() if said == (key, change, faults) and voter in hubs]
    after = hubs, threshold, votes, standbys
    return after if len(same) < threshold else changed_set(change, hub, key, faults, *after)

VOTES, PROPOSALS = (re.compile(rb"(.{33})" + kind + (rb"((%s)(%s))(.{64})" % said) * 2, re.DOTALL) for kind, said in (
    (rb"\x00", (rb"[\x00\x01].{12}", rb"\x00|\x01.{32}")), (rb"\x01", (rb".{12}", rb".{32}(?:\x00|\x01.{4})"))))

def liar(chain, data):
    """The key that signed two votes, or two proposals, of one round that exclude each other; None if none did."""
    found = VOTES.fullmatch(data) or PROPOSALS.fullmatch(data)
    if not found:
        return None
    key, first, slot, _, one, second, other_slot, _, two = found.groups()
    what = "vote" if data[33] == 0 else "proposal"
    try:
        for message, signature in (first, one), (second, two):
            check_signature(key.hex(), tagged(what, TEXT(chain), message), signature.hex())
    except (InvalidSignature, ValueError):
        return None
    return key.hex() if slot == other_slot and first < second else None

def succeed(body, hubs, threshold, votes, standbys):
    """The set after a record by one of its hubs."""
    (kind, content), before = next(iter(body["content"].items())), (hubs, threshold, votes, standbys)
    if (body["action"], body["response"]) != ("membership", "accepted"):
        return before
    if kind == "rotation":
        identity, old = content["identity"], content["replaces"]
        if identity["kind"] != "hub" or identity["id"] != body["hub"] or old != hubs[body["hub"]]:
            return before
        ballots = {by: (identity["key"], *said) for by, (_, *said) in votes.get(body["hub"], {}).items()}
        votes = votes | ({body["hub"]: ballots} if ballots else {})
        return hubs | {body["hub"]: identity["key"]}, threshold, votes, standbys
    if kind == "hub_vote":
        return counted(body["hub"], content, *before)
    if kind == "equivocation" and len(hubs) > 1:
        key = liar(body["chain"], bytes.fromhex(content["evidence"]))
        for hub in (hub for hub in hubs if hubs[hub] == key and body["object"] == "hub:" + hub):
            return changed_set("dismiss", hub, key, "byzantine", *before)
    return before

# -- The evidence. `believed` are those keys that are trusted, or follow one.

def check_record(shown, header, hubs):
    body, content = shown["record"]["body"], shown["record"]["body"]["content"]
    need(body["version"] == 1, "a record of an unknown version")
    need(header["version"] == 2 or not set(content) & OF_SEVERAL, "what only several hubs decide, in a block of one")
    need(body["chain"] == header["chain"], "a record of another chain")
    need(int(body["time"]) <= int(header["time"]), "a record younger than its block")
    need(body["hub"] in hubs, "a record of a hub that is not in the set")
    check_signature(hubs[body["hub"]], tagged("record", BODY(body)), shown["record"]["signature"])
    batch, rotation, opened = content.get("batch"), content.get("rotation"), shown["opened"]
    if batch and batch["attester"]:
        message = tagged("attestation", *(encoded(batch[name]) for name, encoded in ATTESTED.items()))
        check_signature(batch["attester"]["key"], message, batch["attester"]["signature"])
    if shown["samples"]:
        stored = batch and body["action"] == "store" and body["response"] == "accepted" and batch["sealed"]
        need(stored and batch["verdict"]["class"] != "invalid", "samples of something that is not a stored batch")
        leaves = [(sample["position"], sample_leaf(batch["device"], sample)) for sample in shown["samples"]]
        need(root(leaves, batch["samples"], shown["path"]) == batch["inner_root"], "samples that are not in the batch")
    need(shown["samples"] or not shown["path"], "a path of no samples")
    if opened:
        committed = content.get("document") or content.get("message") or {"commitment": None}
        said = sha256(b"\0", SALT(opened["salt"]), BYTES(opened["content"])).hex()
        need(said == committed["commitment"], "what is shown in the clear is not what the record commits to")
    if rotation:
        identity, old = rotation["identity"], rotation["replaces"]
        need(identity["key"], "a rotation without a key")
        message = tagged("rotation", TEXT(body["chain"]), IDENTITY(identity), KEY(old))
        check_signature(identity["key"], message, rotation["proof"])
        if rotation["consent"]:
            check_signature(old, message, rotation["consent"])

def check_block(block, hubs, threshold, votes, standbys, believed):
    """Whether enough of the believed keys signed it, and the set after it."""
    header, records, signatures = block["header"], block["records"], block["certificate"]["signatures"]
    need(header["version"] in (1, 2), "a block of an unknown version")
    shared = header["version"] == 2
    need(shared == ("round" in block["certificate"]), "a certificate of the other kind of blocks")
    need(not shared or threshold * 2 > len(hubs), "a set of which two halves could decide two things")
    need(len({*hubs.values(), *standbys.values()}) == len(hubs) + len(standbys), "two hubs with one key")
    listed = lambda keys: [{"id": hub, "key": key} for hub, key in keys.items()]
    validators = {"validators": listed(hubs), "threshold": threshold} | ({"standbys": listed(standbys)} if standbys else {})
    set_hash = tagged("validators", VALIDATORS(validators)).hex()
    need(set_hash == header["validators_hash"], "the validator set is not the one that the header names")
    signers = [one["validator"] for one in signatures]
    need(len(set(signers)) == len(signers) and set(signers) <= set(hubs), "somebody signed who may not, or twice")
    need(len(signers) >= threshold, "too few signatures")
    signed = tagged("commit", block_hash(header))
    if shared:  # a precommit of that round for this block
        said = b"\1" + U64(header["height"]) + U32(block["certificate"]["round"]) + b"\1" + block_hash(header)
        signed = tagged("vote", TEXT(header["chain"]), said)
    for one in signatures:
        check_signature(hubs[one["validator"]], signed, one["signature"])
    enough = sum(hubs[signer] in believed for signer in signers) >= threshold
    leaves = [(shown["position"], sha256(b"\0", RECORD(shown["record"]))) for shown in records]
    need(root(leaves, header["record_count"], block["path"]) == header["merkle_root"], "records that are not in it")
    if header["height"] == "1" and records[0]["position"] == 0:  # the chain's first record enrols the hub that signs
        body = records[0]["record"]["body"]
        first = body["content"].get("identity") or {"kind": None}
        begins = body["action"] == "enrol" and first["kind"] == "hub" and int(header["previous_hash"], 16) == 0
        need(begins and threshold == 1 and hubs == {first["id"]: first["key"]}, "the first block begins another chain")
    for shown in records:
        check_record(shown, header, hubs)
        after = succeed(shown["record"]["body"], hubs, threshold, votes, standbys)
        # Who was let in counts as who let it in, and another key of a hub as the one that it had.
        believed |= {key for hub, key in after[0].items() if hub not in hubs or hubs[hub] in believed}
        hubs, threshold, votes, standbys = after
    return enough, after

def check_judges(bodies):
    """What is shown of what judged a batch is a document about its device from before it."""
    about = {}  # which object, by commitment; None once a batch names a document that is not shown before it
    for body in bodies:
        if document := body["content"].get("document"):
            judge = about.setdefault(document["commitment"], body["object"])
            need(judge is not None, "what judged a batch is later than the batch")
        if batch := body["content"].get("batch"):
            judge = about.setdefault(batch["judged_by"], None)
            need(judge in (None, "device:" + batch["device"]), "what judged a batch is not of its device")

def check(evidence, trusted):
    """Whether enough of the trusted keys, or of those that took their place, signed every block."""
    blocks, (validators, threshold, *waiting) = evidence["blocks"], evidence["validators"].values()
    ids, named = [hub["id"] for hub in validators], [hub["id"] for hub in sum(waiting, validators)]
    hubs, standbys = ({hub["id"]: hub["key"] for hub in listed} for listed in (validators, sum(waiting, [])))
    ordered = all(a.encode() < b.encode() for a, b in zip(ids, ids[1:]))
    need(ordered and 1 <= threshold <= len(ids), "the validator set is malformed")
    need(len(set(named)) == len(named) and len(standbys) <= MOST_STANDBYS, "the standbys are malformed")
    need(blocks, "the evidence shows nothing")
    after, believed, all_believed, before = (hubs, threshold, {}, standbys), set(trusted), True, None
    for block in blocks:
        header = block["header"]
        if before:
            later = all(int(before[name]) < int(header[name]) for name in ("height", "time"))
            need(later and before["chain"] == header["chain"], "blocks that are out of order, or of two chains")
            linked = header["previous_hash"] == block_hash(before).hex()
            need(linked or int(before["height"]) + 1 < int(header["height"]), "two blocks that are not linked")
            need(before["version"] <= header["version"], "a block of one hub after one of several")
        enough, after = check_block(block, *after, believed)
        all_believed, before = all_believed and enough, header
    check_judges(shown["record"]["body"] for block in blocks for shown in block["records"])
    return all_believed

def verdict(data, trusted):
    """The evidence of a file, or None where it does not hold; and what is to be said of it."""
    try:
        evidence = read(data)
        need(check(evidence, trusted) or not trusted, "too few of the trusted keys signed it")
    except InvalidSignature:
        return None, "not proven: a signature does not match its key and content"
    except (ValueError, RecursionError) as error:  # of json, of text, of nesting, or what is needed
        return None, f"not proven: {error}"
    return evidence, "proven, under the trusted key" if trusted else "proven, self-consistent only"

def keys(argument):
    lines = [argument] if re.fullmatch("[0-9a-f]{66}", argument) else Path(argument).read_text().split()
    if not lines or not all(re.fullmatch("[0-9a-f]{66}", line) for line in lines):
        raise argparse.ArgumentTypeError("neither 66 hexadecimal digits nor a file with them")
    return lines

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--trust", type=keys, action="extend", default=[], metavar="KEY|KEYFILE")
    arguments = parser.parse_args()
    evidence, said = verdict(arguments.file.read_bytes(), set(arguments.trust))
    if not evidence:
        sys.exit(f"error: the evidence does not hold: {said.removeprefix('not proven: ')}")
    for shown in (shown for block in evidence["blocks"] for shown in block["records"]):
        for sample in shown["samples"]:
            (kind, value), = sample["value"].items()
            value = struct.unpack(">d", bytes.fromhex(value))[0] if kind == "f64" else value
            device = shown["record"]["body"]["content"]["batch"]["device"]
            line = f"{device}/{sample['tag']} = {value} (0x{sample['quality']:08X}) at {sample['time']} ns"
            print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))  # what a terminal would obey
    print(said)

if __name__ == "__main__":
    main()
