#!/usr/bin/env python3
"""Evidence files, by two verifiers that were written apart: ours, and docs/verify.py.

    evidence.py PATH_OF_WEIGHBRIDGE [--count 2000] [--seed 1]

The demo's cell makes a ledger, and `prove` and `evidence` make files of it; evidence_made.py makes one of a
set of three hubs, and of a chain whose hubs vote. All fit docs/evidence.schema.json. Both verifiers must say the same of every file and of
COUNT mutations of them, with and without trusted keys; and whatever is taken must say nothing that an honest
file does not say. `weighbridge-verify` must be beside PATH_OF_WEIGHBRIDGE. `run` is for whoever has more checks.
"""

import argparse
import importlib.util
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jsonschema

import evidence_crafted
import evidence_made
import evidence_mutations

ROOT = Path(__file__).resolve().parents[2]
DOCS, GOLDEN = ROOT / "docs", ROOT / "tests" / "golden" / "formats"
COUNT, SEED = 2_000, 1
# What a schema does not say: the order of fields, that 1.0 is no integer, and which suite goes with what; and Python's `$`
# lets a line end pass.
BEYOND_SCHEMA = ["is not an object of", ".0 is not a u", "of suite nist", "\\n"]


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def second_verifier():
    spec = importlib.util.spec_from_file_location("verify", DOCS / "verify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def the_schema():
    schema = json.loads((DOCS / "evidence.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


class Stream:
    """Our verifier, over many files in one process."""

    def __init__(self, binary, trusted):
        options = [part for key in trusted for part in ("--trust", key)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([binary, "--stream", *options], stdin=pipe, stdout=pipe)

    def ask(self, data):
        self.process.stdin.write(len(data).to_bytes(4, "big") + data)
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().decode().rstrip("\n")
        if not line:
            raise Failed("our verifier ended")
        return line

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


class Evidence:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder, count, seed):
        self.binary, self.verifier = binary, binary.with_name("weighbridge-verify")
        self.folder, self.cell = folder, folder / "cell"
        self.count, self.seed = count, seed
        self.second = second_verifier()
        self.files = {}

    def checks(self):
        return [
            ("a cell's ledger, and evidence of it", self.make),
            ("one sample's evidence is at most 4 KiB", self.small),
            ("every file fits the schema", self.schema),
            ("what the verifiers take fits the schema, and what fits it has their form", self.same_form),
            ("the golden files are proven, or refused by name", self.golden),
            ("both verifiers say the same of every file, with its key, without and with a stranger's", self.agree),
            ("what a stranger signed anew is refused", self.forged),
            ("both say the same of what was made by hand, and what is to be said", self.crafted),
            (f"both agree on {self.count // 4} changed files that the hubs themselves signed anew, seed {self.seed}", self.resigned),
            (f"both agree on {self.count} mutated files, seed {self.seed}, and no changed meaning is taken", self.mutated),
        ]

    def weighbridge(self, *arguments):
        command = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def make(self):
        self.weighbridge("demo", "--headless", "--for", "15", "--dir", self.cell, "--json")
        self.key = (self.cell / "keys" / "hub.pub").read_text().strip()
        blocks = json.loads(self.weighbridge("blocks", "--dir", self.cell, "--limit", "1000", "--json"))["blocks"]
        end = int(blocks[0]["time_ns"]) - 3_000_000_000
        times = self.times("plc-1", "pressure", end)
        if len(times) < 30:
            raise Failed(f"only {len(times)} samples of the pressure")
        # On a busy machine one device may be read when the other is not.
        of_robot = self.times("robot-1", "joint2_current", end)[-1]
        one = self.folder / "one.json"
        self.weighbridge("prove", "--dir", self.cell, "--device", "plc-1", "--tag", "pressure", "--at", times[-1], "-o", one)
        wanted = {
            "tag": ["plc-1", "pressure", "--from", times[-6], "--to", times[-1]],
            "device": ["plc-1", "--from", times[-3], "--to", times[-2], "--settings"],
            "robot": ["robot-1", "--from", of_robot - 60_000_000, "--to", of_robot, "--settings"],
            "blocks": ["plc-1", "pressure", "--from", times[-30], "--to", times[-1]],
        }
        for name, arguments in wanted.items():
            said = self.weighbridge("evidence", *arguments, "--dir", self.cell, "--json", "-o", self.folder / f"{name}.json")
            if json.loads(said)["samples"] < 1:
                raise Failed(f"{name}: {said}")
        made, self.made_keys = evidence_made.evidence(self.second)
        (self.folder / "made.json").write_bytes(made)
        turned, self.turned_keys = evidence_made.turned(self.second)
        (self.folder / "turned.json").write_bytes(turned)
        shared, self.shared_keys = evidence_made.shared(self.second)
        (self.folder / "shared.json").write_bytes(shared)
        relay = bytes.fromhex((GOLDEN / "evidence_relay_v2.hex").read_text())
        self.relay_keys = [json.loads(relay)["validators"]["validators"][0]["key"]]
        (self.folder / "relay.json").write_bytes(relay)
        for name in ("one", *wanted, "made", "turned", "shared", "relay"):
            self.files[name] = (self.folder / f"{name}.json").read_bytes()

    def times(self, device, tag, end):
        """Of the samples before `end`."""
        history = json.loads(self.weighbridge("history", device, tag, "--dir", self.cell, "--json"))
        return [int(s["time_ns"]) for s in history["samples"] if int(s["time_ns"]) < end]

    def small(self):
        if not 0 < len(self.files["one"]) <= 4096:
            raise Failed(f"it is {len(self.files['one'])} bytes")

    def schema(self):
        validator = the_schema()
        for name, data in self.files.items():
            for error in validator.iter_errors(json.loads(data)):
                raise Failed(f"{name}: {error.json_path}: {error.message}")

    def same_form(self):
        """What is taken fits the schema, and what fits it has the form, but for what no schema can say."""
        validator, small = the_schema(), [self.files[name] for name in ("one", "made", "turned", "shared")]
        mutations = evidence_mutations.Mutations(random.Random(self.seed), small)
        mutations.ways = [mutations.entry, mutations.leaf, mutations.leaf, mutations.transplant, mutations.fields]
        made = ((name, data) for name, _, _, data in evidence_crafted.cases(second_verifier(), self.files))
        seen = [0, 0]
        for name, data in itertools.chain(made, (mutations.next() for _ in range(400))):
            try:
                value = json.loads(data.decode())
                if evidence_mutations.written(value) != data:
                    continue  # a schema says nothing of white space and escapes
            except (ValueError, RecursionError):
                continue
            fits = validator.is_valid(value)
            taken, _ = self.second.verdict(data, set())
            try:
                self.second.FILE(value)
                why = None
            except ValueError as error:
                why = str(error)
            beyond = why and any(part in why for part in BEYOND_SCHEMA)
            if (taken and not fits) or (fits and why and not beyond):
                raise Failed(f"{name}: taken {bool(taken)}, fits the schema {fits}, form: {why}: {data!r:.300}")
            seen[fits] += 1
        print(f"        {seen[True]} files fit the schema, {seen[False]} do not", flush=True)
        if min(seen) < 100:
            raise Failed("hardly any, or nearly all")

    def golden(self):
        """What it is asked to read of older versions and the other suite, the second verifier refuses by name."""
        expected = {
            "evidence_v1": "this program does versions 2 and 3 only, and the file is of version 1",
            "evidence_v2": None,
            "evidence_v3": None,
            "evidence_relay_v2": None,
            "guomi_evidence_v2": "this program does suite nist only, and the file is of suite 'guomi'",
        }
        ours = Stream(self.verifier, [])
        try:
            for name, why in expected.items():
                data = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
                ours.ask(data)
                wanted = f"not proven: {why}" if why else "proven, self-consistent only"
                answers = ours.answer(), self.second.verdict(data, set())[1]
                if answers != ("proven, self-consistent only", wanted):
                    raise Failed(f"{name}: {answers}")
        finally:
            ours.stop()

    def own(self, name):
        """The keys that a file is to be trusted under."""
        keys = {"made": self.made_keys, "turned": self.turned_keys, "shared": self.shared_keys, "relay": self.relay_keys}
        return keys.get(name, [self.key])

    def agree(self):
        stranger = evidence_made.public(evidence_made.private(99))
        for name in self.files:
            own = self.own(name)
            cases = [(own, "proven, under the trusted key"), ([], "proven, self-consistent only"), ([stranger], None)]
            if name == "made":
                cases.append((own[:1], None))  # two of three are needed
            if name == "turned":
                cases.append(([evidence_made.public(evidence_made.LATER)], None))  # it says nothing of what was before it
            if name == "shared":  # nor does one that came later, or any number of them
                later = [evidence_made.public(evidence_made.private(number)) for number in (12, 13, 14, 15)]
                cases += [(later, None), ([*own, *later], "proven, under the trusted key")]
            for keys, expected in cases:
                options = [str(self.folder / f"{name}.json")] + [part for key in keys for part in ("--trust", key)]
                second = [sys.executable, DOCS / "verify.py"]
                for program in ([self.binary, "verify"], [self.verifier], second):
                    done = subprocess.run([*program, *options], capture_output=True, text=True, timeout=60)
                    last = done.stdout.strip().split("\n")[-1] if done.stdout else None
                    if (done.returncode, last) != (0 if expected else 1, expected):
                        raise Failed(f"{program} of {name}: {done.returncode}, {last}, not {expected}: {done.stderr}")
                    # Names and values are whoever wrote the file's: none may tell the terminal what to do.
                    if not (done.stdout + done.stderr).replace("\n", "").isprintable():
                        raise Failed(f"{program} of {name} prints as it is what a terminal obeys: {done.stdout!r}")

    def forged(self):
        for name, data in self.files.items():
            forged = evidence_made.signed_anew(self.second, json.loads(data))
            own = self.own(name)
            for keys, taken in ([], True), (own, False):
                ours = Stream(self.verifier, keys)
                ours.ask(forged)
                answers = ours.answer(), self.second.verdict(forged, set(keys))[1]
                ours.stop()
                if any(said.startswith("proven") != taken for said in answers):
                    raise Failed(f"{name}, with {len(keys)} keys: {answers}")

    def crafted(self):
        ours = {of: Stream(self.verifier, self.own(of)) for of in self.files}
        wrong, refused, taken = [], 0, 0
        try:
            for name, expected, of, data in evidence_crafted.cases(second_verifier(), self.files):
                if data == self.files[of] and not expected:
                    raise Failed(f"{name} changes nothing")
                ours[of].ask(data)
                evidence, second = self.second.verdict(data, set(self.own(of)))
                first = ours[of].answer()
                if (first.startswith("proven"), evidence is not None) != (expected, expected):
                    wrong.append(f"{name}: ours: {first:.200}; the second: {second:.200}")
                taken, refused = taken + expected, refused + (not expected)
        finally:
            for one in ours.values():
                one.stop()
        print(f"        made by hand: {refused} to refuse, {taken} to take", flush=True)
        if wrong:
            raise Failed("\n    ".join(wrong[:20]))

    def resigned(self):
        """Whether signatures hold decides nothing here, so everything else that is checked does."""
        files = [self.files[name] for name in ("made", "turned", "shared")]
        mutations = evidence_mutations.Mutations(random.Random(self.seed), files)
        ways = [mutations.entry, mutations.leaf, mutations.leaf, mutations.transplant]
        hubs = evidence_made.HUBS | evidence_made.MORE
        hubs = {hub: evidence_made.private(number) for hub, number in hubs.items()}
        ours = Stream(self.verifier, self.made_keys)
        taken = refused = 0
        try:
            while taken + refused < self.count // 4:
                value = json.loads(mutations.random.choice(ways)(mutations.random.choice(files)))
                try:
                    evidence_made.sign_all(self.second, value, hubs, evidence_made.private(21))
                    data = evidence_made.written(value)
                except (ValueError, TypeError, LookupError, AttributeError):
                    continue  # so far from evidence that nobody could sign it
                ours.ask(data)
                evidence, second = self.second.verdict(data, set(self.made_keys))
                first = ours.answer()
                if first.split(":")[0] != second.split(":")[0]:
                    self.keep(taken + refused, "signed anew", data, f"ours: {first}; the second: {second}")
                taken, refused = taken + (evidence is not None), refused + (evidence is None)
        finally:
            ours.stop()
        print(f"        signed anew: {refused} refused, {taken} taken", flush=True)
        if not (taken and refused):
            raise Failed("the changes were all of one kind")

    def mutated(self):
        honest = set().union(*(evidence_mutations.claims(json.loads(data)) for data in self.files.values()))
        mutations = evidence_mutations.Mutations(random.Random(self.seed), list(self.files.values()))
        trusted = [self.key, *self.made_keys, *self.turned_keys]
        sides = [(keys, Stream(self.verifier, keys)) for keys in (trusted, [])]
        self.taken, self.refused, began = 0, 0, time.monotonic()
        try:
            for number in range(self.count):
                if number and number % 10_000 == 0:
                    print(f"        {number} files, {self.taken} taken", flush=True)
                keys, ours = sides[number % 4 == 3]
                what, data = mutations.next()
                ours.ask(data)
                evidence, second = self.second.verdict(data, set(keys))
                first = ours.answer()
                if first.split(":")[0] != second.split(":")[0]:
                    self.keep(number, what, data, f"ours: {first}; the second: {second}")
                if evidence is None:
                    self.refused += 1
                    continue
                self.taken += 1
                if more := evidence_mutations.claims(evidence) - honest:
                    self.keep(number, what, data, f"it was taken and says {sorted(more)[0]:.300}")
        finally:
            for _, ours in sides:
                ours.stop()
        print(f"        {self.count} mutated files in {time.monotonic() - began:.0f} s: {self.refused} refused, "
              f"{self.taken} taken that say less or the same", flush=True)

    def keep(self, number, what, data, why):
        kept = Path(tempfile.gettempdir()) / f"weighbridge-evidence-{self.seed}-{number}.json"
        kept.write_bytes(data)
        raise Failed(f"mutation {number} of seed {self.seed} ({what}), kept as {kept}: {why}")


def run(binary, folder, count=COUNT, seed=SEED):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name, check in Evidence(binary, folder, count, seed).checks():
        try:
            check()
            results.append((name, True, ""))
        except Exception as error:
            expected = isinstance(error, (Failed, OSError))
            results.append((name, False, str(error) if expected else traceback.format_exc()))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weighbridge", type=Path)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weighbridge-evidence-") as folder:
        results = run(arguments.weighbridge.resolve(), Path(folder), arguments.count, arguments.seed)
    for name, passed, detail in results:
        print(f"{'ok     ' if passed else 'FAILED '} {name}" + (f"\n    {detail}" if detail else ""))
    failed = sum(not passed for _, passed, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
