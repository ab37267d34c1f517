#!/usr/bin/env python3
"""Certificates and codes, looked at by programs that others wrote: OpenSSL, cryptography, Python's TLS.

    identities.py PATH_OF_WEIGHBRIDGE

`openssl verify` and cryptography's path validation check what the site's authority issues, OpenSSL makes requests
for it and corporate authorities in its place, and a TLS 1.3 handshake of Python's ssl module uses both ends.
`run` is for whoever has more checks to make.
"""

import base64
import datetime
import ipaddress
import json
import os
import pty
import re
import select
import ssl
import subprocess
import termios
import time
import urllib.parse
from pathlib import Path

import checks
from checks import Failed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from one_time_codes import totp


def need(condition, message):
    if not condition:
        raise Failed(message)


def openssl(*arguments, good=True):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    need((done.returncode == 0) == good, f"openssl {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Identities:
    """The checks, in order."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.plant = folder / "plant"

    def weighbridge(self, *arguments, plant=None, good=True):
        config = (plant or self.plant) / "hub.toml"
        command = [self.binary, *map(str, arguments), "--json", "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        need((done.returncode == 0) == good, f"{arguments}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout else {}

    def init(self, plant, *options):
        done = subprocess.run([self.binary, "init", plant, *map(str, options)], capture_output=True, text=True, timeout=60)
        need(done.returncode == 0, done.stderr)

    def checks(self):
        return [
            ("openssl verifies the hub's certificate", self.hub),
            ("openssl verifies those of users, edge nodes and devices", self.kinds),
            ("openssl's request is signed", self.request),
            ("cryptography's path validation accepts them", self.path_validation),
            ("a TLS 1.3 handshake with both sides' certificates", self.handshake),
            ("RSA and P-384 authorities made by openssl issue", self.corporate_authority),
            ("openssl signs the hub's request below a root", self.signed_elsewhere),
            ("everything has expired, and one command repairs it", self.expired),
            ("a password is typed twice, and not shown", self.typed_password),
            ("a code of RFC 6238 by Python's hmac is taken", self.codes),
            ("the URI for apps says what is stored", self.uri),
        ]

    def verify(self, file, purpose, *options, plant=None, good=True):
        authority = (plant or self.plant) / "pki/authority.crt"
        return openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority, *options, file, good=good)

    def issued(self, kind, name, plant=None):
        return (plant or self.plant) / "pki/issued" / kind / f"{name}.crt"

    def hub(self):
        self.init(self.plant)
        file = self.issued("hub", "hub-1")
        self.verify(file, "sslserver", "-verify_hostname", "localhost")
        self.verify(file, "sslserver", "-verify_ip", "127.0.0.1")
        self.verify(file, "sslclient")
        self.verify(file, "sslserver", "-verify_hostname", "elsewhere.example", good=False)
        text = openssl("x509", "-in", self.plant / "pki/authority.crt", "-noout", "-text")
        for wanted in ("CA:TRUE, pathlen:0", "prime256v1", "Certificate Sign"):
            need(wanted in text, f"no {wanted} in the authority: {text}")

    def kinds(self):
        for kind, name in (("user", "ann"), ("edge", "edge-1"), ("device", "press-1"), ("key-centre", "kgc-1")):
            self.weighbridge("certs", "issue", kind, name)
            file = self.issued(kind, name)
            self.verify(file, "sslclient")
            self.verify(file, "sslserver", good=kind == "device")
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            need(uris == [f"urn:weighbridge:{kind}:{name}"], f"{uris}")

    def request(self):
        key, request = self.folder / "edge.key", self.folder / "edge.csr"
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=whoever",
                "-addext", "subjectAltName=DNS:edge.example", "-keyout", key, "-out", request)
        self.weighbridge("certs", "issue", "edge", "edge-9", "--request", request)
        file = self.issued("edge", "edge-9")
        self.verify(file, "sslclient", "-verify_hostname", "edge.example")
        shown = openssl("x509", "-in", file, "-noout", "-pubkey")
        need(openssl("pkey", "-in", key, "-pubout") == shown, "another key")
        need("edge-9" in openssl("x509", "-in", file, "-noout", "-subject"), "another subject")
        # And ours, by openssl.
        made = self.weighbridge("certs", "request", "edge", "edge-8", "--key", self.folder / "edge-8.key")
        need("verify OK" in openssl("req", "-in", made["request"], "-noout", "-verify"), "the request does not verify")

    def path_validation(self):
        authority = x509.load_pem_x509_certificate((self.plant / "pki/authority.crt").read_bytes())
        builder = verification.PolicyBuilder().store(verification.Store([authority]))
        builder = builder.time(datetime.datetime.now())
        hub = x509.load_pem_x509_certificate(self.issued("hub", "hub-1").read_bytes())
        for name in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
            builder.build_server_verifier(name).verify(hub, [])
        ann = x509.load_pem_x509_certificate(self.issued("user", "ann").read_bytes())
        found = builder.build_client_verifier().verify(ann, [])
        need(len(found.chain) == 2, f"{found.chain}")

    def handshake(self):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.issued("hub", "hub-1"), self.plant / "keys/https.key")
        server.load_verify_locations(self.plant / "pki/authority.crt")
        server.verify_mode = ssl.CERT_REQUIRED
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_cert_chain(self.issued("user", "ann"), self.plant / "keys/user-ann.key")
        client.load_verify_locations(self.plant / "pki/authority.crt")
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(down, up, server_hostname="localhost"), server.wrap_bio(up, down, server_side=True)]
        for _ in range(10):
            for end in list(ends):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        subject = dict(pair[0] for pair in ends[1].getpeercert()["subject"])
        need(subject["commonName"] == "ann", f"{subject}")
        need(ends[0].version() == "TLSv1.3", f"{ends[0].version()}")

    def corporate_authority(self):
        key, certificate = self.folder / "corp.key", self.folder / "corp.pem"
        for name, kind in (("rsa", ["rsa:3072"]), ("p384", ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"])):
            openssl("req", "-x509", "-newkey", *kind, "-nodes", "-subj", "/C=DE/O=Corp/CN=Plant CA", "-days", "3650",
                    "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", certificate)
            key.chmod(0o600)
            plant = self.folder / f"plant-{name}"
            self.init(plant, "--ca", certificate, "--ca-key", key)
            self.verify(self.issued("hub", "hub-1", plant), "sslserver", "-verify_hostname", "localhost", plant=plant)
            self.weighbridge("certs", "issue", "user", "ann", plant=plant)
            self.verify(self.issued("user", "ann", plant), "sslclient", plant=plant)
        # A directory's name has several parts of one kind; it is said that this one cannot be written.
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/DC=com/DC=corp/CN=Plant CA", "-days", "3650",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", certificate)
        done = subprocess.run([self.binary, "init", self.folder / "plant-dc", "--ca", certificate, "--ca-key", key],
                              capture_output=True, text=True, timeout=60)
        need(done.returncode == 1 and "requests" in done.stderr, done.stderr)

    def signed_elsewhere(self):
        root, root_key = self.folder / "root.pem", self.folder / "root.key"
        below, below_key, below_csr = self.folder / "below.pem", self.folder / "below.key", self.folder / "below.csr"
        openssl("req", "-x509", "-newkey", "rsa:3072", "-nodes", "-subj", "/O=Corp/CN=Root", "-days", "3650",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", root_key, "-out", root)
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes",
                "-subj", "/DC=com/DC=corp/CN=Plant 7", "-keyout", below_key, "-out", below_csr)
        extensions = self.folder / "below.ext"
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
                              "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        openssl("x509", "-req", "-in", below_csr, "-CA", root, "-CAkey", root_key, "-CAcreateserial", "-days", "3000",
                "-extfile", extensions, "-out", below)
        both = self.folder / "chain.pem"
        both.write_text(below.read_text() + root.read_text())
        plant = self.folder / "plant-below"
        self.init(plant, "--ca", both)
        request, signed = plant / "pki/requests/hub/hub-1.csr", self.folder / "signed.pem"
        leaf = self.folder / "leaf.ext"
        leaf.write_text("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        openssl("x509", "-req", "-in", request, "-CA", below, "-CAkey", below_key, "-CAcreateserial", "-days", "300",
                "-copy_extensions", "copyall", "-extfile", leaf, "-out", signed)
        self.weighbridge("certs", "install", "hub", "hub-1", signed, plant=plant)
        installed = self.issued("hub", "hub-1", plant)
        openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, "-untrusted", installed,
                "-verify_hostname", "localhost", installed)

    def expired(self):
        """An authority and a leaf of the same keys, whose time is over, by cryptography."""
        then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=800)
        authority_key = serialization.load_pem_private_key((self.plant / "keys/authority.key").read_bytes(), None)
        for path in (self.plant / "pki/authority.crt", self.issued("hub", "hub-1"), self.issued("user", "ann")):
            old = x509.load_pem_x509_certificate(path.read_bytes())
            builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer)
            builder = builder.public_key(old.public_key()).serial_number(x509.random_serial_number())
            builder = builder.not_valid_before(then).not_valid_after(then + datetime.timedelta(days=700))
            for extension in old.extensions:
                builder = builder.add_extension(extension.value, extension.critical)
            made = builder.sign(authority_key, hashes.SHA256())
            path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.verify(self.issued("hub", "hub-1"), "sslserver", good=False)
        self.verify(self.issued("user", "ann"), "sslclient", good=False)
        renewed = self.weighbridge("certs", "renew", "--all")["renewed"]
        need([one["error"] for one in renewed] == [None] * 3, f"{renewed}")
        self.verify(self.issued("hub", "hub-1"), "sslserver", "-verify_hostname", "localhost")
        self.verify(self.issued("user", "ann"), "sslclient")
        self.handshake()

    def at_terminal(self, *arguments):
        """Runs the program at a terminal of its own; a function that waits for a text and types the answer."""
        command = [str(self.binary), *arguments, "--config", str(self.plant / "hub.toml")]
        child, terminal = pty.fork()
        if child == 0:
            os.environ["TERM"] = "dumb"
            os.execv(command[0], command)
        seen = bytearray()

        def text():
            return seen.decode(errors="replace")

        def talk(until, answer=None, hidden=False):
            deadline = time.monotonic() + 30
            while until.encode() not in seen:
                ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
                need(ready, f"no {until!r} in {text()}")
                try:
                    seen.extend(os.read(terminal, 4096))
                except OSError:
                    raise Failed(f"it ended before {until!r}: {text()}")
            # The prompt comes before the terminal stops to show what is typed.
            while hidden and termios.tcgetattr(terminal)[3] & termios.ECHO:
                need(time.monotonic() < deadline, "what is typed is shown")
                time.sleep(0.01)
            before = text()
            seen.clear()
            if answer is not None:
                os.write(terminal, f"{answer}\n".encode())
            return before

        def end():
            try:
                while part := os.read(terminal, 4096):
                    seen.extend(part)
            except OSError:
                pass  # Linux says so that the other side is closed.
            os.close(terminal)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text()

        return talk, end

    def typed_password(self):
        talk, end = self.at_terminal("user", "add", "bob")
        talk("New password of bob: ", "correct horse", hidden=True)
        talk("Again: ", "correct house", hidden=True)
        code, said = end()
        need(code == 1 and "not the same" in said and "house" not in said, said)
        talk, end = self.at_terminal("user", "add", "bob")
        talk("New password of bob: ", "correct horse", hidden=True)
        talk("Again: ", "correct horse", hidden=True)
        code, said = end()
        need(code == 0 and "added: bob" in said and "horse" not in said, said)
        stored = json.loads((self.plant / "users/bob.json").read_text())
        need(stored["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$"), stored["password"])

    def codes(self):
        """RFC 6238 by Python's hmac, typed at the terminal."""
        talk, end = self.at_terminal("user", "totp", "bob")
        shown = talk("shows now: ", "000000x")
        secret = base64.b32decode(re.search("or type ([A-Z2-7]+)", shown)[1])
        need(len(secret) == 20, "not 160 bits")
        said = talk("shows now: ", totp(secret))
        need("another one here" in said, said)
        ended, said = end()
        need(ended == 0 and "from now on" in said, said)
        stored = json.loads((self.plant / "users/bob.json").read_text())["totp"]
        need(abs(stored["last_step"] - int(time.time()) // 30) <= 2, f"{stored['last_step']}")

    def uri(self):
        uri = urllib.parse.urlparse(self.weighbridge("user", "totp", "bob")["uri"])
        need((uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/weighbridge:bob"), f"{uri}")
        said = dict(urllib.parse.parse_qsl(uri.query))
        secret = said.pop("secret")
        need(said == {"issuer": "weighbridge", "algorithm": "SHA1", "digits": "6", "period": "30"}, f"{said}")
        stored = json.loads((self.plant / "users/bob.json").read_text())
        need(stored["totp"]["secret"] == secret, "another secret is stored than shown")


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    return checks.results(Identities(binary, folder).checks())


if __name__ == "__main__":
    checks.main("identities", run)
