"""A time stamp authority for tests: OpenSSL's `ts -reply` behind an HTTP server, and what it does wrong on request.

    timestamp_authority.py FOLDER        writes the tokens that the unit tests read

Good tokens are `openssl ts -reply`'s. It refuses to sign with a certificate that is not for time stamps; those
tokens are made of what it signed, by `openssl cms -sign`.
"""

import datetime
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY, OTHER_POLICY = "1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
NOW = datetime.datetime.now(datetime.timezone.utc)


def days(count):
    return datetime.timedelta(days=count)


def openssl(*arguments, data=None):
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A root, and certificates below it of several kinds, in a folder."""

    def __init__(self, folder, what="the authority"):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root_name = name(f"Root of {what}")
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self.root = self.certificate(self.root_name, self.root_key, (NOW - days(900), NOW + days(3650)), [(ca, True)])
        self.write("ca", self.root, None)
        stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH])
        valid = (NOW - days(1), NOW + days(3650))
        kinds = {
            "rsa": (rsa.generate_private_key(65537, 2048), valid, [(stamping, True)]),
            "ecdsa": (ec.generate_private_key(ec.SECP256R1()), valid, [(stamping, True)]),
            "expired": (ec.generate_private_key(ec.SECP256R1()), (NOW - days(800), NOW - days(1)), [(stamping, True)]),
            "no-usage": (ec.generate_private_key(ec.SECP256R1()), valid, []),
            "not-critical": (ec.generate_private_key(ec.SECP256R1()), valid, [(stamping, False)]),
            "more-usage": (ec.generate_private_key(ec.SECP256R1()), valid, [(both, True)]),
        }
        for kind, (key, validity, extensions) in kinds.items():
            plain = x509.BasicConstraints(ca=False, path_length=None)
            sign = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
            more = [(plain, True), (sign, True), *extensions]
            self.write(kind, self.certificate(name(f"TSA {kind} of {what}"), key, validity, more), key)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(
            f"[tsa]\nserial = {folder}/serial\ncrypto_device = builtin\ndefault_policy = {POLICY}\n"
            "digests = sha256, sha384, sha512\nsigner_digest = sha256\naccuracy = secs:1\nordering = no\n"
            "tsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = sha256\n"
        )

    def certificate(self, subject, key, validity, extensions):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.root_name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(validity[0]).not_valid_after(validity[1])
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return builder.add_extension(own, False).sign(self.root_key, hashes.SHA256())

    def write(self, kind, certificate, key):
        pem = serialization.Encoding.PEM
        (self.folder / f"{kind}.pem").write_bytes(certificate.public_bytes(pem))
        if key:
            form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            (self.folder / f"{kind}.key").write_bytes(key.private_bytes(pem, *form))

    def reply(self, query, kind):
        """OpenSSL's answer to a request."""
        (self.folder / "query").write_bytes(query)
        openssl("ts", "-reply", "-config", self.folder / "tsa.cnf", "-section", "tsa", "-queryfile", self.folder / "query",
                "-signer", self.folder / f"{kind}.pem", "-inkey", self.folder / f"{kind}.key", "-sha256",
                "-out", self.folder / "reply")
        return (self.folder / "reply").read_bytes()

    def token(self, reply):
        (self.folder / "reply").write_bytes(reply)
        openssl("ts", "-reply", "-in", self.folder / "reply", "-token_out", "-out", self.folder / "token")
        return (self.folder / "token").read_bytes()

    def signed_by(self, kind, query):
        """What a certificate that OpenSSL does not sign time stamps with would have answered."""
        (self.folder / "token").write_bytes(self.token(self.reply(query, "ecdsa")))
        openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", self.folder / "token", "-out", self.folder / "info")
        token = openssl("cms", "-sign", "-binary", "-nodetach", "-econtent_type", TST_INFO, "-cades", "-md", "sha256",
                        "-signer", self.folder / f"{kind}.pem", "-inkey", self.folder / f"{kind}.key", "-outform", "DER",
                        "-in", self.folder / "info")
        return sequence(sequence(b"\2\1\0") + token)

    def answer(self, way, query):
        if way in ("no-usage", "not-critical", "more-usage", "expired"):
            return self.signed_by(way, query)
        if way == "imprint":
            return self.reply(openssl("ts", "-query", "-digest", "00" * 32, "-sha256", "-cert"), "ecdsa")
        if way == "nonce":
            digest = openssl("ts", "-query", "-in", "/dev/stdin", "-text", data=query).decode()
            return self.reply(openssl("ts", "-query", "-digest", imprint(digest), "-sha256", "-cert"), "ecdsa")
        if way == "changed":
            reply = bytearray(self.reply(query, "ecdsa"))
            reply[-1] ^= 1
            return bytes(reply)
        return b"no answer" if way == "garbage" else self.reply(query, way)


def imprint(text):
    """The hash in what `openssl ts -query -text` prints."""
    lines = [line.split(" - ")[1].split("   ")[0] for line in text.splitlines() if line.startswith("    00")]
    return "".join("".join(c for c in line if c in "0123456789abcdef") for line in lines)


def sequence(content):
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return b"\x30" + length + content


class Server:
    """Answers at /WAY; a query after it is left alone."""

    def __init__(self, authority, other):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                query = self.rfile.read(int(self.headers["Content-Length"]))
                way = self.path.strip("/")
                right = self.headers["Content-Type"] == "application/timestamp-query" and way != "broken"
                answer = b"not here" if not right else other.answer("ecdsa", query) if way == "other" else authority.answer(way, query)
                self.send_response(200 if right else 503)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def fixtures(folder):
    """Tokens of the SHA-256 of `a checkpoint`, with the nonce of the query beside them."""
    import tempfile
    with tempfile.TemporaryDirectory() as place:
        authority, other = Authority(Path(place) / "a"), Authority(Path(place) / "b", "another authority")
        (Path(place) / "data").write_bytes(b"a checkpoint\n")
        query = openssl("ts", "-query", "-data", Path(place) / "data", "-sha256", "-cert", "-tspolicy", POLICY)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "query").write_bytes(query)
        for which, owner in (("ca", authority), ("other-ca", other)):
            (folder / f"{which}.pem").write_bytes((owner.folder / "ca.pem").read_bytes())
        for kind in ("rsa", "ecdsa"):
            (folder / f"{kind}.reply").write_bytes(authority.reply(query, kind))
        for kind in ("no-usage", "not-critical", "more-usage", "expired"):
            (folder / f"{kind}.reply").write_bytes(authority.signed_by(kind, query))
        wanted = openssl("ts", "-query", "-data", Path(place) / "data", "-sha512", "-cert", "-tspolicy", OTHER_POLICY)
        (folder / "refused.reply").write_bytes(authority.reply(wanted, "ecdsa"))
        (folder / "sha512.reply").write_bytes(
            authority.reply(openssl("ts", "-query", "-data", Path(place) / "data", "-sha512", "-cert"), "ecdsa"))


if __name__ == "__main__":
    fixtures(Path(sys.argv[1]))
