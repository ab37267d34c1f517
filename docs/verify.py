#!/usr/bin/env python3
"""A second verifier of Weighbridge's evidence files, written apart from the first one.

    verify.py FILE [--trust KEY|KEYFILE]...
    verify.py --stream [--trust KEY|KEYFILE]...

It does suite `nist` only: evidence of a chain of suite `guomi` (SM2, SM3) names it, and is refused here with
those words; `weighbridge verify` and `weighbridge-verify` do both.

It needs Python 3.10 and `pip install cryptography`, and must say of every file of suite `nist` what `weighbridge
verify` says. The verdict is the last line; exit codes: 0 proven, 1 not, 2 wrong command line. With --stream standard
input holds many files, each behind its length (4 bytes, big-endian), and every verdict is a line.

How to read it: a *form* is a function that takes what JSON gave, refuses what is not that form, and returns
the bytes that are hashed (borsh: integers little-endian, a u32 length before texts and lists, one byte before
an option and for a choice). docs/evidence.md says what the fields mean.
"""

import argparse
import copy
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


class Wrong(Exception):
    """Why the evidence does not hold."""


def need(holds, why):
    if not holds:
        raise Wrong(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# -- forms


def number(bits):  # a JSON number
    def form(value):
        need(type(value) is int and 0 <= value < 1 << bits, f"{value!r} is no u{bits}")
        return value.to_bytes(bits // 8, "little")
    return form


def decimal(signed):  # 64 bits, as a string of decimal digits
    def form(value):
        need(type(value) is str and re.fullmatch(r"0|-?[1-9][0-9]{0,19}", value), f"{value!r} is no integer")
        low, high = (-(1 << 63), 1 << 63) if signed else (0, 1 << 64)
        need(low <= int(value) < high, f"{value} is out of range")
        return int(value).to_bytes(8, "little", signed=signed)
    return form


def digits(size=None):  # lower-case hexadecimal, of so many bytes
    def form(value):
        need(type(value) is str and re.fullmatch(r"([0-9a-f]{2})*", value), f"{value!r} is not hexadecimal")
        need(size is None or len(value) == 2 * size, f"{value!r} is not {size} bytes")
        return bytes.fromhex(value)
    return form


def text(value):
    need(type(value) is str, f"{value!r} is no text")
    return struct.pack("<I", len(value.encode())) + value.encode()


def boolean(value):
    need(type(value) is bool, f"{value!r} is no bool")
    return bytes([value])


def several(form):
    def of(value):
        need(type(value) is list, f"{value!r:.99} is no list")
        return struct.pack("<I", len(value)) + b"".join(map(form, value))
    return of


def option(form):
    return lambda value: b"\0" if value is None else b"\1" + form(value)


def choice(*names):
    def form(value):
        need(type(value) is str and value in names, f"{value!r:.99} is none of {names}")
        return bytes([names.index(value)])
    return form


def one_of(**forms):  # an object with one field, whose name says which
    def form(value):
        need(type(value) is dict and len(value) == 1 and list(value)[0] in forms, f"{value!r:.99}: which one?")
        name, inner = next(iter(value.items()))
        return bytes([list(forms).index(name)]) + forms[name](inner)
    return form


def fields(**forms):
    def form(value):
        need(type(value) is dict and list(value) == list(forms), f"{value!r:.99} has not the fields {list(forms)}")
        return b"".join(forms[name](value[name]) for name in forms)
    return form


U8, U32, U64, I64, HASH, KEY, SIGNATURE = number(8), number(32), decimal(False), decimal(True), *map(digits, (32, 33, 64))
F64 = lambda value: digits(8)(value)[::-1]  # its bits, the sign first
VALUE = one_of(bool=boolean, i64=I64, u64=U64, f64=F64, text=lambda v: text(v)[4:], bytes=digits())  # no length in a leaf
VALIDATORS = fields(validators=several(fields(id=text, key=KEY)), threshold=U32)
HEADER = fields(version=U8, chain=text, height=U64, previous_hash=HASH, time=I64, record_count=U32,
                merkle_root=HASH, state_hash=HASH, validators_hash=HASH, proposer=text)
SEALED = fields(hash=HASH, length=U64, key_epoch=U64)
BATCH = fields(device=text, epoch=U64, sequence=U64, samples=U32, grade=U8, inner_root=HASH, sealed=option(SEALED),
               verdict=fields(**{"class": choice("accepted", "out_of_control", "invalid"), "chart": text, "rule": text}),
               judged_by=HASH, attester=option(fields(key=KEY, signature=SIGNATURE)))
IDENTITY = fields(id=text, kind=choice("hub", "edge", "device", "user"), key=option(KEY))
CONTENT = one_of(batch=BATCH, document=fields(kind=text, version=U64, commitment=HASH, sealed=SEALED), identity=IDENTITY,
                 commitment=HASH, message=fields(kind=text, commitment=HASH, sealed=SEALED),
                 rotation=fields(identity=IDENTITY, replaces=KEY, proof=SIGNATURE, consent=option(SIGNATURE)))
ACTION = choice("enrol", "revoke", "configure", "store", "read", "control", "grant", "release", "refuse", "session",
                "summary", "exchange", "membership", "erase", "acknowledge", "alarm")
BODY = fields(version=U8, chain=text, hub=text, sequence=U64, previous=HASH, time=I64, subject=text, action=ACTION,
              object=text, permit=option(HASH), content=CONTENT, response=choice("accepted", "refused"))
RECORD = fields(body=BODY, signature=SIGNATURE)
SAMPLE = fields(position=U32, tag=text, index=U32, time=I64, value=VALUE, quality=U32, salt=digits(16))
PROVEN_RECORD = fields(position=U32, record=RECORD, samples=several(SAMPLE), path=several(HASH),
                       opened=option(fields(salt=digits(16), content=digits())))
CERTIFICATE = fields(signatures=several(fields(validator=text, signature=SIGNATURE)))
BLOCK = fields(header=HEADER, certificate=CERTIFICATE, records=several(PROVEN_RECORD), path=several(HASH))
FILE = fields(format=choice("weighbridge-evidence/2"), validators=VALIDATORS, blocks=several(BLOCK))


def read(data):
    need(len(data) <= MAX_BYTES, "the file is too long")
    evidence = json.loads(data.decode())
    # JSON has many ways to write the same; a file has one.
    written = json.dumps(evidence, ensure_ascii=False, separators=(",", ":")) + "\n"
    need(written.encode() == data, "the file is not in the one form of an evidence file")
    suite = evidence.get("suite", "nist") if type(evidence) is dict else "nist"
    need(suite == "nist", f"this program does suite nist only, and the file is of suite {suite!r:.20}")
    FILE(evidence)
    return evidence


# -- hashes, trees, signatures


def root(known, size, path):
    """Root of an RFC 6962 tree of `size` leaves, of which `known` are (position, hash), with the siblings `path`."""
    need(known and all(a[0] < b[0] for a, b in zip(known, known[1:])) and known[-1][0] < size, "positions")
    path, last = [bytes.fromhex(h) for h in path][::-1], size - 1
    while last > 0:
        above, nodes = [], known[::-1]
        while nodes:
            at, node = nodes.pop()
            if at % 2:
                need(path, "the path is too short")
                node = sha256(b"\1", path.pop(), node)
            elif at < last:  # else it is the odd one at the end, and goes up as it is
                known_sibling = nodes and nodes[-1][0] == at + 1
                need(known_sibling or path, "the path is too short")
                node = sha256(b"\1", node, nodes.pop()[1] if known_sibling else path.pop())
            above.append((at // 2, node))
        known, last = above, last // 2
    need(not path, "the path is too long")
    return known[0][1]


def check_signature(key, message, signature):
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    need(0 < r < ORDER and 0 < s <= ORDER // 2, "the signature is malformed or not in low-s form")
    need(key[:2] in ("02", "03"), "the public key is not a compressed point")
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(key))
        encoded = utils.encode_dss_signature(r, s)
        point.verify(encoded, message, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError) as error:
        raise Wrong("a signature does not match its key and content") from error


def block_hash(header):
    return sha256(b"weighbridge/header/v1\0", HEADER(header))


def sample_leaf(device, sample):
    name = sha256(struct.pack("<Q", len(device.encode())), device.encode(), sample["tag"].encode())
    head = bytes.fromhex(sample["salt"]) + U32(sample["index"]) + I64(sample["time"]) + U32(sample["quality"])
    return sha256(b"\0", name, bytes(31), head, VALUE(sample["value"]))


# -- the evidence


def check_record(shown, header, hubs):
    body, content = shown["record"]["body"], shown["record"]["body"]["content"]
    need(body["version"] == 1, "a record of an unknown version")
    need(body["chain"] == header["chain"], "a record of another chain")
    need(int(body["time"]) <= int(header["time"]), "a record younger than its block")
    need(body["hub"] in hubs, "a record of a hub that is not in the set")
    message = sha256(b"weighbridge/record/v1\0", BODY(body))
    check_signature(hubs[body["hub"]], message, shown["record"]["signature"])
    batch = content.get("batch")
    if batch and batch["attester"]:
        said = (text(batch["device"]) + U64(batch["epoch"]) + U64(batch["sequence"]) + U32(batch["samples"])
                + U8(batch["grade"]) + HASH(batch["inner_root"]))
        message = sha256(b"weighbridge/attestation/v1\0", said)
        check_signature(batch["attester"]["key"], message, batch["attester"]["signature"])
    if rotation := content.get("rotation"):
        identity = rotation["identity"]
        need(identity["key"], "a rotation without a key")
        message = sha256(b"weighbridge/rotation/v1\0", text(body["chain"]), IDENTITY(identity), KEY(rotation["replaces"]))
        check_signature(identity["key"], message, rotation["proof"])
        if rotation["consent"]:
            check_signature(rotation["replaces"], message, rotation["consent"])
    if shown["samples"]:
        stored = batch and body["action"] == "store" and body["response"] == "accepted" and batch["sealed"]
        need(stored and batch["verdict"]["class"] != "invalid", "samples of something that is not a stored batch")
        leaves = [(sample["position"], sample_leaf(batch["device"], sample)) for sample in shown["samples"]]
        need(root(leaves, batch["samples"], shown["path"]).hex() == batch["inner_root"], "samples that are not in the batch")
    need(shown["samples"] or not shown["path"], "a path of no samples")
    if shown["opened"]:
        commitment = (content.get("document") or content.get("message") or {}).get("commitment")
        opened = sha256(b"\0", *(bytes.fromhex(shown["opened"][part]) for part in ("salt", "content")))
        need(opened.hex() == commitment, "what is shown in the clear is not what the record commits to")


def key_change(body, hubs):
    """The hub whose key the record changes, with the old key and the new one."""
    rotation = body["content"].get("rotation") or {"identity": {}, "replaces": None}
    hub, old = rotation["identity"], rotation["replaces"]
    said = body["action"] == "membership" and body["response"] == "accepted" and hub.get("kind") == "hub" and hub["key"]
    changed = said and hub["id"] == body["hub"] and hubs.get(hub["id"]) == old and hub["key"] != old
    return (hub["id"], old, hub["key"]) if changed else None


def check_block(block, validators):
    """Checks it under the set that signs it; the keys that signed, and the changes of the set."""
    header, records, changes = block["header"], block["records"], []
    need(header["version"] == 1, "a block of an unknown version")
    hubs = {hub["id"]: hub["key"] for hub in validators["validators"]}
    now = dict(hubs)  # a change is in force for the records after it, and for the blocks after its own
    for shown in records:
        check_record(shown, header, now)
        if change := key_change(shown["record"]["body"], now):
            now[change[0]] = change[2]
            changes.append(change)
    leaves = [(shown["position"], sha256(b"\0", RECORD(shown["record"]))) for shown in records]
    need(root(leaves, header["record_count"], block["path"]).hex() == header["merkle_root"], "records that are not in the block")
    if header["height"] == "1" and records[0]["position"] == 0:  # the chain's first record enrols the hub that signs
        body = records[0]["record"]["body"]
        hub = body["content"].get("identity") or {}
        begins = body["action"] == "enrol" and hub.get("kind") == "hub"
        alone = {"validators": [{"id": hub.get("id"), "key": hub.get("key")}], "threshold": 1}
        need(begins and validators == alone and int(header["previous_hash"], 16) == 0, "the first block begins another chain")
    set_hash = sha256(b"weighbridge/validators/v1\0", VALIDATORS(validators))
    need(header["validators_hash"] == set_hash.hex(), "the validator set is not the one that the header names")
    message = sha256(b"weighbridge/commit/v1\0", block_hash(header))
    signers = [one["validator"] for one in block["certificate"]["signatures"]]
    need(len(set(signers)) == len(signers) and set(signers) <= set(hubs), "somebody signed who may not, or twice")
    need(len(signers) >= validators["threshold"], "too few signatures")
    for one in block["certificate"]["signatures"]:
        check_signature(hubs[one["validator"]], message, one["signature"])
    return {hubs[signer] for signer in signers}, changes


def check_set(validators):
    ids, keys = ([hub[name] for hub in validators["validators"]] for name in ("id", "key"))
    need(all(a.encode() < b.encode() for a, b in zip(ids, ids[1:])) and len(set(keys)) == len(keys)
         and 1 <= validators["threshold"] <= len(ids), "the validator set is malformed")


def check_judges(blocks):
    """What is shown of what judged a batch is a document about its device from before it."""
    places = [(n, shown["record"]["body"]) for n, shown in enumerate(s for block in blocks for s in block["records"])]
    judges = {}
    for place, body in places:
        if document := body["content"].get("document"):
            judges.setdefault(document["commitment"], (place, body["object"]))
    for place, body in places:
        batch = body["content"].get("batch")
        if batch and batch["judged_by"] in judges:
            at, about = judges[batch["judged_by"]]
            need(at < place and about == "device:" + batch["device"], "what judged the batch is not of its device, or later")


def verify(data, trusted):
    """The verdict over a file; raises Wrong."""
    evidence = read(data)
    blocks, validators, believed = evidence["blocks"], copy.deepcopy(evidence["validators"]), set(trusted)
    need(blocks, "the evidence shows nothing")
    for before, after in zip(blocks, blocks[1:]):
        a, b = before["header"], after["header"]
        need(int(a["height"]) < int(b["height"]) and int(a["time"]) < int(b["time"]) and a["chain"] == b["chain"], "order")
        neighbours = int(a["height"]) + 1 == int(b["height"])
        need(not neighbours or b["previous_hash"] == block_hash(a).hex(), "two blocks that are not linked")
    all_trusted = True
    for block in blocks:
        check_set(validators)
        signers, changes = check_block(block, validators)
        all_trusted &= len(signers & believed) >= validators["threshold"]
        for hub, old, new in changes:
            believed |= {new} if old in believed else set()  # a believed block says that it is the same hub
            next(one for one in validators["validators"] if one["id"] == hub)["key"] = new
    check_judges(blocks)
    if not trusted:
        return evidence, "proven, self-consistent only"
    need(all_trusted, "too few of the trusted keys signed it")
    return evidence, "proven, under the trusted key"


def verdict(data, trusted):
    try:
        return verify(data, trusted)
    except (Wrong, ValueError, RecursionError) as error:  # of json, of decoding text, of nesting
        return None, f"not proven: {error}"


def keys(argument):
    lines = [argument] if re.fullmatch("[0-9a-f]{66}", argument) else Path(argument).read_text().split()
    if not lines or not all(re.fullmatch("[0-9a-f]{66}", line) for line in lines):
        raise argparse.ArgumentTypeError("neither 66 hexadecimal digits nor a file with them")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--trust", type=keys, action="extend", default=[], metavar="KEY|KEYFILE")
    arguments = parser.parse_args()
    trusted = set(arguments.trust)
    if arguments.stream == bool(arguments.file):
        parser.error("which file?")
    while arguments.stream and (length := sys.stdin.buffer.read(4)):
        _, said = verdict(sys.stdin.buffer.read(int.from_bytes(length, "big")), trusted)
        print(said.replace("\n", " ").encode("ascii", "replace").decode(), flush=True)
    if arguments.stream:
        return
    evidence, said = verdict(arguments.file.read_bytes(), trusted)
    if not evidence:
        print(f"error: the evidence does not hold: {said.removeprefix('not proven: ')}", file=sys.stderr)
        sys.exit(1)
    for block in evidence["blocks"]:
        for shown in block["records"]:
            for sample in shown["samples"]:
                (kind, value), = sample["value"].items()
                value = struct.unpack(">d", bytes.fromhex(value))[0] if kind == "f64" else value
                device = shown["record"]["body"]["content"]["batch"]["device"]
                print(f"{device}/{sample['tag']} = {value} (0x{sample['quality']:08X}) at {sample['time']} ns")
    print(said)


if __name__ == "__main__":
    main()
