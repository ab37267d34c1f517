"""Evidence made by hand to be taken for what it is not: what both verifiers must say of each.

Three kinds. `written` is the same evidence in another form. `leaves` changes one thing in an honest file, each in turn.
`signed` is what the hubs themselves signed, so that nothing but the rules over what they may say can refuse it.
evidence_votes.py has those of a set that votes make another one.
"""

import copy
import json
import unicodedata

import evidence_made
import evidence_votes
from evidence_made import HUBS, LATER, hash_of, private, public, sign, written

SM2_KEY = "1309f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"  # of GB/T 32918.5, Annex A
ATTESTER = private(21)


# -- the same, written otherwise


def form_cases(text):
    """Other bytes, by name; `text` is a file with a sample of quality 0, time 9, and the value true."""
    def put(old, *new):
        if old not in text:
            raise AssertionError(f"{old} is not in the file")
        for one in new:
            yield f"{old} as {one:.40}", text.replace(old, one, 1)

    yield from put('"threshold":1', '"threshold":1,"threshold":1', '"threshold":2,"threshold":1', '"threshold":1,"Threshold":1',
                   '"threshold":1,"more":null', '"threshold":1,"":0', '"\\u0074hreshold":1', '"threshold":1,"threshold ":1')
    yield from put('{"bool":true}', '{"bool":true,"bool":true}', '{"bool":false,"bool":true}', '{"bool":true,"u64":"1"}', '{}',
                   '{"bool":1}', '{"bool":"true"}', '{"Bool":true}', '["bool",true]', 'true', 'null', '{"bool":null}')
    yield from put('"quality":0', *(f'"quality":{number}' for number in (
        "-0", "0.0", "0e0", "0E1", "00", "+0", "-1", '"0"', "null", "true", "false", "4294967296", "1e999", "NaN", "Infinity",
        "-Infinity", "9" * 400, "9" * 5000, "0." + "0" * 5000, "18446744073709551616", "0x0", "[0]", "{}")))
    yield from put('"time":"9","value"', *(f'"time":"{digits}","value"' for digits in (
        "09", "+9", "9.0", " 9", "9 ", "9e0", "0x9", "1_0", "", "-", "٩", "９", "９９", "9\\n", "9\\u0000", "\\u0039",
        "9223372036854775808", "-9223372036854775809", "-0", "9" * 5000)), '"time":9,"value"', '"time":null,"value"')
    yield from put('"tag":"force"', '"tag":"\\u0066orce"', '"tag":"force\\ud800"', '"tag":"\\ud83d"', '"tag":null', '"tag":["force"]')
    yield from put('"format":"weighbridge-evidence/2"', '"format":"weighbridge-evidence/1"', '"format":"weighbridge-evidence/3"',
                   '"format":"weighbridge-evidence/2","suite":"nist"', '"format":"weighbridge-evidence/2","suite":"guomi"',
                   '"format":"weighbridge-evidence/2","suite":null', '"format":["weighbridge-evidence/2"]',
                   '"format":{"weighbridge-evidence/2":null}')
    yield from put(',"opened":null', "", ',"opened":{}', ',"opened":[]', ',"opened":false', ',"Opened":null')
    yield from put('"action":"store"', '"action":"Store"', '"action":{"store":null}', '"action":3', '"action":"read"')
    yield from put('"record_count":2', '"record_count":2.0', '"record_count":02', '"record_count":2e0', '"record_count":"2"')
    yield from put('"path":[]', '"path":null', '"path":{}', '"path":""', '"path":[""]', '"path":[[]]')
    yield from put("{", "\ufeff{", " {", "\n{", "[{", "/**/{")
    yield from put(",", ", ", " ,", ",,", ",\t", ",\r\n")
    for end in ("", "\n\n", "\r\n", " \n", "\n ", "\n\0", "\n{}", "\n" + text):
        yield f"the end as {end[:9]!r}", text[:-1] + end
    yield "nothing", ""
    yield "a line end", "\n"
    for simple in ("null", "[]", "{}", "0", '""', "[" * 100_000, '{"a":' * 100_000, '"' + "a" * 1000):
        yield f"only {simple:.20}", simple + "\n"


def byte_cases(data):
    """Text that is no UTF-8, and one that is too long by a byte."""
    for wrong in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc3", b"\0", b"\x1f", b"\x7f\xc2"):
        yield f"{wrong!r} in a text", data.replace(b'"tag":"force', b'"tag":"force' + wrong, 1)
    yield "UTF-16", data.decode().encode("utf-16")
    yield "a long one", data[:-1] + b" " * ((16 << 20) - len(data)) + b" \n"


# -- one thing that is another


def others(value, name):
    """Other values of the same form."""
    choices = {
        "action": "enrol revoke configure store read control grant release refuse session summary exchange membership erase"
                  " acknowledge alarm", "response": "accepted refused", "class": "accepted out_of_control invalid",
        "kind": "hub edge device user control validation", "change": "admit dismiss", "faults": "byzantine crash"}
    if name in choices and value in choices[name].split():
        return [other for other in choices[name].split() if other != value]
    if type(value) is bool:
        return [not value]
    if type(value) is int:
        return [value + 1, value - 1] if value else [1]
    if value is None:
        return [hash_of(1), {"salt": hash_of(1)[:32], "content": ""}, {"key": public(ATTESTER), "signature": hash_of(1) * 2}]
    if len(value) >= 16 and set(value) <= set("0123456789abcdef"):
        return [value[:-1] + "0123456789abcdef"[int(value[-1], 16) ^ 1], "0" * len(value), value[2:] + value[:2]]
    if value.lstrip("-").isdigit():
        return [str(int(value) + 1), str(int(value) - 1), "0" if value != "0" else "1"]
    decomposed = [form for form in (unicodedata.normalize(how, value) for how in ("NFC", "NFD", "NFKC")) if form != value]
    return [value + "x", value[:-1], value + " ", value.upper() + "\u0301", value + "\u200b", *decomposed]


def leaf_cases(data):
    """Every number, text, choice and option of a file as another, and every option that is there as none: but for what
    is shown in the clear, which may be left out."""
    def places(value, path):
        for key, inner in value.items() if type(value) is dict else enumerate(value):
            yield value, key, (*path, key)
            if type(inner) in (dict, list):
                yield from places(inner, (*path, key))

    evidence = json.loads(data)
    for holder, key, path in places(evidence, ()):
        old = holder[key]
        new = others(old, key) if type(old) not in (dict, list) else []
        for other in [*new, *([None] if key in ("permit", "sealed", "attester", "consent", "key") else [])]:
            if other != old:
                holder[key] = other
                yield f"{'.'.join(map(str, path))} as {str(other):.40}", written(evidence)
        holder[key] = old


# -- what the hubs themselves sign


def forms_of_everything(verify):
    """Makes of docs/verify.py what can write records that it refuses to read."""
    verify.GUOMI = None
    key, signature = verify.KEY, verify.SIGNATURE
    member = verify.fields(name=verify.TEXT, public=key, commitment=key, response=verify.HASH)
    derived = verify.fields(identity=verify.IDENTITY, version=verify.U32, declared=key, replaces=verify.option(key),
                            proof=signature, consent=verify.option(signature))
    old = verify.CONTENT
    more = {"centres": (6, verify.fields(version=verify.U32, members=verify.several(member))), "derived": (7, derived)}

    def content(value):
        (name, inner), = value.items()
        return bytes([more[name][0]]) + more[name][1](inner) if name in more else old(value)

    names = ("version", "chain", "hub", "sequence", "previous", "time", "subject", "action", "object", "permit")
    forms = (verify.U8, verify.TEXT, verify.TEXT, verify.U64, verify.HASH, verify.I64, verify.TEXT, verify.ACTION, verify.TEXT,
             verify.option(verify.HASH))
    verify.BODY = verify.fields(**dict(zip(names, forms)), content=content, response=verify.choice("accepted", "refused"))
    verify.RECORD = verify.fields(body=verify.BODY, signature=signature)
    return verify


def body(evidence, block, record):
    return evidence["blocks"][block]["records"][record]["record"]["body"]


def put(place, **values):
    place.update(values)


def rotation(evidence):
    return body(evidence, 2, 0)["content"]["rotation"]


def proven(verify, evidence, key, **changes):
    """The rotation changed, with a proof by `key`."""
    changed, what = rotation(evidence), body(evidence, 2, 0)
    changed.update(changes)
    said = (verify.TEXT(what["chain"]), verify.IDENTITY(changed["identity"]), verify.KEY(changed["replaces"]))
    changed["proof"] = sign(verify, key, b"weighbridge/rotation/v1\0", *said)
    return said


def consented(verify, evidence, key):
    said = proven(verify, evidence, LATER)
    rotation(evidence)["consent"] = sign(verify, key, b"weighbridge/rotation/v1\0", *said)


def derived(verify, evidence):
    what, identity = body(evidence, 0, 2), {"id": "edge-1", "kind": "edge", "key": public(LATER)}
    said = (verify.TEXT(what["chain"]), verify.IDENTITY(identity), verify.U32(1), verify.KEY(public(ATTESTER)), b"\0")
    what["content"] = {"derived": {"identity": identity, "version": 1, "declared": public(ATTESTER), "replaces": None,
                                   "proof": sign(verify, LATER, b"weighbridge/derived/v1\0", *said), "consent": None}}


def turns(content, hubs, threshold, votes, standbys):
    """Whichever key a rotation replaces, its hub has the new one."""
    rotation = content["content"].get("rotation")
    return (hubs | {content["hub"]: rotation["identity"]["key"]} if rotation else hubs), threshold, votes, standbys


def shown(evidence, record):
    return evidence["blocks"][0]["records"][record]


def batch(evidence):
    return body(evidence, 0, 0)["content"]["batch"]


def enrolled(evidence, key):
    put(body(evidence, 0, 2), content={"identity": {"id": "x", "kind": "user", "key": key}})


def twice(evidence):
    """A document of the same commitment, about another device, before the one that counts."""
    first = copy.deepcopy(evidence["blocks"][1])
    put(first["header"], height="5", time="5")
    put(first["records"][0]["record"]["body"], object="device:another")
    evidence["blocks"].insert(1, first)


def named(evidence, device, about):
    """The batches are of `device`, and what judged them is about `about`."""
    body(evidence, 1, 0)["object"] = "device:" + about
    for block in evidence["blocks"][3:]:
        block["records"][0]["record"]["body"]["content"]["batch"]["device"] = device


# Of a file by name: whether it is taken, whether what is within records is signed again too, and the change.
SIGNED = {
    "made": {
        "nothing": (True, True, lambda v, e: None),
        "another object": (True, True, lambda v, e: put(body(e, 0, 0), object="device:another")),
        "another time": (True, True, lambda v, e: put(body(e, 0, 0), time="-6")),
        "younger than its block": (False, True, lambda v, e: put(body(e, 0, 0), time="1")),
        "of another chain": (False, True, lambda v, e: put(body(e, 0, 0), chain="another")),
        "of version 2": (False, True, lambda v, e: put(body(e, 0, 0), version=2)),
        "of version 17": (False, True, lambda v, e: put(body(e, 0, 0), version=17)),
        "a header of version 0": (False, True, lambda v, e: put(e["blocks"][0]["header"], version=0)),
        "a header of version 17": (False, True, lambda v, e: put(e["blocks"][1]["header"], version=17)),
        "all of version 17": (False, True, lambda v, e: [put(what, version=17) for block in e["blocks"] for what in (
            block["header"], *(shown["record"]["body"] for shown in block["records"]))]),
        "samples of a refused batch": (False, True, lambda v, e: put(body(e, 0, 0), response="refused")),
        "samples of a batch that was read": (False, True, lambda v, e: put(body(e, 0, 0), action="read")),
        "samples of an invalid batch": (False, True, lambda v, e: put(batch(e)["verdict"], **{"class": "invalid"})),
        "samples of a batch that was not kept": (False, True, lambda v, e: put(batch(e), sealed=None)),
        "samples of a message": (False, False, lambda v, e: put(shown(e, 1), samples=shown(e, 0)["samples"])),
        "a path and no samples": (False, True, lambda v, e: put(shown(e, 1), path=[hash_of(1)])),
        "another root of the samples": (False, False, lambda v, e: put(batch(e), inner_root=hash_of(1))),
        "more samples than there are": (False, False, lambda v, e: put(batch(e), samples=10)),
        "fewer samples than there are": (False, False, lambda v, e: put(batch(e), samples=8)),
        "attested by another key": (False, False, lambda v, e: put(batch(e)["attester"], key=public(LATER))),
        "attested for another device": (False, False, lambda v, e: put(batch(e), device="press-2")),
        "attested for another number": (False, False, lambda v, e: put(batch(e), sequence="1")),
        "not attested": (True, False, lambda v, e: put(batch(e), attester=None)),
        "what judged, another": (True, False, lambda v, e: put(batch(e), judged_by=hash_of(77))),
        "opened, and not what was committed to": (False, True, lambda v, e: put(shown(e, 1)["opened"], content="")),
        "opened of a batch": (False, True, lambda v, e: put(shown(e, 0), opened=shown(e, 1)["opened"])),
        "not opened": (True, True, lambda v, e: put(shown(e, 1), opened=None)),
        "an identity": (True, True, lambda v, e: enrolled(e, public(LATER))),
        "an identity with a key of SM2": (False, True, lambda v, e: enrolled(e, SM2_KEY)),
        "centres": (False, True, lambda v, e: put(body(e, 0, 2), content={"centres": {"version": 1, "members": []}})),
        "a certificateless key": (False, True, derived),
        "blocks of two chains": (False, True, lambda v, e: [put(e["blocks"][1]["header"], chain="b"), *(
            put(shown["record"]["body"], chain="b") for shown in e["blocks"][1]["records"])]),
        "blocks of one height": (False, True, lambda v, e: put(e["blocks"][1]["header"], height="18446744073709551614")),
        "blocks of one time": (False, True, lambda v, e: put(e["blocks"][1]["header"], time="0")),
        "blocks the other way round": (False, True, lambda v, e: e["blocks"].reverse()),
        "no blocks": (False, True, lambda v, e: e["blocks"].clear()),
        "a threshold of 0": (False, True, lambda v, e: put(e["validators"], threshold=0)),
        "a threshold of 3": (True, True, lambda v, e: put(e["validators"], threshold=3)),
        "a threshold of 4": (False, True, lambda v, e: put(e["validators"], threshold=4)),
        "hubs out of order": (False, True, lambda v, e: e["validators"]["validators"].reverse()),
        "a hub twice": (False, True, lambda v, e: e["validators"]["validators"].insert(0, e["validators"]["validators"][0])),
    },
    "turned": {
        "nothing": (True, True, lambda v, e: None),
        "another order of judge and batch": (False, True, lambda v, e: e["blocks"].__setitem__(slice(1, 4), [
            e["blocks"][2] | {"header": e["blocks"][2]["header"] | {"height": "3", "time": "3"}},
            e["blocks"][3] | {"header": e["blocks"][3]["header"] | {"height": "4", "time": "4"}}, e["blocks"][1]])),
        "judged by what is of another device": (False, True, lambda v, e: put(body(e, 1, 0), object="device:another")),
        "judged by what is of no device": (False, True, lambda v, e: put(body(e, 1, 0), object="press-1")),
        "judged by what is of a device of nearly that name": (False, True, lambda v, e: named(e, "pressé", "presse\u0301")),
        "judged by what is of a device of that name": (True, True, lambda v, e: named(e, "presse\u0301", "presse\u0301")),
        "judged by a document that two devices have": (False, True, lambda v, e: twice(e)),
        "the judge left out": (True, True, lambda v, e: e["blocks"].pop(1)),
        "another genesis: no hub": (False, True, lambda v, e: put(body(e, 0, 0)["content"]["identity"], kind="edge")),
        "another genesis: another hub": (False, True, lambda v, e: put(body(e, 0, 0)["content"]["identity"], id="hub-b")),
        "another genesis: another key": (False, True, lambda v, e: put(body(e, 0, 0)["content"]["identity"], key=public(LATER))),
        "another genesis: no key": (False, True, lambda v, e: put(body(e, 0, 0)["content"]["identity"], key=None)),
        "another genesis: nobody enrolled": (False, True, lambda v, e: put(body(e, 0, 0), action="revoke")),
        "another genesis: not an identity": (False, True, lambda v, e: put(body(e, 0, 0), content={"commitment": hash_of(1)})),
        "another genesis: something before it": (False, True, lambda v, e: put(e["blocks"][0]["header"], previous_hash=hash_of(1))),
        "a rotation that was refused": (True, True, lambda v, e: put(body(e, 2, 0), response="refused")),
        "a rotation that only enrols": (True, True, lambda v, e: put(body(e, 2, 0), action="enrol")),
        "a rotation of another hub": (True, True, lambda v, e: put(rotation(e)["identity"], id="hub-b")),
        "a rotation of an edge node": (True, True, lambda v, e: put(rotation(e)["identity"], kind="edge")),
        "a rotation to no key": (False, False, lambda v, e: put(rotation(e)["identity"], key=None)),
        "a rotation that nobody proves": (False, False, lambda v, e: proven(v, e, ATTESTER)),
        "a rotation from a key of SM2": (False, False, lambda v, e: proven(v, e, LATER, replaces=SM2_KEY)),
        "a rotation from another key": (True, False, lambda v, e: proven(v, e, LATER, replaces=public(ATTESTER))),
        "a rotation from another key that counts": (False, False, lambda v, e: proven(v, e, LATER, replaces=public(ATTESTER)), turns),
        "a rotation with consent": (True, False, lambda v, e: consented(v, e, private(HUBS["hub-a"]))),
        "a rotation with another's consent": (False, False, lambda v, e: consented(v, e, ATTESTER)),
    },
}


def signed_cases(verify, name, data):
    """Name, whether it is to be taken, and the file."""
    maker = forms_of_everything(verify)
    hubs = {"made": HUBS, "turned": {"hub-a": HUBS["hub-a"]}}[name]
    for case, (taken, inner, change, *rule) in SIGNED[name].items():
        evidence = json.loads(data)
        change(maker, evidence)
        keys = {hub: private(number) for hub, number in hubs.items()}
        evidence_made.sign_all(maker, evidence, keys, ATTESTER, inner, *rule)
        yield case, taken, written(evidence)
    yield from set_cases(maker, name, data)


def set_cases(verify, name, data):
    """Of the set itself and of who signs a block."""
    if name != "made":
        return

    def sealed(change, signers=("hub-a", "hub-b", "hub-ü")):
        evidence, before = json.loads(data), None
        change(evidence["validators"])
        for block in evidence["blocks"]:
            header = block["header"]
            header["validators_hash"] = verify.tagged("validators", verify.VALIDATORS(evidence["validators"])).hex()
            header["previous_hash"] = verify.block_hash(before).hex() if before else hash_of(7)
            block["certificate"]["signatures"] = [
                {"validator": hub, "signature": sign(verify, private(HUBS.get(hub, 99)), b"weighbridge/commit/v1\0",
                                                     verify.block_hash(header))} for hub in signers]
            before = header
        return evidence

    def last(**values):
        return lambda validators: validators["validators"][2].update(values)

    keep = lambda validators: None
    yield "all sign", True, written(sealed(keep))
    yield "two sign", True, written(sealed(keep, ["hub-ü", "hub-a"]))
    yield "one signs", False, written(sealed(keep, ["hub-a"]))
    yield "nobody signs", False, written(sealed(keep, []))
    yield "one signs twice", False, written(sealed(keep, ["hub-a", "hub-a"]))
    yield "one signs twice, and another", False, written(sealed(keep, ["hub-a", "hub-a", "hub-b"]))
    yield "a stranger signs too", False, written(sealed(keep, ["hub-a", "hub-b", "hub-x"]))
    two = ["hub-a", "hub-b"]
    hub_b = public(private(HUBS["hub-b"]))
    silent = {"a stranger's": public(LATER), "another hub's": hub_b, "of SM2": SM2_KEY, "no point": "05" + hub_b[2:]}
    for what, key in silent.items():
        # Its own record is left out: only the key of a hub that is silent is another.
        evidence = sealed(last(key=key), two)
        for block in evidence["blocks"]:
            leaf = verify.sha256(b"\0", verify.RECORD(block["records"][1]["record"]))
            del block["records"][1]
            block["path"] = [leaf.hex()]
        yield f"a silent hub's key is {what}", what in ("a stranger's", "no point"), written(evidence)
    for form in signature_forms(verify.ORDER, json.loads(data)["blocks"][0]["certificate"]["signatures"][0]["signature"]):
        evidence = json.loads(data)
        evidence["blocks"][0]["certificate"]["signatures"][0]["signature"] = form
        yield f"a signature as {form:.40}", False, written(evidence)


def signature_forms(order, signature):
    """What else some would take for the same signature, or for any."""
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    for other in ((r, order - s), (order - r, s), (r, 0), (0, s), (0, 0), (r, order), (order, s), (order, order), (s, r), (1, 1)):
        yield "%064x%064x" % other
    for over in ((r + order, s), (r, s + order)):
        if max(over) >> 256 == 0:
            yield "%064x%064x" % over
    yield signature.upper()
    yield signature + "00"
    yield "0x" + signature[2:]


def cases(verify, files):
    """Name, whether it is to be taken under the file's own keys, which file it was made of, and its bytes."""
    turned = files["turned"]
    for name, text in form_cases(turned.decode()):
        yield f"form: {name}", False, "turned", text.encode("utf-8", "surrogatepass")
    for name, data in byte_cases(turned):
        yield f"form: {name}", False, "turned", data
    for of in ("one", "made", "turned", "shared"):
        for name, data in leaf_cases(files[of]):
            yield f"{of}: {name}", False, of, data
    for of in ("made", "turned"):
        for name, taken, data in signed_cases(verify, of, files[of]):
            yield f"{of}, signed: {name}", taken, of, data
    for name, taken, data in evidence_votes.cases(verify, files["shared"]):
        yield f"shared: {name}", taken, "shared", data
    yield "form: version 3 of what one hub signs", False, "turned", turned.replace(b"evidence/2", b"evidence/3", 1)
