#!/usr/bin/env python3
"""Suite guomi, checked with the SM2 and SM3 of OpenSSL.

    guomi.py PATH_OF_WEIGHBRIDGE

A hub of suite guomi reads the simulated cell with keys that OpenSSL made; of its ledger evidence is made. Then
everything that the evidence shows is computed again: hashes with OpenSSL's SM3 (through hashlib), signatures with
`openssl pkeyutl`, forms and trees with those of docs/verify.py, whose own hash is SHA-256. `run` is for whoever has
more checks.
"""

import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import checks
from checks import Failed

DOCS = Path(__file__).resolve().parents[2] / "docs"
IDENTITY = "1234567812345678"
# SubjectPublicKeyInfo of a compressed point of the SM2 curve (1.2.156.10197.1.301), up to the point.
INFO = bytes.fromhex("3039301306072a8648ce3d020106082a811ccf5501822d032200")


def sm3(*parts):
    return hashlib.new("sm3", b"".join(parts)).digest()


def forms():
    """docs/verify.py, with SM3 for its hash, and with the keys that it refuses instead of those that it takes."""
    spec = importlib.util.spec_from_file_location("verify_guomi", DOCS / "verify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.sha256, module.GUOMI = sm3, "0"
    return module


def der(number):
    raw = number.to_bytes(32, "big").lstrip(b"\0") or b"\0"
    raw = b"\0" + raw if raw[0] & 0x80 else raw
    return b"\x02" + bytes([len(raw)]) + raw


class Guomi:
    """The checks, in order."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.plant = binary, folder, folder / "plant"
        self.forms = forms()

    def checks(self):
        return [
            ("a hub of suite guomi takes keys that OpenSSL made, and records", self.make),
            ("OpenSSL reads the keys that `init --suite guomi` makes", self.keys),
            ("records, blocks and roots of its evidence hold under OpenSSL's SM2 and SM3", self.recomputed),
            ("what OpenSSL refuses, our verifiers refuse", self.changed),
            ("docs/verify.py says that it does suite nist only", self.second),
        ]

    def call(self, *arguments, code=0, data=None):
        command = [str(part) for part in arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=300)
        if done.returncode != code:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout + done.stderr

    def weighbridge(self, *arguments, code=0):
        return self.call(self.binary, *arguments, code=code).decode()

    def public(self, file):
        """The key as Weighbridge writes it: the compressed point, its tag with the mark of the suite."""
        info = self.call("openssl", "pkey", "-in", file, "-pubout", "-outform", "DER")
        prefix, x, y = info[:-64], info[-64:-32], info[-32:]
        if prefix != bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d03420004"):
            raise Failed(info.hex())
        return bytes([0x12 | y[-1] & 1, *x]).hex()

    def make(self):
        self.weighbridge("init", self.plant, "--suite", "guomi", "--with-sim")
        self.own = self.folder / "own.key"
        (self.plant / "keys" / "hub.key").rename(self.own)
        (self.plant / "keys" / "sealing.key").unlink()
        for name in ("hub.key", "sealing.key"):
            file = self.plant / "keys" / name
            file.touch(0o600)
            self.call("openssl", "genpkey", "-algorithm", "SM2", "-out", file)
            file.chmod(0o600)
        config = self.plant / "hub.toml"
        text = config.read_text()
        for face in ("8080", "4840"):
            text = text.replace(f"127.0.0.1:{face}", "127.0.0.1:0")
        pipe = subprocess.PIPE
        sim = [self.binary, "sim", "--bench-devices", "1", "--bench-registers", "4", "--for", "120", "--json"]
        with subprocess.Popen(sim, stdin=pipe, stdout=pipe) as machine:
            port = json.loads(machine.stdout.readline())["ports"][0]
            text = text[:text.index("[[device]]")] + "\n".join([
                "[[device]]", 'id = "plc-1"', "batch = { samples = 200, milliseconds = 20 }",
                f'modbus = {{ address = "127.0.0.1:{port}", period_ms = 2 }}', "[[device.tag]]", 'name = "r0"',
                'modbus = { holding_register = 0, type = "u16" }', ""])
            config.write_text(text)
            with subprocess.Popen([self.binary, "run", "--json", "--config", config], stdout=pipe) as hub:
                for line in hub.stdout:
                    if json.loads(line).get("height", 0) > 10:
                        break
                hub.send_signal(signal.SIGINT)
                hub.stdout.read()
            machine.terminate()
        if hub.returncode != 0:
            raise Failed(f"the hub ended with {hub.returncode}")
        self.key = self.public(self.plant / "keys" / "hub.key")
        self.weighbridge("verify", self.plant, "--trust", self.key)
        self.file = self.folder / "evidence.json"
        self.weighbridge("evidence", "plc-1", "r0", "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z",
                         "--settings", "--dir", self.plant, "-o", self.file)
        said = self.weighbridge("verify", self.file, "--trust", self.key)
        if "proven, under the trusted key" not in said:
            raise Failed(said)

    def keys(self):
        if self.public(self.own) != (self.plant / "keys" / "hub.pub").read_text().strip():
            raise Failed("OpenSSL sees another public key")

    def holds(self, key, message, signature):
        """Whether `signature` is SM2's over `message`, by OpenSSL."""
        if key[0] != "1":
            raise Failed(f"{key} is no SM2 key")
        files = [self.folder / name for name in ("key.der", "message", "signature")]
        point = bytes([int(key[:2], 16) & 0x0F]) + bytes.fromhex(key[2:])
        r, s = (der(int(half, 16)) for half in (signature[:64], signature[64:]))
        contents = INFO + point, message, b"\x30" + bytes([len(r + s)]) + r + s
        for file, content in zip(files, contents):
            file.write_bytes(content)
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", files[0], "-rawin", "-digest", "sm3",
             "-pkeyopt", f"distid:{IDENTITY}", "-in", files[1], "-sigfile", files[2]], capture_output=True, timeout=60)
        return done.returncode == 0

    def recomputed(self):
        # A signature by OpenSSL costs a process: the other blocks are like these.
        evidence, form = json.loads(self.file.read_bytes()), self.forms
        if (evidence["suite"], list(evidence)[1]) != ("guomi", "suite"):
            raise Failed(f"{list(evidence)}")
        hubs = {hub["id"]: hub["key"] for hub in evidence["validators"]["validators"]}
        form.check_signature = lambda *signed: form.need(self.holds(*signed), "OpenSSL refuses a signature")
        checked = 0
        for block in evidence["blocks"][:10]:
            if block["header"]["version"] != 17 or any(r["record"]["body"]["version"] != 17 for r in block["records"]):
                raise Failed("a version without the mark of the suite")
            # What is hashed has the mark; docs/verify.py itself asks for versions of suite nist.
            marked = lambda inner: lambda value: inner({**value, "version": 17})
            header, body = form.HEADER, form.BODY
            plain = json.loads(json.dumps(block))
            plain["header"]["version"] = 1
            for shown in plain["records"]:
                shown["record"]["body"]["version"] = 1
            form.HEADER, form.BODY = marked(header), marked(body)
            record = form.RECORD
            form.RECORD = lambda value: form.BODY(value["body"]) + form.SIGNATURE(value["signature"])
            try:
                form.check_block(plain, hubs, evidence["validators"]["threshold"], {}, {}, set())
            finally:
                form.HEADER, form.BODY, form.RECORD = header, body, record
            checked += 1
        if checked < 3:
            raise Failed(f"only {checked} blocks")

    def changed(self):
        evidence = json.loads(self.file.read_bytes())
        signature = evidence["blocks"][0]["certificate"]["signatures"][0]
        signature["signature"] = signature["signature"][:-1] + ("0" if signature["signature"][-1] != "0" else "1")
        file = self.folder / "changed.json"
        file.write_text(json.dumps(evidence, ensure_ascii=False, separators=(",", ":")) + "\n")
        self.weighbridge("verify", file, "--trust", self.key, code=1)
        self.call(self.binary.with_name("weighbridge-verify"), file, "--trust", self.key, code=1)

    def second(self):
        said = self.call(sys.executable, DOCS / "verify.py", self.file, "--trust", self.key, code=1).decode()
        if "this program does suite nist only, and the file is of suite 'guomi'" not in said:
            raise Failed(said)


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    return checks.results(Guomi(binary, folder).checks())


if __name__ == "__main__":
    checks.main("guomi", run)
