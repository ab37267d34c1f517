"""open62541's client against the hub's server: the strictest of the wide-spread ones.

    opcua_open62541.py PATH_OF_WEIGHBRIDGE [FOLDER]

It asks for all that the scenarios T-1 to T-9 of open62541's own interoperability tests ask for, under every
security policy and mode: anonymous, by password and by certificate; and that what must be refused is. It
trusts the hub's own certificate and no other. open62541/build.sh makes the client.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

import opcua_clients
from opcua_clients import PASSWORDS, SECURE, Failed
from opcua_servers import open62541

HOLDER = "carla"
# A lifetime of the secure channel so short that it is renewed while a client is subscribed.
CHANNEL_MS = 1000


class Plant(opcua_clients.Plant):
    """The plant, with a user who logs in by certificate."""

    def log_ins(self):
        folder = self.folder / "plant" / "users"
        folder.mkdir()
        key = generate_private_key()
        certificate = generate_self_signed_app_certificate(
            key, HOLDER, {"organizationName": "interop"},
            [x509.UniformResourceIdentifier(f"urn:weighbridge:interop:{HOLDER}")],
            [ExtendedKeyUsageOID.CLIENT_AUTH],
        )
        (folder / f"{HOLDER}.der").write_bytes(certificate.public_bytes(Encoding.DER))
        (self.folder / f"{HOLDER}.pem").write_bytes(dump_private_key_as_pem(key))
        return f"""user_certificates = "users"
{super().log_ins()}[[opcua_server.users]]
name = "{HOLDER}"
certificate = true
roles = ["operator", "auditor"]
"""

    @property
    def holder(self):
        return f"{self.folder / 'plant' / 'users' / HOLDER}.der,{self.folder / HOLDER}.pem"


def client(plant, policy, mode, *options, trust=None):
    """Runs the client; what it saw, and what it logged."""
    command = [open62541("client"), plant.url, policy, mode, *options]
    if policy != "None":
        certificate, key = asyncio.run(opcua_clients.certificate(plant.folder))
        own = plant.folder / "plant" / "pki" / "opcua" / "own" / "cert.der"
        command += ["--certificate", certificate, "--key", key, "--trust", trust or own]
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=120,
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    said = [line for line in log.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not said:
        raise Failed(f"it ended with {done.returncode}:\n{log[-2000:]}")
    return json.loads(said[-1])["detail"], log


def renewed(plant, policy, mode):
    """The stack forgets keys too early (docs/opcua-server.md), so the client has to come back by itself."""
    detail, log = client(plant, policy, mode, "--channel-ms", CHANNEL_MS)
    times = log.count("SecureChannel renewed")
    if times < 3:
        raise Failed(f"the channel was renewed {times} times: {log[-2000:]}")
    back = log.count("ActivateSession: Using") - 1
    return f"{times} times, {back} times with a new connection, {detail}"


def mistrusted(plant, policy, mode):
    """Shows that the client looks: another certificate than the hub's is the only one that it trusts."""
    certificate, _ = asyncio.run(opcua_clients.certificate(plant.folder))
    refused = ["--refused", "BadCertificateUntrusted"]
    return client(plant, policy, mode, *refused, trust=certificate)[0]


def checks(plant):
    olivia = ["--user", "olivia", "--password", PASSWORDS["olivia"]]
    yield "None, anonymous", lambda: client(plant, "None", "None")[0]
    for policy in SECURE:
        for mode in ["Sign", "SignAndEncrypt"]:
            yield f"{policy} {mode}, by password", lambda p=policy, m=mode: client(plant, p, m, *olivia)[0]
        both = (policy, "SignAndEncrypt")
        yield f"{policy} SignAndEncrypt, anonymous", lambda b=both: client(plant, *b)[0]
        yield (
            f"{policy} SignAndEncrypt, by certificate",
            lambda b=both: client(plant, *b, "--identity", plant.holder)[0],
        )
        yield f"{policy} SignAndEncrypt, channel renewed", lambda b=both: renewed(plant, *b)
        wrong = ["--user", "olivia", "--password", "guess", "--refused", "BadIdentityTokenRejected"]
        yield f"{policy}, wrong password is refused", lambda b=both, w=wrong: client(plant, *b, *w)[0]
    yield "it does not trust another server", lambda: mistrusted(plant, SECURE[0], "SignAndEncrypt")
    # The hub does not take passwords in the clear, so it offers no log-in that open62541 could refuse.
    yield "None, no password in the clear", lambda: client(
        plant, "None", "None", *olivia, "--refused", "BadIdentityTokenRejected"
    )[0]


def run(weighbridge, folder):
    """All checks: name, whether it passed, and what was seen."""
    results = []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Plant(Path(weighbridge).resolve(), folder) as plant:
            for name, check in checks(plant):
                try:
                    results.append((f"open62541, {name}", True, check()))
                except Exception as failure:  # every check has its line
                    results.append((f"open62541, {name}", False, f"{type(failure).__name__}: {failure}"))
    except Exception as failure:
        results.append(("the hub starts for open62541", False, str(failure)))
    return results


def main():
    with tempfile.TemporaryDirectory(prefix="weighbridge-interop-") as temporary:
        folder = sys.argv[2] if len(sys.argv) > 2 else temporary
        results = run(sys.argv[1], folder)
    for name, passed, detail in results:
        print(f"{'ok     ' if passed else 'FAILED '} {name}{': ' + detail if detail else ''}")
    failed = sum(not passed for _, passed, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
