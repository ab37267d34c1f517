#!/usr/bin/env python3
"""Time stamps of checkpoints (RFC 3161), with OpenSSL as the authority and as the second verifier.

    timestamps.py PATH_OF_WEIGHBRIDGE

`run` is for whoever has more checks to make.
"""

import json
import subprocess

import checks
from checks import Failed
from timestamp_authority import OTHER_POLICY, POLICY, Authority, Server


class Timestamps:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.cell = binary, folder, folder / "cell"
        self.authority = Authority(folder / "authority")
        self.other = Authority(folder / "other", "another authority")
        self.server = Server(self.authority, self.other)

    def checks(self):
        return [
            ("a cell's ledger, and a checkpoint of it", self.begin),
            ("OpenSSL stamps it, and its verifier agrees about the token", self.stamped),
            ("verify takes the time stamp offline, with the note and with the ledger", self.verified),
            ("a cosignature that comes later changes nothing", self.signed_later),
            ("what a wrong authority answers is refused, with the reason", self.refused),
            ("a time stamp of something else, or by somebody else, is refused", self.elsewhere),
        ]

    def weighbridge(self, *arguments, code=0):
        command = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != code:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stdout + done.stderr

    def begin(self):
        self.weighbridge("demo", "--headless", "--for", "4", "--dir", self.cell, "--json")
        self.note, self.ca = self.folder / "held.note", self.authority.folder / "ca.pem"
        self.key = self.cell / "keys" / "hub.pub"
        self.weighbridge("checkpoint", "--dir", self.cell, "-o", self.note)

    def stamp(self, way, *more, code=0):
        options = ["--tsa", f"{self.server.url}/{way}", "--tsa-ca", self.ca, *more]
        return self.weighbridge("checkpoint", "timestamp", self.note, *options, code=code)

    def stamped(self):
        text = self.note.read_text().split("\n\n")[0] + "\n"
        for way in ("rsa", "ecdsa"):
            token = self.folder / f"{way}.tst"
            said = json.loads(self.stamp(way, "--policy", POLICY, "-o", token, "--json"))
            if said["authority"] != f"CN=TSA {way} of the authority" or said["policy"] != POLICY:
                raise Failed(f"{said}")
            command = ["openssl", "ts", "-verify", "-data", "/dev/stdin", "-in", token, "-token_in", "-CAfile", self.ca]
            done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=60)
            if done.returncode or "Verification: OK" not in done.stdout + done.stderr:
                raise Failed(f"{way}: {done.stdout}{done.stderr}")
        self.stamp("ecdsa")
        self.token = self.folder / "held.tst"  # where it is put without -o

    def verify(self, what, *more, code=0):
        return self.weighbridge("verify", what, "--trust", self.key, "--timestamp", self.token, "--tsa-ca", self.ca, *more, code=code)

    def verified(self):
        alone = json.loads(self.verify(self.note, "--json"))
        ledger = json.loads(self.verify(self.cell, "--checkpoint", self.note, "--json"))
        if not (alone["clean"] and ledger["clean"] and alone["timestamp"] == ledger["timestamp"]):
            raise Failed(f"{alone} {ledger['clean']} {ledger['timestamp']}")
        for said in self.verify(self.note), self.verify(self.cell, "--checkpoint", self.note):
            if "stamped by CN=TSA ecdsa of the authority at 20" not in said:
                raise Failed(said)
        # A time stamp says when, not whose: it is no signature of the hub.
        unsigned = self.folder / "unsigned.note"
        lines = self.note.read_text().splitlines()
        unsigned.write_text("\n".join([*lines[:-1], "— somebody AAAAAAAA"]) + "\n")
        said = self.verify(unsigned, code=1)
        if "not signed by the trusted key" not in said:
            raise Failed(said)

    def signed_later(self):
        later = self.folder / "later.note"
        later.write_text(self.note.read_text() + "— somebody AAAAAAAA\n")
        self.verify(later)

    def refused(self):
        reasons = {
            "imprint": "the message imprint is another", "nonce": "the nonce is another", "changed": "signature does not hold",
            "expired": "at that time: CertExpired", "no-usage": "not for time stamps", "not-critical": "not for time stamps",
            "more-usage": "not for time stamps", "other": "not one of a trusted authority", "garbage": "not in the form",
            "broken": "HTTP 503",
        }
        for way, reason in reasons.items():
            token = self.folder / "refused.tst"
            said = self.stamp(way, "-o", token, code=1)
            if reason not in said or token.exists():
                raise Failed(f"{way}: {said}")
        said = self.stamp("ecdsa", "--policy", OTHER_POLICY, "-o", token, code=1)
        if "the authority refused" not in said or token.exists():
            raise Failed(said)

    def elsewhere(self):
        self.weighbridge("demo", "--headless", "--for", "4", "--dir", self.folder / "cell-2", "--json")
        note = self.folder / "other.note"
        self.weighbridge("checkpoint", "--dir", self.folder / "cell-2", "-o", note)
        self.key = self.folder / "cell-2" / "keys" / "hub.pub"
        for what in [note], [self.folder / "cell-2", "--checkpoint", note]:
            said = self.verify(*what, code=1)
            if "the message imprint is another" not in said:
                raise Failed(said)
        self.key, self.ca = self.cell / "keys" / "hub.pub", self.other.folder / "ca.pem"
        said = self.verify(self.note, code=1)
        if "not one of a trusted authority" not in said:
            raise Failed(said)


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    timestamps = Timestamps(binary, folder)
    try:
        return checks.results(timestamps.checks())
    finally:
        timestamps.server.stop()


if __name__ == "__main__":
    checks.main("timestamps", run)
