"""Evidence that no hub wrote: of a set of three hubs, two of which must sign, with what a solo hub's ledger
seldom has: an attester, a message in the clear, values of every kind. Of a set that votes make another one. And
forgeries: evidence signed anew."""

import copy
import hashlib
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

HUBS = {"hub-a": 11, "hub-b": 12, "hub-ü": 13}
MORE = {"hub-d": 15, "hub-x": 16}  # one that is let in later, and one that is not
CHAIN = "made\t\"up\""


def private(number):
    return ec.derive_private_key(number, ec.SECP256R1())


LATER = private(14)  # what the key of a hub is changed to


def public(key):
    form = serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    return key.public_key().public_bytes(*form).hex()


def sign(verify, key, *parts):
    der = key.sign(verify.sha256(*parts), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(der)
    return f"{r:064x}{min(s, verify.ORDER - s):064x}"


def node(verify, leaves):
    """RFC 6962's tree hash, as the RFC defines it: over a split at a power of two."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return verify.sha256(b"\1", node(verify, leaves[:split]), node(verify, leaves[split:]))


def written(evidence):
    return (json.dumps(evidence, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def hash_of(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


def body(hub, sequence, content, action="store"):
    return {
        "version": 1, "chain": CHAIN, "hub": hub, "sequence": str(sequence), "previous": hash_of(1), "time": "-5",
        "subject": "device:press-1", "action": action, "object": "device:press-1", "permit": hash_of(2),
        "content": content, "response": "accepted",
    }


def evidence(verify):
    """The file, and the keys of its three hubs."""
    values = [{"bool": True}, {"i64": "-9223372036854775808"}, {"u64": "18446744073709551615"}, {"f64": "7ff8dead0000beef"},
              {"f64": "8000000000000000"},
              {"text": "ü\n\u001b[8m\u202e\u0000\u001f\u007f\"\\/\u2028𝄞"}, {"text": ""}, {"bytes": "00ff"},
              {"bytes": ""}]
    samples = [
        {"position": at, "tag": f"tag {at} é", "index": at, "time": str(-at), "value": value,
         "quality": 4294967295 - at, "salt": hash_of(at)[:32]}
        for at, value in enumerate(values)
    ]
    leaves = [verify.sample_leaf("press-1", sample) for sample in samples]
    sealed = {"hash": hash_of(3), "length": "77", "key_epoch": "1"}
    batch = {
        "device": "press-1", "epoch": "2", "sequence": "18446744073709551615", "samples": len(leaves), "grade": 255,
        "inner_root": node(verify, leaves).hex(), "sealed": sealed,
        "verdict": {"class": "out_of_control", "chart": "ewma", "rule": "beyond_limit"}, "judged_by": hash_of(4),
        "attester": {"key": public(private(21)), "signature": ""},
    }
    shown = [{"position": at, "record": {"body": made, "signature": ""}, "samples": [], "path": [], "opened": None}
             for at, made in enumerate([
                 body("hub-b", 1, {"batch": batch}),
                 body("hub-ü", 1, {"message": {"kind": "control", "commitment": "", "sealed": sealed}}, "control"),
                 body("hub-a", 9, {"commitment": hash_of(5)}, "session"),
             ])]
    # All samples but three; the three that are missing give two hashes.
    shown[0]["samples"] = [samples[at] for at in (0, 1, 2, 3, 5, 8)]
    shown[0]["path"] = [leaves[4].hex(), verify.sha256(b"\1", leaves[6], leaves[7]).hex()]
    opened = {"salt": hash_of(6)[:32], "content": b'{"write":1}'.hex()}
    shown[1]["opened"] = opened
    message = shown[1]["record"]["body"]["content"]["message"]
    message["commitment"] = verify.sha256(b"\0", bytes.fromhex(opened["salt"]), bytes.fromhex(opened["content"])).hex()
    header = {
        "version": 1, "chain": CHAIN, "height": "18446744073709551614", "previous_hash": hash_of(7), "time": "0",
        "record_count": 3, "merkle_root": "", "state_hash": hash_of(8), "validators_hash": "", "proposer": "hub-a",
    }
    hubs = [{"id": hub, "key": ""} for hub in HUBS]
    blocks = [{"header": header, "certificate": {"signatures": []}, "records": shown, "path": []}]
    made = {"format": "weighbridge-evidence/2", "validators": {"validators": hubs, "threshold": 2}, "blocks": blocks}
    second = copy.deepcopy(blocks[0])
    second["header"] |= {"height": "18446744073709551615", "time": "9223372036854775807"}
    blocks.append(second)
    keys = {hub: private(number) for hub, number in HUBS.items()}
    sign_all(verify, made, keys, private(21))
    return written(made), [public(key) for key in keys.values()]


def turned(verify):
    """Of a hub that changed its key in block 7, with what judged its batch; and the key that the chain began with."""
    hub, later = {"hub-a": private(HUBS["hub-a"])}, public(LATER)
    identity = {"id": "hub-a", "kind": "hub", "key": public(hub["hub-a"])}
    rotation = {"identity": identity | {"key": later}, "replaces": "", "proof": "", "consent": None}
    opened = {"salt": hash_of(6)[:32], "content": b"\1settings".hex()}
    commitment = verify.sha256(b"\0", bytes.fromhex(opened["salt"]), bytes.fromhex(opened["content"])).hex()
    sealed = {"hash": hash_of(3), "length": "77", "key_epoch": "1"}
    sample = {"position": 0, "tag": "force", "index": 0, "time": "9", "value": {"bool": True}, "quality": 0, "salt": hash_of(8)[:32]}
    batch = {
        "device": "press-1", "epoch": "1", "sequence": "1", "samples": 1, "grade": 0, "inner_root": "", "sealed": sealed,
        "verdict": {"class": "accepted", "chart": "", "rule": ""}, "judged_by": commitment, "attester": None,
    }
    document = {"kind": "validation", "version": "1", "commitment": commitment, "sealed": sealed}
    told = {
        1: [({"identity": identity}, "enrol")],
        6: [({"document": document}, "configure")],
        # What comes after the change is signed by the new key already, and the block still by the old one.
        7: [({"rotation": rotation}, "membership"), ({"commitment": hash_of(5)}, "read")],
        8: [({"batch": batch}, "store")],
        9: [({"batch": batch}, "store"), ({"identity": identity | {"key": None}}, "membership")],
    }
    blocks = []
    for height, records in told.items():
        shown = [{"position": at, "record": {"body": body("hub-a", at + 1, content, action), "signature": ""},
                  "samples": [sample] if "batch" in content else [], "path": [],
                  "opened": opened if "document" in content else None} for at, (content, action) in enumerate(records)]
        header = {
            "version": 1, "chain": CHAIN, "height": str(height), "previous_hash": "00" * 32 if height == 1 else hash_of(7),
            "time": str(height), "record_count": len(shown), "merkle_root": "", "state_hash": hash_of(8), "validators_hash": "",
            "proposer": "hub-a",
        }
        blocks.append({"header": header, "certificate": {"signatures": []}, "records": shown, "path": []})
    validators = {"validators": [{"id": "hub-a", "key": ""}], "threshold": 1}
    made = copy.deepcopy({"format": "weighbridge-evidence/2", "validators": validators, "blocks": blocks})
    sign_all(verify, made, hub, private(21))
    return written(made), [identity["key"]]


def shared(verify):
    """Of a chain that one hub began and several went on with: votes, a lease, a lie, a key; and the key it began with."""
    names = {**HUBS, **MORE}
    identity = {"id": "hub-a", "kind": "hub", "key": public(private(names["hub-a"]))}
    sealed = {"hash": hash_of(3), "length": "77", "key_epoch": "1"}
    sample = {"position": 0, "tag": "force", "index": 0, "time": "9", "value": {"bool": True}, "quality": 0, "salt": hash_of(8)[:32]}
    batch = {
        "device": "press-1", "epoch": "3", "sequence": "1", "samples": 1, "grade": 0, "inner_root": "", "sealed": sealed,
        "verdict": {"class": "accepted", "chart": "", "rule": ""}, "judged_by": hash_of(4), "attester": None,
    }
    rotation = {"identity": {"id": "hub-b", "kind": "hub", "key": public(LATER)}, "replaces": "", "proof": "", "consent": None}
    lease = {"device": "press-1", "epoch": "3", "hub": "hub-ü"}
    stored, granted = (("hub-ü", {"batch": batch}, "store"), ("hub-b", {"lease": lease}, "grant"))

    def vote(hub, change, about, faults):
        said = {"hub": about, "key": public(private(names[about])), "change": change, "faults": faults}
        return hub, {"hub_vote": said}, "membership"

    told = {  # by height: the round, where several hubs decided, and the records
        1: (None, [("hub-a", {"identity": identity}, "enrol")]),
        3: (0, [vote("hub-a", "admit", "hub-b", "byzantine")]),
        4: (0, [granted, vote("hub-a", "admit", "hub-ü", "crash")]),
        6: (2, [vote("hub-b", "admit", "hub-ü", "crash")]),
        8: (4294967295, [stored]),
        # Who was let in makes records in the very same block.
        9: (0, [vote("hub-ü", "admit", "hub-d", "byzantine"), vote("hub-a", "admit", "hub-d", "byzantine"),
                ("hub-d", {"commitment": hash_of(5)}, "read")]),
        10: (1, [("hub-b", {"equivocation": {"evidence": lie(verify, private(names["hub-d"]))}}, "membership")]),
        12: (0, [("hub-b", {"rotation": rotation}, "membership"), ("hub-b", {"commitment": hash_of(5)}, "read")]),
        13: (0, [vote(hub, "dismiss", "hub-ü", "byzantine") for hub in ("hub-a", "hub-b", "hub-ü")]),
        14: (0, [("hub-a", {"batch": batch | {"sequence": "2"}}, "store")]),
    }
    blocks = []
    for height, (number, records) in told.items():
        shown = [{"position": at, "record": {"body": body(hub, at + 1, content, action), "signature": ""},
                  "samples": [sample] if "batch" in content else [], "path": [], "opened": None}
                 for at, (hub, content, action) in enumerate(records)]
        for one in shown:
            if "equivocation" in one["record"]["body"]["content"]:
                one["record"]["body"]["object"] = "hub:hub-d"
        header = {
            "version": 1 if number is None else 2, "chain": CHAIN, "height": str(height),
            "previous_hash": "00" * 32 if height == 1 else hash_of(7), "time": str(height), "record_count": len(shown),
            "merkle_root": "", "state_hash": hash_of(8), "validators_hash": "", "proposer": "hub-a",
        }
        certificate = {"signatures": []} if number is None else {"round": number, "signatures": []}
        blocks.append({"header": header, "certificate": certificate, "records": shown, "path": []})
    validators = {"validators": [{"id": "hub-a", "key": ""}], "threshold": 1}
    made = copy.deepcopy({"format": "weighbridge-evidence/3", "validators": validators, "blocks": blocks})
    sign_all(verify, made, {hub: private(number) for hub, number in names.items()}, private(21))
    return written(made), [identity["key"]]


def lie(verify, key, chain=None, kinds=(b"\1", b"\1"), rounds=(0, 0), what="vote"):
    """Two votes, or proposals, that one key signed: for a block, and for none or another."""
    slot = [verify.U64("5") + verify.U32(number) for number in rounds]
    if what == "vote":
        said = [kinds[0] + slot[0] + b"\0", kinds[1] + slot[1] + b"\1" + b"\5" * 32]
    else:
        said = [slot[0] + b"\5" * 32 + b"\0", slot[1] + b"\6" * 32 + b"\1" + verify.U32(0)]
    chain = verify.TEXT(CHAIN if chain is None else chain)
    signatures = [sign(verify, key, f"weighbridge/{what}/v1\0".encode(), chain, message) for message in said]
    pair = b"".join(message + bytes.fromhex(signature) for message, signature in zip(said, signatures))
    return (bytes.fromhex(public(key)) + bytes([what != "vote"]) + pair).hex()


def signed_anew(verify, evidence):
    """The evidence as a stranger would have made it, who says that a record's object was another."""
    evidence = copy.deepcopy(evidence)
    evidence["blocks"][-1]["records"][-1]["record"]["body"]["object"] = "device:another"
    hubs = [hub["id"] for hub in evidence["validators"]["validators"]]
    keys = {hub: private(100 + number) for number, hub in enumerate(dict.fromkeys([*hubs, *HUBS, *MORE]))}
    for block in evidence["blocks"]:
        for shown in block["records"]:
            content = shown["record"]["body"]["content"]
            if (identity := content.get("identity")) and identity["id"] in hubs:
                identity["key"] = public(keys[identity["id"]])
            if vote := content.get("hub_vote"):
                vote["key"] = public(keys[vote["hub"]])
    sign_all(verify, evidence, keys, private(200))
    return written(evidence)


def sign_all(verify, evidence, keys, attester, inner=True, succeed=None, signers=None):
    """Fills in roots, links and signatures; with `inner` those within records too: of batches, attesters, rotations.

    `succeed` says which set comes after a record; `signers`, who of a set signs a block of several hubs.
    """
    validators = evidence["validators"]
    for hub in validators["validators"]:
        hub["key"] = public(keys[hub["id"]])
    known = {public(key): key for key in (*keys.values(), LATER)}
    in_force = {hub["id"]: hub["key"] for hub in validators["validators"]}, validators["threshold"], {}, {
        hub["id"]: hub["key"] for hub in validators.get("standbys", [])}
    before = None
    for block in evidence["blocks"]:
        header, certificate = block["header"], block["certificate"]
        # Of the block: a change in it is for the next one.
        hubs, threshold, _, standbys = in_force
        ids = list(hubs)
        if "round" in certificate:
            # One that need not sign does not.
            ids = signers(header, hubs) if signers else [
                hub for at, hub in enumerate(ids) if len(ids) == threshold or at != int(header["height"]) % len(ids)]
        listed = {name: [{"id": hub, "key": key} for hub, key in keys.items()]
                  for name, keys in (("validators", hubs), ("standbys", standbys))}
        signed_by = {"validators": listed["validators"], "threshold": threshold}
        if standbys:
            signed_by["standbys"] = validators["standbys"] if block is evidence["blocks"][0] else listed["standbys"]
        signing = {hub: known[key] for hub, key in hubs.items()}
        for shown in block["records"]:
            record = shown["record"]
            batch = record["body"]["content"].get("batch")
            if inner and batch and shown["samples"]:
                leaves = [(s["position"], verify.sample_leaf(batch["device"], s)) for s in shown["samples"]]
                batch["inner_root"] = verify.root(leaves, batch["samples"], shown["path"])
            if inner and batch and batch["attester"]:
                said = [encoded(batch[name]) for name, encoded in verify.ATTESTED.items()]
                signature = sign(verify, attester, b"weighbridge/attestation/v1\0", *said)
                batch["attester"] = {"key": public(attester), "signature": signature}
            hub = record["body"]["hub"]
            key = known[in_force[0][hub]] if hub in in_force[0] else keys[hub]
            rotation = record["body"]["content"].get("rotation")
            if inner and rotation:
                rotation["replaces"] = public(key)
                said = (verify.TEXT(record["body"]["chain"]) + verify.IDENTITY(rotation["identity"])
                        + verify.KEY(rotation["replaces"]))
                rotation["proof"] = sign(verify, LATER, b"weighbridge/rotation/v1\0", said)
            record["signature"] = sign(verify, key, b"weighbridge/record/v1\0", verify.BODY(record["body"]))
            if hub in in_force[0]:
                after = (succeed or verify.succeed)(record["body"], *in_force)
                in_force = after if set(after[0].values()) <= set(known) else in_force
        leaves = [(s["position"], verify.sha256(b"\0", verify.RECORD(s["record"]))) for s in block["records"]]
        header["merkle_root"] = verify.root(leaves, header["record_count"], block["path"])
        header["validators_hash"] = verify.sha256(b"weighbridge/validators/v1\0", verify.VALIDATORS(signed_by)).hex()
        if before and int(before["height"]) + 1 == int(header["height"]):
            header["previous_hash"] = verify.block_hash(before).hex()
        said = b"weighbridge/commit/v1\0", verify.block_hash(header)
        if "round" in certificate:
            said = precommit(verify, header, certificate["round"])
        certificate["signatures"] = [
            {"validator": hub, "signature": sign(verify, signing.get(hub) or keys[hub], *said)} for hub in ids]
        before = header


def precommit(verify, header, number, kind=b"\1"):
    """What is signed of a block by several hubs."""
    said = kind + verify.U64(header["height"]) + verify.U32(number) + b"\1" + verify.block_hash(header)
    return b"weighbridge/vote/v1\0", verify.TEXT(header["chain"]), said
