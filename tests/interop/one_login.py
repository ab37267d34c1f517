#!/usr/bin/env python3
"""One set of users for every face: asyncua and curl at the same hub, with the same users.

    one_login.py PATH_OF_WEIGHBRIDGE

ann has a password and one-time codes (computed by Python's hmac), kim an RSA certificate that the site's authority
issued on a request by OpenSSL, pia one of her own making that is pinned. asyncua logs in as each of them by OPC UA
(Basic256Sha256, SignAndEncrypt), curl by TLS with a client certificate; a code counts once whichever face it was shown
at, and who guesses at one face waits at the other. `run` is for whoever has more checks to make.
"""

import asyncio
import json
import logging
import subprocess
import time

from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

import checks
from identities import need, openssl
from site_with_users import PASSWORD, Site

APPLICATION = "urn:weighbridge:interop:one-login"


class OneLogin(Site):
    """The checks, in order; each may use what those before it made."""

    def checks(self):
        return [
            ("a site is made with users for every face", self.start),
            ("asyncua by password and code; the code counts once, at HTTP as well", self.code),
            ("asyncua by a certificate of the site's authority, until its key is taken away", self.issued),
            ("asyncua by a pinned certificate of the user's own making, and not by a stranger's", self.pinned),
            ("curl by a client certificate", self.curl),
            ("who guesses by OPC UA waits at HTTP", self.guessing),
        ]

    def start(self):
        self.make(
            '[hub]\nid = "hub-1"\n[http]\nbind = "127.0.0.1:0"\nlog_in = true\ntls = true\nclient_certificates = true\n'
            'users = [{ name = "ann", roles = ["engineer"] }, { name = "kim" }, { name = "pia" }, { name = "guy" }]\n'
            '[opcua_server]\nbind = "127.0.0.1:0"\nlog_in = true\ntrust = "any"\n', "guy")
        for user in ("kim", "pia"):
            self.weighbridge("user", "add", user, "--no-password")
        key, request = self.folder / "kim.pem", self.folder / "kim.csr"
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/CN=kim", "-out", request)
        self.weighbridge("certs", "issue", "user", "kim", "--request", request)
        self.kim = self.plant / "pki/issued/user/kim.crt", key
        self.weighbridge("user", "key", "kim", "--add", self.kim[0])
        self.pia, self.stranger = self.own("pia"), self.own("stranger")
        self.weighbridge("user", "key", "pia", "--pin", self.pia[0])
        started = self.run()
        self.https, self.opcua = started["http_url"], started["opcua_url"]

    def own(self, name):
        """A certificate of a user's own making, and its key."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", f"/CN={name}", "-days", "2",
                "-out", certificate)
        return certificate, key

    def opc(self, user=None, password=None, certificate=None):
        """How the hub answers asyncua: "in", or the name of the status."""
        return asyncio.run(self.session(user, password, certificate))

    async def session(self, user, password, certificate):
        client = Client(self.opcua, timeout=20)
        client.application_uri = APPLICATION
        own = self.folder / "client.pem", self.folder / "client.der"
        about = {"countryName": "AT", "stateOrProvinceName": "", "localityName": "", "organizationName": "interop"}
        await setup_self_signed_certificate(
            *own, APPLICATION, "127.0.0.1", [ExtendedKeyUsageOID.CLIENT_AUTH], about)
        await client.set_security(SecurityPolicyBasic256Sha256, certificate=str(own[1]), private_key=str(own[0]),
                                  mode=ua.MessageSecurityMode.SignAndEncrypt)
        if user:
            client.set_user(user)
            client.set_password(password)
        if certificate:
            der = self.folder / "user.der"
            openssl("x509", "-in", certificate[0], "-outform", "der", "-out", der)
            await client.load_client_certificate(str(der))
            await client.load_private_key(str(certificate[1]))
        try:
            async with client:
                state = await client.nodes.server_state.read_value()
                need(state == 0, f"the state is {state}")
                return "in"
        except ua.UaStatusCodeError as error:
            return ua.status_codes.get_name_and_doc(error.code)[0]

    def log_in(self, body, certificate=None):
        """Status and JSON of a log-in by curl."""
        command = ["curl", "--silent", "--show-error", "--max-time", "30", "--cacert", self.plant / "pki/authority.crt",
                   "--write-out", "\n%{http_code}", "--json", json.dumps(body), self.https + "api/v1/login"]
        if certificate:
            command += ["--cert", certificate[0], "--key", certificate[1]]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
        need(done.returncode == 0, done.stderr)
        text, status = done.stdout.rsplit("\n", 1)
        return int(status), json.loads(text)

    def must_wait(self):
        """Seconds that a guess by HTTP is told to wait; none when it is looked at."""
        command = ["curl", "--silent", "--show-error", "--max-time", "30", "--cacert", self.plant / "pki/authority.crt",
                   "--output", self.folder / "answer", "--write-out", "%header{retry-after}",
                   "--json", json.dumps({"user": "guy", "password": "wrong as well"}), self.https + "api/v1/login"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
        need(done.returncode == 0, done.stderr)
        return int(done.stdout or 0)

    def code(self):
        answer = self.opc("ann", PASSWORD)
        need(answer == "BadIdentityTokenRejected", f"without a code: {answer}")
        code = self.totp()
        answer = self.opc("ann", f"{PASSWORD} {code}")
        need(answer == "in", f"with a code: {answer}")
        answer = self.opc("ann", f"{PASSWORD} {code}")
        need(answer == "BadIdentityTokenRejected", f"with the same code: {answer}")
        status, answer = self.log_in({"user": "ann", "password": PASSWORD, "code": code})
        need(status == 401, f"with the same code at HTTP: {status} {answer}")

    def issued(self):
        answer = self.opc(certificate=self.kim)
        need(answer == "in", answer)
        listed = self.weighbridge("user", "list")["users"]
        key = next(user for user in listed if user["name"] == "kim")["keys"][0]
        self.weighbridge("user", "key", "kim", "--forget", key)
        answer = self.opc(certificate=self.kim)
        need(answer == "BadIdentityTokenRejected", answer)
        self.weighbridge("user", "key", "kim", "--add", self.kim[0])
        answer = self.opc(certificate=self.kim)
        need(answer == "in", answer)

    def pinned(self):
        answer = self.opc(certificate=self.pia)
        need(answer == "in", answer)
        answer = self.opc(certificate=self.stranger)
        need(answer == "BadIdentityTokenRejected", answer)

    def curl(self):
        for user, certificate in (("kim", self.kim), ("pia", self.pia)):
            status, answer = self.log_in({"certificate": True}, certificate)
            need((status, answer.get("user"), answer.get("method")) == (200, user, "certificate"), f"{status} {answer}")
        status, answer = self.log_in({"user": "ann", "certificate": True}, self.kim)
        need(status == 401, f"kim as ann: {status} {answer}")
        status, answer = self.log_in({"certificate": True})
        need(status == 400, f"without one: {status} {answer}")

    def guessing(self):
        # At either face, until the wait is long enough for two more log-ins.
        refused, end = 0, time.monotonic() + 120
        while self.must_wait() < 8:
            answer = self.opc("guy", "wrong, and long enough")
            need(answer in ("BadIdentityTokenRejected", "BadServerTooBusy"), answer)
            refused += answer == "BadIdentityTokenRejected"
            need(time.monotonic() < end, f"{refused} guesses were looked at, and nobody has to wait")
        need(refused > 0, "no guess was looked at")
        need(self.opc("guy", PASSWORD) == "BadServerTooBusy", "the right password is not held up")
        status, answer = self.log_in({"user": "guy", "password": PASSWORD})
        need(status == 429, f"{status} {answer}")


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    users = OneLogin(binary, folder)
    try:
        return checks.results(users.checks())
    finally:
        users.end()


if __name__ == "__main__":
    checks.main("one-login", run)
