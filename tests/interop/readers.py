#!/usr/bin/env python3
"""What a hub hands to readers, opened by Python's cryptography.

    readers.py PATH_OF_WEIGHBRIDGE

Python makes the reader's key and logs in with a one-time code; the hub wraps keys of epochs to it, hands out sealed
batches and releases a copy. Both are opened here by RFC 9180 written out (DHKEM(P-256, HKDF-SHA256), HKDF-SHA256,
AES-256-GCM) and nothing of ours; the envelope's hash is compared with what the hub's record says. OpenSSL reads the
keys that `reader keygen` makes. `run` is for whoever has more checks.
"""

import base64
import hashlib
import hmac
import http.client
import json
import signal
import struct
import subprocess
import time
import urllib.parse
from base64 import b32decode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import checks
from checks import Failed
from identities import need
from one_time_codes import totp

PASSWORD = "interop-only, and long"
INFO = b"weighbridge/wrap/v1"


def text(string):
    raw = string if isinstance(string, bytes) else string.encode()
    return struct.pack("<I", len(raw)) + raw


def u64(number):
    return struct.pack("<Q", number)


def extract(salt, secret):
    return hmac.digest(salt or bytes(32), secret, hashlib.sha256)


def expand(secret, info, length):
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes([count]), hashlib.sha256)
        out, count = out + block, count + 1
    return out[:length]


def labeled_extract(suite, salt, label, secret):
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def labeled_expand(suite, secret, label, info, length):
    return expand(secret, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


def hpke_open(key, enc, ciphertext, associated):
    """RFC 9180, base mode, single shot."""
    point = lambda public: public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc))
    kem, suite = b"KEM\x00\x10", b"HPKE\x00\x10\x00\x01\x00\x02"
    secret = labeled_extract(kem, b"", b"eae_prk", shared)
    secret = labeled_expand(kem, secret, b"shared_secret", enc + point(key.public_key()), 32)
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", INFO)
    secret = labeled_extract(suite, secret, b"secret", b"")
    key, nonce = (labeled_expand(suite, secret, label, context, n) for label, n in ((b"key", 32), (b"base_nonce", 12)))
    return AESGCM(key).decrypt(nonce, ciphertext, associated)


def unseal(secret, thing, epoch, sealed):
    """A value sealed under the key of an epoch."""
    info = text("weighbridge/seal/v1") + text(thing) + u64(epoch)
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
    version, number = sealed[0], struct.unpack("<Q", sealed[1:9])[0]
    associated = bytes([version]) + text(thing) + u64(epoch) + u64(number)
    return AESGCM(key).decrypt(struct.pack(">IQ", 0, number), sealed[9:], associated)


class Wrap:
    """A wrapped key, as the store has it."""

    def __init__(self, raw):
        self.raw, self.at = raw, 1
        self.chain, self.device = self.text(), self.text()
        self.epoch = struct.unpack("<Q", self.take(8))[0]
        self.recipient, self.enc, self.ciphertext, self.hub = self.text(), self.bytes(), self.bytes(), self.text()
        self.take(64)
        need(self.at == len(raw) and raw[0] == 1, raw.hex())

    def take(self, count):
        self.at += count
        return self.raw[self.at - count:self.at]

    def bytes(self):
        return self.take(struct.unpack("<I", self.take(4))[0])

    def text(self):
        return self.bytes().decode()


class Readers:
    """The checks, in order; each may use what those before it made."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.plant = binary, folder, folder / "plant"
        self.key = ec.generate_private_key(ec.SECP256R1())

    def checks(self):
        return [
            ("a user logs in with a code, and a key that Python made is enrolled and granted", self.start),
            ("Python opens the sealed batches with the wrapped keys", self.sealed),
            ("Python opens the release, whose hash the hub's record names", self.released),
            ("another key opens neither", self.strangers),
            ("a password alone releases nothing", self.no_code),
            ("our command line opens the same with the same key", self.command),
            ("what a grant's end took is not handed out", self.ended),
            ("OpenSSL reads the keys that `reader keygen` makes, and needs the passphrase", self.keygen),
        ]

    def call(self, *arguments, code=0):
        done = subprocess.run([str(part) for part in arguments], capture_output=True, text=True, timeout=120)
        need(done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def weighbridge(self, *arguments, code=0):
        return self.call(self.binary, *arguments, code=code)

    def user(self, *arguments):
        return json.loads(self.weighbridge("user", *arguments, "--json", "--config", self.plant / "hub.toml"))

    def start(self):
        self.weighbridge("init", self.plant)
        pipe = subprocess.PIPE
        sim = [self.binary, "sim", "--bench-devices", "1", "--bench-registers", "4", "--for", "300", "--json"]
        self.machine = subprocess.Popen(sim, stdin=pipe, stdout=pipe)
        port = json.loads(self.machine.stdout.readline())["ports"][0]
        (self.plant / "hub.toml").write_text("\n".join([
            '[hub]\nid = "hub-1"', '[http]\nbind = "127.0.0.1:0"\nlog_in = true',
            'users = [{ name = "ann", roles = ["operator", "security_admin"] }, { name = "dora", roles = ["operator"] }]',
            '[opcua_server]\nbind = "127.0.0.1:0"',
            '[[device]]\nid = "plc-1"\nbatch = { samples = 200, milliseconds = 20 }',
            f'modbus = {{ address = "127.0.0.1:{port}", period_ms = 2 }}', "[[device.tag]]", 'name = "r0"',
            'modbus = { holding_register = 0, type = "u16" }', ""]))
        password = self.plant / "password"
        password.write_text(PASSWORD + "\n")
        for name in ("ann", "dora"):
            self.user("add", name, "--password-file", password)
        uri = urllib.parse.urlparse(self.user("totp", "ann")["uri"])
        secret = b32decode(dict(urllib.parse.parse_qsl(uri.query))["secret"])
        self.hub = subprocess.Popen([self.binary, "run", "--json", "--config", self.plant / "hub.toml"],
                                    stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.url = json.loads(self.hub.stdout.readline())["http_url"]
        self.token = self.login("ann", code=totp(secret))
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        for wish in ({"do": "reader", "id": "user:ann", "key": public},
                     {"do": "grant", "id": "user:ann", "devices": "plc-*", "from": None, "until": None}):
            answer = json.loads(self.ask("POST", "/api/v1/access", wish))
            need(answer["keys_pending"] is None, f"{answer}")
        # A block of the device after the grant.
        for line in self.hub.stdout:
            if json.loads(line).get("batches"):
                break

    def login(self, name, **more):
        wish = {"user": name, "password": PASSWORD, "token": True, **more}
        return json.loads(self.ask("POST", "/api/v1/login", wish, token=None))["token"]

    def ask(self, method, path, body=None, token="own", status=200):
        place = urllib.parse.urlparse(self.url)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        token = self.token if token == "own" else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        need(answer.status == status, f"{path}: {answer.status} {said[:400]}")
        return said

    def sealed(self):
        self.page = json.loads(self.ask("GET", "/api/v1/devices/plc-1/sealed"))
        self.wraps = [Wrap(base64.b64decode(wrap)) for wrap in self.page["wraps"]]
        evidence = json.loads(base64.b64decode(self.page["evidence"]))
        batches = [record["record"]["body"]["content"]["batch"] for block in evidence["blocks"]
                   for record in block["records"] if "batch" in record["record"]["body"]["content"]]
        need(len(batches) == len(self.page["sealed"]) > 0, f"{len(batches)} batches")
        secrets = {wrap.epoch: hpke_open(self.key, wrap.enc, wrap.ciphertext, text(wrap.device) + u64(wrap.epoch))
                   for wrap in self.wraps}
        by_hash = {hashlib.sha256(raw).hexdigest(): raw for raw in map(base64.b64decode, self.page["sealed"])}
        for batch in batches:
            named = batch["sealed"]
            epoch = int(named["key_epoch"])
            plain = unseal(secrets[epoch], "plc-1", epoch, by_hash[named["hash"]])
            need(plain[1:10] == text("plc-1"), plain[:20].hex())

    def released(self):
        body = {"tags": ["r0"], "from": "2020-01-01T00:00:00Z", "to": str(time.time_ns())}
        self.release = json.loads(self.ask("POST", "/api/v1/devices/plc-1/release", body))
        part = {name: base64.b64decode(self.release[name]) for name in ("enc", "wrapped_key", "sealed", "evidence")}
        thing = self.release["object"]
        secret = hpke_open(self.key, part["enc"], part["wrapped_key"], text(thing) + u64(1))
        copied = json.loads(unseal(secret, thing, 1, part["sealed"]))
        samples = copied["tags"][0]["samples"]
        need(copied["device"] == "plc-1" and len(samples) > 10, f"{copied}"[:400])
        digest = hashlib.sha256(b"weighbridge/release/v1\0" + text(thing) + text(part["enc"])
                                + text(part["wrapped_key"]) + text(part["sealed"])).hexdigest()
        said = {}
        for block in json.loads(part["evidence"])["blocks"]:
            for shown in block["records"]:
                message = shown["record"]["body"]["content"].get("message")
                if message:
                    said[message["kind"]] = (shown["record"]["body"], json.loads(bytes.fromhex(shown["opened"]["content"])))
        record, told = said["release"]
        need((record["subject"], record["object"], told["ciphertext"]) == ("hub:hub-1", "user:ann", digest), f"{told}")
        need(told["samples"] == len(samples), f"{told}")
        record, asked = said["release-request"]
        need((record["subject"], record["object"]) == ("user:ann", "device:plc-1"), f"{record}")
        need(asked["number"] == told["number"], f"{asked}")

    def strangers(self):
        other = ec.generate_private_key(ec.SECP256R1())
        part = [base64.b64decode(self.release[name]) for name in ("enc", "wrapped_key")]
        tries = [(*part, text(self.release["object"]) + u64(1))]
        tries += [(w.enc, w.ciphertext, text(w.device) + u64(w.epoch)) for w in self.wraps]
        for tried in tries:
            try:
                hpke_open(other, *tried)
            except InvalidTag:
                continue
            raise Failed("it opened")

    def no_code(self):
        public = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint).hex()
        self.ask("POST", "/api/v1/access", {"do": "reader", "id": "user:dora", "key": public})
        dora = self.login("dora")
        body = {"from": "2020-01-01T00:00:00Z", "to": str(time.time_ns())}
        self.ask("POST", "/api/v1/devices/plc-1/release", body, token=dora, status=403)
        self.ask("GET", "/api/v1/devices/plc-1/sealed", token=dora, status=403)

    def private(self):
        file = self.folder / "ann.key.pem"
        if not file.exists():
            file.touch(0o600)
            file.write_bytes(self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                    serialization.NoEncryption()))
            (self.folder / "token").write_text(self.token + "\n")
        return ["--key", file, "--token-file", self.folder / "token", "--url", self.url.rstrip("/"),
                "--trust", self.plant / "keys/hub.pub", "--json"]

    def command(self):
        span = ["--from", "2020-01-01T00:00:00Z"]
        read = json.loads(self.weighbridge("reader", "read", "plc-1", *span, *self.private()))
        need(read["trusted"] and read["closed"] == 0 and len(read["samples"]) > 10, f"{read}"[:400])
        released = json.loads(self.weighbridge("reader", "release", "plc-1", "--tag", "r0", *span, *self.private()))
        need(released["trusted"] and released["released_in"] > 1 and released["samples"], f"{released}"[:400])

    def ended(self):
        self.ask("POST", "/api/v1/access", {"do": "end_grant", "id": "user:ann", "devices": None})
        self.ask("GET", "/api/v1/devices/plc-1/sealed", status=403)
        self.hub.send_signal(signal.SIGINT)
        self.hub.stdout.read()
        self.machine.terminate()
        need(self.hub.wait(60) == 0, f"the hub ended with {self.hub.returncode}")
        report = json.loads(self.weighbridge("verify", self.plant, "--json"))
        found = {to["name"]: (to["wraps"], to["removed"]) for to in report["recipients"]}
        need(report["clean"] and found["user:ann"][0] == 0 and found["user:ann"][1] > 0, f"{found}")

    def keygen(self):
        passphrase = self.folder / "passphrase"
        passphrase.write_text("open sesame\n")
        for suite in ("nist", "guomi"):
            name = self.folder / f"kim-{suite}"
            made = json.loads(self.weighbridge("reader", "keygen", name, "--suite", suite, "--passphrase-file", passphrase,
                                               "--json"))
            private, public = made["private_key_file"], made["public_key_file"]
            own = self.call("openssl", "pkey", "-in", private, "-passin", f"file:{passphrase}", "-pubout")
            given = self.call("openssl", "pkey", "-pubin", "-in", public, "-pubout")
            need(own == given, f"{suite}: {own}{given}")
            self.call("openssl", "pkey", "-in", private, "-passin", "pass:open sesam", "-noout", code=1)


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    readers = Readers(binary, folder)
    try:
        return checks.results(readers.checks())
    finally:
        for process in (getattr(readers, "hub", None), getattr(readers, "machine", None)):
            if process and process.poll() is None:
                process.kill()
                process.wait()


if __name__ == "__main__":
    checks.main("readers", run)
