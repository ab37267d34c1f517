"""Evidence of a chain whose hubs vote, as it may not be: what both verifiers must say of each.

Whatever is changed is signed again by whoever would sign then, so that only the rules over votes, certificates and versions
can refuse it. Where a case names another rule, the file claims sets that follow from that one.
"""

import copy
import json

from evidence_made import HUBS, LATER, MORE, lie, precommit, private, public, sign, sign_all, written

KEYS = {hub: private(number) for hub, number in {**HUBS, **MORE}.items()}
GENESIS, FIRST, SECOND, THIRD, LONE, FOURTH, LIE, TURN, LEAVES, LAST = range(10)  # the blocks of evidence_made.shared


def body(evidence, block, record=0):
    return evidence["blocks"][block]["records"][record]["record"]["body"]


def vote(evidence, block, record=0):
    return body(evidence, block, record)["content"]["hub_vote"]


def put(place, **values):
    place.update(values)


def added(evidence, block, like, **changes):
    """One more record in a block, as another of its records but for changes of its body."""
    records = evidence["blocks"][block]["records"]
    one = copy.deepcopy(like)
    one["record"]["body"].update(changes)
    records.append(one | {"position": len(records)})
    evidence["blocks"][block]["header"]["record_count"] = len(records)


def on_hub_b(evidence, block, at, hub, key):
    """The vote at this place is one of `hub` for dismissing the second hub, which has that key."""
    put(body(evidence, block, at), hub=hub)
    put(vote(evidence, block, at), hub="hub-b", key=public(key), change="dismiss", faults="byzantine")


def turns_and_goes(evidence, key):
    """Two of three have voted on the second hub when it takes another key; it votes on itself, naming `key`."""
    like = evidence["blocks"][LEAVES]["records"][0]
    for hub in ("hub-a", "hub-ü"):
        added(evidence, LIE, like)
        on_hub_b(evidence, LIE, -1, hub, KEYS["hub-b"])
    for _ in range(2):
        dropped(evidence, LEAVES)
    on_hub_b(evidence, LEAVES, 0, "hub-b", key)


def crowded(evidence, number):
    """Before the first hub votes on the third one, it has voted on so many others."""
    records = evidence["blocks"][SECOND]["records"]
    for at in range(number):
        one = copy.deepcopy(records[-1])
        one["record"]["body"]["content"]["hub_vote"]["hub"] = f"hub-{at}"
        records.insert(-1, one)
    for at, one in enumerate(records):
        one["position"] = at
    evidence["blocks"][SECOND]["header"]["record_count"] = len(records)


def dropped(evidence, block):
    """The last record of a block is not in it."""
    evidence["blocks"][block]["records"].pop()
    evidence["blocks"][block]["header"]["record_count"] -= 1


def proof(verify, evidence, **how):
    key = how.pop("key", KEYS["hub-d"])
    body(evidence, LIE)["content"]["equivocation"]["evidence"] = lie(verify, key, **how)


def swapped(evidence, order=(1, 0)):
    """The same two votes in another order."""
    place = body(evidence, LIE)["content"]["equivocation"]
    data = bytes.fromhex(place["evidence"])
    votes = data[34:34 + 78], data[34 + 78:]
    place["evidence"] = (data[:34] + votes[order[0]] + votes[order[1]]).hex()


def longer(evidence, more):
    body(evidence, LIE)["content"]["equivocation"]["evidence"] += more


def alone(evidence, block):
    """A block of the lone hub's kind."""
    evidence["blocks"][block]["header"]["version"] = 1
    del evidence["blocks"][block]["certificate"]["round"]


def from_block(evidence, block, validators, threshold):
    """What is left from a block on, which this set signs."""
    del evidence["blocks"][:block]
    put(evidence["validators"], validators=[{"id": hub, "key": ""} for hub in validators], threshold=threshold)


def one_more(evidence, record, *changes):
    """One more block at the end, with a record like this one for each of these changes of its body."""
    block = copy.deepcopy(evidence["blocks"][LAST])
    height = str(int(evidence["blocks"][-1]["header"]["height"]) + 1)
    put(block["header"], height=height, time=height, record_count=len(changes))
    block["records"] = [copy.deepcopy(record) | {"position": at} for at in range(len(changes))]
    for shown, change in zip(block["records"], changes):
        shown["record"]["body"].update(copy.deepcopy(change))
    evidence["blocks"].append(block)
    return block


def standing_by(verify, evidence, voters=("hub-a", "hub-b"), last="hub-x", **said):
    """Both hubs have a third stand by; it comes for the second, which lied, and makes a record."""
    of_vote, of_lie, other = (evidence["blocks"][block]["records"][at] for block, at in ((LEAVES, 0), (LIE, 0), (TURN, 1)))
    vote = {"hub": "hub-x", "key": public(KEYS["hub-x"]), "change": "standby", "faults": "byzantine"} | said
    one_more(evidence, of_vote, *({"hub": hub, "content": {"hub_vote": vote}} for hub in voters))
    one_more(evidence, other, {"hub": "hub-a"})
    proof = {"equivocation": {"evidence": lie(verify, LATER)}}
    one_more(evidence, of_lie, {"hub": "hub-a", "object": "hub:hub-b", "content": proof})
    one_more(evidence, other, {"hub": last})


def sent_away(evidence, change="dismiss"):
    """A block like the one in which a hub was let stand by, with votes the other way."""
    block = copy.deepcopy(evidence["blocks"][LAST + 1])
    put(block["header"], height="16", time="16")
    for shown in block["records"]:
        shown["record"]["body"]["content"]["hub_vote"]["change"] = change
    for later in evidence["blocks"][LAST + 2:]:
        height = str(int(later["header"]["height"]) + 1)
        put(later["header"], height=height, time=height)
    return block


def first_of(verify, evidence, *standbys):
    """What is left from the last block on, with these hubs standing by."""
    from_block(evidence, LAST, ["hub-a"], 1)
    named = [{"id": hub, "key": public(key)} for hub, key in standbys]
    put(evidence["validators"], standbys=named)


# Whether it is taken, and the change. Nobody but the set that follows by the rules signs.
CHANGED = {
    "nothing": (True, lambda v, e: None),
    "another round": (True, lambda v, e: put(e["blocks"][LAST]["certificate"], round=7)),
    "the highest version is of all": (True, lambda v, e: (put(e["blocks"][GENESIS]["header"], version=2),
                                                         put(e["blocks"][GENESIS], certificate={"round": 0, "signatures": []}))),
    "from the second hub on, whose key is not trusted": (False, lambda v, e: from_block(e, SECOND, ["hub-a", "hub-b"], 2)),
    "a half of two": (False, lambda v, e: from_block(e, SECOND, ["hub-a", "hub-b"], 1)),
    "a vote of the second left out": (False, lambda v, e: dropped(e, SECOND)),
    "a vote and its block left out": (False, lambda v, e: e["blocks"].pop(THIRD)),
    "the first vote left out": (False, lambda v, e: e["blocks"].pop(FIRST)),
    "the lie left out": (True, lambda v, e: e["blocks"].pop(LIE)),  # four went on, then
    "a vote twice": (True, lambda v, e: added(e, SECOND, e["blocks"][SECOND]["records"][1])),
    "a vote twice, instead of another's": (False, lambda v, e: put(body(e, THIRD), hub="hub-a")),
    "a vote of a stranger": (False, lambda v, e: put(body(e, THIRD), hub="hub-x")),
    "a vote of whom it is on": (False, lambda v, e: put(body(e, THIRD), hub="hub-ü")),
    "a vote that was refused": (False, lambda v, e: put(body(e, THIRD), response="refused")),
    "a vote that grants": (False, lambda v, e: put(body(e, THIRD), action="grant")),
    "a vote for another key": (False, lambda v, e: put(vote(e, THIRD), key=public(LATER))),
    "a vote for another hub": (False, lambda v, e: put(vote(e, THIRD), hub="hub-d")),
    "a vote the other way": (False, lambda v, e: put(vote(e, THIRD), change="dismiss")),
    "a vote for another trust": (False, lambda v, e: put(vote(e, THIRD), faults="byzantine")),
    "votes for another trust": (False, lambda v, e: (put(vote(e, THIRD), faults="byzantine"),
                                                    put(vote(e, SECOND, 1), faults="byzantine"))),
    "a vote that changed sides": (False, lambda v, e: (added(e, SECOND, e["blocks"][SECOND]["records"][1]),
                                                      put(vote(e, SECOND, 2), faults="byzantine"))),
    "a vote that changed sides, and back": (True, lambda v, e: (
        added(e, SECOND, e["blocks"][SECOND]["records"][1]), added(e, SECOND, e["blocks"][SECOND]["records"][1]),
        put(vote(e, SECOND, 2), faults="byzantine"))),
    "a majority of four": (False, lambda v, e: [put(vote(e, FOURTH, at), faults="crash") for at in (0, 1)]),
    "a hub that is there is let in": (True, lambda v, e: added(e, THIRD, e["blocks"][FIRST]["records"][0])),
    "a hub with another's key is let in": (False, lambda v, e: [put(vote(e, FOURTH, at), key=public(KEYS["hub-ü"])) for at in (0, 1)]),
    "a hub with another key leaves": (True, lambda v, e: [put(vote(e, LEAVES, at), key=public(LATER)) for at in (0, 1, 2)]),
    "a hub leaves two to a majority": (True, lambda v, e: [put(vote(e, LEAVES, at), faults="crash") for at in (0, 1, 2)]),
    "who is voted out takes another key": (True, lambda v, e: turns_and_goes(e, LATER)),
    "who is voted out took another key": (True, lambda v, e: turns_and_goes(e, KEYS["hub-b"])),
    "a hub votes on many": (True, lambda v, e: crowded(e, 63)),
    "a hub votes on too many": (False, lambda v, e: crowded(e, 64)),
    "nobody leaves": (True, lambda v, e: dropped(e, LEAVES)),
    "a record of who left": (False, lambda v, e: put(body(e, LAST), hub="hub-ü")),
    "a record of who left, in the same block": (False, lambda v, e: added(e, LEAVES, e["blocks"][TURN]["records"][1], hub="hub-ü")),
    "a record of who lied": (False, lambda v, e: put(body(e, LAST), hub="hub-d")),
    "a lie shown by a stranger": (False, lambda v, e: put(body(e, LIE), hub="hub-x")),
    "votes in a lone hub's block": (False, lambda v, e: (alone(e, FIRST), put(body(e, FIRST), hub="hub-a"))),
    "a lease in a lone hub's block": (False, lambda v, e: added(
        e, GENESIS, e["blocks"][SECOND]["records"][0], hub="hub-a", time="-6")),
    "a lone hub's block among those of several": (False, lambda v, e: alone(e, LAST)),
    "a lone hub's block at the end": (False, lambda v, e: (
        from_block(e, LAST, ["hub-a"], 1), e["blocks"].append(copy.deepcopy(e["blocks"][0])), put(e["blocks"][1]["header"], height="15", time="15"),
        alone(e, 1))),
    "who stood by comes for who lied": (True, lambda v, e: standing_by(v, e)),
    "who was let stand by by one": (False, lambda v, e: standing_by(v, e, voters=("hub-a", "hub-a"))),
    "who was let stand by by a stranger": (False, lambda v, e: standing_by(v, e, voters=("hub-a", "hub-x"))),
    "who was not let stand by": (False, lambda v, e: standing_by(v, e, voters=("hub-a",))),
    "nobody came who stood by": (True, lambda v, e: standing_by(v, e, voters=("hub-a",), last="hub-a")),
    "who lied makes a record": (False, lambda v, e: standing_by(v, e, last="hub-b")),
    "who is there stands by": (True, lambda v, e: standing_by(v, e, last="hub-a", hub="hub-a", key=public(KEYS["hub-a"]))),
    "somebody stands by with another's key": (False, lambda v, e: standing_by(v, e, key=public(KEYS["hub-a"]))),
    "the votes for who stands by left out": (True, lambda v, e: (standing_by(v, e, last="hub-a"), e["blocks"].pop(LAST + 1))),
    "who stands by is sent away": (False, lambda v, e: (standing_by(v, e), e["blocks"].insert(LAST + 2, sent_away(e)))),
    "who stands by is let in": (True, lambda v, e: (standing_by(v, e), e["blocks"].insert(LAST + 2, sent_away(e, "admit")))),
    "a file that says who stands by": (True, lambda v, e: first_of(v, e, ("hub-x", KEYS["hub-x"]), ("hub-d", KEYS["hub-d"]))),
    "a file that says that nobody stands by": (False, lambda v, e: put(e["validators"], standbys=[])),
    "standbys with one key": (False, lambda v, e: first_of(v, e, ("hub-x", KEYS["hub-x"]), ("hub-d", KEYS["hub-x"]))),
    "standbys with one id": (False, lambda v, e: first_of(v, e, ("hub-x", KEYS["hub-x"]), ("hub-x", KEYS["hub-d"]))),
    "a standby that is there": (False, lambda v, e: first_of(v, e, ("hub-a", KEYS["hub-x"]))),
    "a header of version 1 over precommits": (False, lambda v, e: put(e["blocks"][LAST]["header"], version=1)),
    "a header of version 3 over precommits": (False, lambda v, e: put(e["blocks"][LAST]["header"], version=3)),
    "a header of version 18 over precommits": (False, lambda v, e: put(e["blocks"][LAST]["header"], version=18)),
    "a lone hub's certificate of several": (False, lambda v, e: e["blocks"][LAST]["certificate"].pop("round")),
    "a lone hub's with a round": (False, lambda v, e: put(e["blocks"][GENESIS], certificate={"round": 0, "signatures": []})),
    "version 2 of what several decided": (False, lambda v, e: put(e, format="weighbridge-evidence/2")),
}


# What proves that a hub lied, and what does not.
PROOFS = {
    "the proof": (True, lambda v, e: None),
    "two proposals": (True, lambda v, e: proof(v, e, what="proposal")),
    "two prevotes": (True, lambda v, e: proof(v, e, kinds=(b"\0", b"\0"))),
    "two votes of another round": (True, lambda v, e: proof(v, e, rounds=(9, 9))),
    "a proof by who lied": (True, lambda v, e: put(body(e, LIE), hub="hub-d")),
    "a proof that was refused": (False, lambda v, e: put(body(e, LIE), response="refused")),
    "a proof that grants": (False, lambda v, e: put(body(e, LIE), action="grant")),
    "a proof about another hub": (False, lambda v, e: put(body(e, LIE), object="hub:hub-a")),
    "a proof about nobody": (False, lambda v, e: put(body(e, LIE), object="hub-d")),
    "a prevote and a precommit": (False, lambda v, e: proof(v, e, kinds=(b"\0", b"\1"))),
    "votes of two rounds": (False, lambda v, e: proof(v, e, rounds=(0, 1))),
    "proposals of two rounds": (False, lambda v, e: proof(v, e, rounds=(0, 1), what="proposal")),
    "votes of a third kind": (False, lambda v, e: proof(v, e, kinds=(b"\2", b"\2"))),
    "votes in another chain": (False, lambda v, e: proof(v, e, chain="another")),
    "votes of a stranger": (False, lambda v, e: proof(v, e, key=KEYS["hub-x"])),
    "votes in the other order": (False, lambda v, e: swapped(e)),
    "one vote twice": (False, lambda v, e: swapped(e, (0, 0))),
    "votes and more": (False, lambda v, e: longer(e, "00")),
    "no votes": (False, lambda v, e: put(body(e, LIE)["content"]["equivocation"], evidence="")),
}


# Sets that follow from other rules: none is taken.


def lax(verify):
    """Any vote counts at once."""
    return lambda content, hubs, threshold, *rest: kept(hubs, threshold, verify.succeed(content, hubs, 1, *rest))


def kept(hubs, threshold, after):
    """A threshold stays what it was where the set did."""
    return after if list(after[0]) != list(hubs) else (after[0], threshold, *after[2:])


def forgetful(verify):
    """Votes are open for the records of their block only, as nobody counts them over several."""
    return lambda content, hubs, threshold, votes, standbys: verify.succeed(content, hubs, threshold, {}, standbys)


def low(verify):
    """Any set is decided by a majority."""
    def succeed(content, hubs, *rest):
        after = verify.succeed(content, hubs, *rest)
        return after if after[0] == hubs else (after[0], len(after[0]) // 2 + 1, *after[2:])
    return succeed


def merciful(verify):
    """Who is accused stays."""
    return lambda content, *before: before if "equivocation" in content["content"] else verify.succeed(content, *before)


def believing(verify):
    """Who is accused leaves."""
    def succeed(content, hubs, *rest):
        if "equivocation" in content["content"]:
            return verify.changed_set("dismiss", "hub-d", hubs["hub-d"], "byzantine", hubs, *rest)
        return verify.succeed(content, hubs, *rest)
    return succeed


def lasting(verify):
    """Who leaves, stays."""
    def succeed(content, hubs, *rest):
        after = verify.succeed(content, hubs, *rest)
        return (hubs, *rest) if len(after[0]) < len(hubs) else after
    return succeed


RULES = {"any vote counts": lax, "votes are forgotten": forgetful, "majorities decide": low, "liars stay": merciful,
         "whoever is in stays": lasting}


# Who signs a block of several: by height, of the hubs of the set.
SIGNERS = {
    "all sign": (True, lambda header, hubs: list(hubs)),
    "one of two signs": (False, lambda header, hubs: list(hubs)[:1] if header["height"] == "6" else list(hubs)),
    "one of three that only stop signs": (False, lambda header, hubs: list(hubs)[:1] if header["height"] == "8" else list(hubs)),
    "two of three that only stop sign": (True, lambda header, hubs: list(hubs)[:2] if header["height"] == "8" else list(hubs)),
    "two of three sign": (False, lambda header, hubs: list(hubs)[:2] if header["height"] == "12" else list(hubs)),
    "three of four sign": (True, lambda header, hubs: list(hubs)[:3] if header["height"] == "10" else list(hubs)),
    "two of four sign": (False, lambda header, hubs: list(hubs)[:2] if header["height"] == "10" else list(hubs)),
    "two of two sign, one of them twice": (False, lambda header, hubs: ["hub-a", "hub-a"] if header["height"] == "14" else list(hubs)),
    "two and a stranger sign": (False, lambda header, hubs: [*hubs, "hub-x"] if header["height"] == "14" else list(hubs)),
    "one and who left sign": (False, lambda header, hubs: ["hub-a", "hub-ü"] if header["height"] == "14" else list(hubs)),
    "who comes signs already": (False, lambda header, hubs: ["hub-a", "hub-b", "hub-ü"] if header["height"] == "6" else list(hubs)),
    "nobody signs": (False, lambda header, hubs: [] if header["height"] == "14" else list(hubs)),
}


def certificates(verify, data):
    """Of the last block: what else could be said to be its precommits."""
    header = json.loads(data)["blocks"][LAST]["header"]
    keys = {"hub-a": KEYS["hub-a"], "hub-b": LATER}
    other = header | {"height": "15"}
    said = {
        "the precommits": (True, precommit(verify, header, 0)),
        "prevotes": (False, precommit(verify, header, 0, b"\0")),
        "precommits of another round": (False, precommit(verify, header, 1)),
        "precommits of another height": (False, precommit(verify, other, 0)),
        "precommits in another chain": (False, precommit(verify, header | {"chain": "another"}, 0)),
        "precommits of nothing": (False, (b"weighbridge/vote/v1\0", verify.TEXT(header["chain"]),
                                         b"\1" + verify.U64(header["height"]) + verify.U32(0) + b"\0")),
        "what a lone hub signs": (False, (b"weighbridge/commit/v1\0", verify.block_hash(header))),
    }
    for name, (taken, parts) in said.items():
        evidence = json.loads(data)
        evidence["blocks"][LAST]["certificate"]["signatures"] = [
            {"validator": hub, "signature": sign(verify, key, *parts)} for hub, key in keys.items()]
        yield name, taken, written(evidence)


def cases(verify, data):
    """Name, whether it is to be taken, and the file."""
    for name, (taken, change) in CHANGED.items():
        evidence = json.loads(data)
        change(verify, evidence)
        sign_all(verify, evidence, KEYS, private(21))
        yield name, taken, written(evidence)
    for name, rule in RULES.items():
        evidence = json.loads(data)
        sign_all(verify, evidence, KEYS, private(21), succeed=rule(verify))
        yield f"if {name}", False, written(evidence)
    for name, (proves, change) in PROOFS.items():
        for rule, taken in (believing, proves), (merciful, not proves):
            evidence = json.loads(data)
            change(verify, evidence)
            sign_all(verify, evidence, KEYS, private(21), succeed=rule(verify))
            yield f"{name}, by {rule.__name__} hubs", taken, written(evidence)
    for name, (taken, signers) in SIGNERS.items():
        evidence = json.loads(data)
        sign_all(verify, evidence, KEYS, private(21), signers=signers)
        yield name, taken, written(evidence)
    yield from certificates(verify, data)
