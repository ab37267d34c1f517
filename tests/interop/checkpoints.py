#!/usr/bin/env python3
"""Checkpoints, by programs that others wrote: aics-tlog reads them, aics-witness cosigns them.

    checkpoints.py PATH_OF_WEIGHBRIDGE

aics-tlog (PyPI) makes the tree of the blocks' hashes anew and verifies notes, cosignatures and proofs;
cryptography verifies the hub's own line. aics-witness (PyPI) speaks c2sp.org/tlog-witness on loopback:
it cosigns what extends what it has seen, and refuses a history that was rewritten under the same keys.
`run` is for whoever has more checks to make.
"""

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import checks
from checks import Failed
import aics_tlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Checkpoints:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.plant = folder / "plant"
        self.data = self.plant / "data"
        self.witness = f"127.0.0.1:{free_port()}"
        self.started = []

    def checks(self):
        return [
            ("a hub writes some blocks", self.begin),
            ("aics-tlog makes the same tree, and verifies note and keys", self.note),
            ("aics-witness cosigns, again and again", self.cosigned),
            ("aics-tlog verifies the proof between two checkpoints", self.consistent),
            ("aics-witness and verify refuse a rewritten history", self.rewritten),
        ]

    def weighbridge(self, *arguments, code=0):
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != code:
            raise Failed(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + (done.stderr if code else "")

    def process(self, command, **options):
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, **options)
        self.started.append(process)
        return process

    def grow(self, blocks):
        """Runs a hub until it has written so many blocks."""
        command = [self.binary, "run", "--json", "--config", self.plant / "hub.toml"]
        with open(self.folder / "hub.log", "ab") as log:
            hub = self.process(command, stdout=subprocess.PIPE, stderr=log, text=True)
        for line in hub.stdout:
            blocks -= '"event":"block"' in line
            if blocks <= 0:
                break
        hub.send_signal(signal.SIGINT)
        hub.stdout.read()
        if blocks > 0 or hub.wait(30) != 0:
            raise Failed((self.folder / "hub.log").read_text(errors="replace")[-2000:])

    def begin(self):
        self.weighbridge("init", self.plant)
        sim = self.process(
            [self.binary, "sim", "--bench-devices", "1", "--bench-registers", "4", "--for", "300", "--json"],
            stdout=subprocess.PIPE, text=True,
        )
        port = json.loads(sim.stdout.readline())["ports"][0]
        tags = "".join(
            f'[[device.tag]]\nname = "r{i}"\nmodbus = {{ holding_register = {i}, type = "u16" }}\n'
            for i in range(4)
        )
        (self.plant / "hub.toml").write_text(
            f"""
[hub]
id = "hub-1"
[http]
bind = "127.0.0.1:0"
[opcua_server]
bind = "127.0.0.1:0"
[[device]]
id = "plc-1"
modbus = {{ address = "127.0.0.1:{port}", period_ms = 10 }}
batch = {{ samples = 8, milliseconds = 50 }}
{tags}"""
        )
        self.grow(5)
        shutil.copytree(self.data, self.folder / "aside")

    def checkpoint(self, *more, code=0):
        return self.weighbridge("checkpoint", "--dir", self.plant, *more, code=code)

    def note(self):
        keys = json.loads(self.checkpoint("--keys", "--json"))
        self.log = aics_tlog.parse_vkey(keys["checkpoint_key"])
        text = self.checkpoint()
        result = aics_tlog.verify_checkpoint(aics_tlog.parse_note(text), self.log)
        if not result.ok:
            raise Failed(f"{result}")
        head = aics_tlog.parse_checkpoint(aics_tlog.parse_note(text).text)
        blocks = json.loads(self.weighbridge("blocks", "--dir", self.plant, "--limit", 1000, "--json"))
        leaves = [bytes.fromhex(block["hash"]) for block in reversed(blocks["blocks"])]
        tree = aics_tlog.MerkleTree(leaves)
        if (head.size, head.root) != (len(leaves), tree.root()):
            raise Failed(f"{head} is not the tree of {len(leaves)} blocks")
        self.hub_line(keys["hub_key"], text)

    def hub_line(self, vkey, text):
        """The second line is the hub's own P-256 key's, over the same text."""
        body = base64.b64decode(vkey.split("+", 2)[2])
        key = serialization.load_der_public_key(body[1:])
        hub = bytes.fromhex((self.plant / "keys" / "hub.pub").read_text())
        if ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), hub) != key or body[0] != 2:
            raise Failed(f"{vkey} is not the hub's key")
        note = aics_tlog.parse_note(text)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(body[1:])
        blob = base64.b64decode(text.rstrip("\n").rsplit("\n", 1)[1].rsplit(" ", 1)[1])
        if blob[:4] != digest.finalize()[:4]:
            raise Failed("the id of the hub's key is another one")
        key.verify(blob[4:], note.text.encode(), ec.ECDSA(hashes.SHA256()))

    def cosigned(self):
        aics = [sys.executable, "-m", "aics_witness"]
        config = ["--config", self.folder / "witness.json"]
        made = subprocess.run(
            [*aics, "init", *config, "--name", "witness.example/w1"],
            capture_output=True, text=True, timeout=60, check=True,
        )
        self.key = re.search(r"witness\.example/w1\+\S+", made.stdout).group()
        vkey = aics_tlog.format_vkey(self.log)
        subprocess.run(
            [*aics, "add-log", *config, "--origin", self.log.name, "--vkey", vkey],
            capture_output=True, timeout=60, check=True,
        )
        with open(self.folder / "witness.log", "ab") as log:
            self.process([*aics, "serve", *config, "--listen", self.witness], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        host, port = self.witness.split(":")
        while True:
            try:
                socket.create_connection((host, int(port)), 5).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.ask = ["--witness", f"http://{self.witness}", "--witness-key", self.key]
        self.first = self.folder / "first.note"
        self.checkpoint(*self.ask, "-o", self.first)
        for _ in range(3):
            self.grow(3)
            self.checkpoint(*self.ask, "-o", self.folder / "newest.note")
        for file in (self.first, self.folder / "newest.note"):
            witness = aics_tlog.parse_vkey(self.key)
            note = aics_tlog.parse_note(file.read_text())
            result = aics_tlog.verify_checkpoint(note, self.log, [witness], quorum=1)
            if not result.ok:
                raise Failed(f"{file}: {result}")
            self.weighbridge(
                "verify", self.plant, "--checkpoint", file, "--witness-key", self.key,
                "--trust", self.plant / "keys" / "hub.pub",
            )

    def consistent(self):
        proof = self.folder / "newest.proof"
        self.checkpoint("--since", self.first, "-o", proof)
        lines, _, note = proof.read_text().partition("\n\n")
        old, *hashes_between = lines.split("\n")
        hashes_between = [base64.b64decode(line) for line in hashes_between]
        was = aics_tlog.parse_checkpoint(aics_tlog.parse_note(self.first.read_text()).text)
        now = aics_tlog.parse_checkpoint(aics_tlog.parse_note(note).text)
        if old != f"old {was.size}":
            raise Failed(old)
        if not aics_tlog.verify_consistency(was.size, now.size, was.root, now.root, hashes_between):
            raise Failed("the proof does not hold")
        self.weighbridge("verify", proof, "--checkpoint", self.first)

    def rewritten(self):
        shutil.rmtree(self.data)
        shutil.copytree(self.folder / "aside", self.data)
        self.grow(20)
        self.weighbridge("verify", self.plant)
        said = self.weighbridge("verify", self.plant, "--checkpoint", self.folder / "newest.note", code=1)
        if "history was rewritten" not in said:
            raise Failed(said)
        said = self.checkpoint(*self.ask, code=1)
        if "rewritten" not in said:
            raise Failed(said)

    def stop(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(binary, folder)
    try:
        return checks.results(checkpoints.checks())
    finally:
        checkpoints.stop()


if __name__ == "__main__":
    checks.main("checkpoints", run)
