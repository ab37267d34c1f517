#!/usr/bin/env python3
"""Log-ins over HTTPS, by Python's ssl and http.client and by OpenSSL, at the real program.

    https_users.py PATH_OF_WEIGHBRIDGE

Python verifies the hub by the site's authority, logs in by a password and a code of RFC 6238 that it computes itself,
and by a challenge that OpenSSL signs; versions of TLS before 1.2 are refused. `run` is for whoever has more
checks to make.
"""

import http.client
import json
import ssl
import subprocess
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives import serialization

import checks
from checks import Failed
from identities import need
from site_with_users import PASSWORD, Site


class HttpsUsers(Site):
    """The checks, in order; each may use what those before it made."""

    def checks(self):
        return [
            ("a site is made, and its hub speaks TLS", self.start),
            ("urllib verifies the hub, and refuses it without the authority", self.verified),
            ("TLS 1.2 and 1.3 are spoken, 1.1 and 1.0 are not", self.versions),
            ("a password and a code by Python's hmac let in, once", self.code),
            ("a challenge signed by openssl lets in", self.challenge),
            ("a session ends by log-out", self.log_out),
        ]

    def start(self):
        self.make(
            '[hub]\nid = "hub-1"\n[http]\nbind = "127.0.0.1:0"\nlog_in = true\ntls = true\n'
            'users = [{ name = "ann", roles = ["engineer"] }, { name = "kim" }]\n'
            '[opcua_server]\nbind = "127.0.0.1:0"\n')
        self.weighbridge("user", "add", "kim", "--no-password")
        self.weighbridge("certs", "issue", "user", "kim")
        self.weighbridge("user", "key", "kim", "--add", self.plant / "pki/issued/user/kim.crt")
        self.url = self.run()["http_url"]
        need(self.url.startswith("https://127.0.0.1:"), self.url)
        self.port = urllib.parse.urlparse(self.url).port

    def context(self):
        return ssl.create_default_context(cafile=self.plant / "pki/authority.crt")

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.context(), timeout=20)
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def verified(self):
        with urllib.request.urlopen(self.url + "healthz", context=self.context(), timeout=20) as answer:
            need(answer.status == 200, f"{answer.status}")
        try:
            urllib.request.urlopen(self.url + "healthz", context=ssl.create_default_context(), timeout=20)
        except urllib.error.URLError as error:
            need(isinstance(error.reason, ssl.SSLCertVerificationError), f"{error}")
        else:
            raise Failed("a hub of nobody's authority was taken")

    def versions(self):
        for option, spoken in (("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False), ("-tls1", False)):
            # Level 0 lets OpenSSL offer the old versions at all.
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", option,
                       "-cipher", "ALL:@SECLEVEL=0", "-CAfile", self.plant / "pki/authority.crt", "-verify_return_error"]
            done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30)
            need((done.returncode == 0) == spoken, f"{option}: {done.stdout}{done.stderr}")
            if not spoken:
                need("SSL alert number" in done.stderr, f"{option}: {done.stderr}")

    def code(self):
        body = {"user": "ann", "password": PASSWORD, "code": self.totp()}
        answer, text = self.ask("POST", "/api/v1/login", body)
        need(answer.status == 200, text)
        kept = answer.headers["Set-Cookie"]
        for part in ("__Host-weighbridge=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"):
            need(part in kept, kept)
        self.cookie = kept.split(";")[0]
        answer, text = self.ask("GET", "/api/v1/devices", Cookie=self.cookie)
        need(answer.status == 200, text)
        answer, text = self.ask("POST", "/api/v1/login", body)
        need(answer.status == 401, text)

    def challenge(self):
        answer, text = self.ask("POST", "/api/v1/challenge", {"user": "kim"})
        need(answer.status == 200, text)
        asked = json.loads(text)
        key = self.plant / "keys/user-kim.key"
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=asked["text"].encode(),
                                capture_output=True, timeout=30)
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        public = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        body = {"user": "kim", "challenge": asked["challenge"], "key": public.hex(),
                "signature": signed.stdout.hex(), "token": True}
        answer, text = self.ask("POST", "/api/v1/login", body)
        need(answer.status == 200, text)
        token = json.loads(text)["token"]
        answer, text = self.ask("GET", "/api/v1/session", Authorization=f"Bearer {token}")
        need(json.loads(text)["user"] == "kim", text)

    def log_out(self):
        answer, text = self.ask("POST", "/api/v1/logout", {}, Cookie=self.cookie)
        need(json.loads(text) == {"logged_out": "ann"}, text)
        answer, text = self.ask("GET", "/api/v1/devices", Cookie=self.cookie)
        need(answer.status == 401, text)


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    folder.mkdir(parents=True, exist_ok=True)
    users = HttpsUsers(binary, folder)
    try:
        return checks.results(users.checks())
    finally:
        users.end()


if __name__ == "__main__":
    checks.main("https", run)
