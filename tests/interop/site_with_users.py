"""A site whose users log in: made by `init`, its hub run as the real program, for the scripts that log in there."""

import hashlib
import hmac
import json
import signal
import struct
import subprocess
import time
import urllib.parse
from base64 import b32decode

from identities import need

PASSWORD = "interop-only, and long"


class Site:
    """The directory of a hub with a user `ann`, who has a password and one-time codes, and its process."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.plant = folder / "plant"
        self.hub = None

    def weighbridge(self, *arguments):
        command = [self.binary, *map(str, arguments), "--json", "--config", self.plant / "hub.toml"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        need(done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def make(self, config, *more):
        """Of this configuration; the users `more` have the same password."""
        done = subprocess.run([self.binary, "init", self.plant], capture_output=True, text=True, timeout=60)
        need(done.returncode == 0, done.stderr)
        (self.plant / "hub.toml").write_text(config)
        password = self.plant / "password"
        password.write_text(PASSWORD + "\n")
        for user in ("ann", *more):
            self.weighbridge("user", "add", user, "--password-file", password)
        uri = urllib.parse.urlparse(self.weighbridge("user", "totp", "ann")["uri"])
        self.secret = b32decode(dict(urllib.parse.parse_qsl(uri.query))["secret"])

    def run(self):
        """Starts the hub; what it says when it is up."""
        self.hub = subprocess.Popen([self.binary, "run", "--json", "--config", self.plant / "hub.toml"],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return json.loads(self.hub.stdout.readline())

    def totp(self):
        """The code of now (RFC 6238), by Python's hmac."""
        tag = hmac.digest(self.secret, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1)
        at = tag[-1] & 15
        return f"{(struct.unpack('>I', tag[at:at + 4])[0] & 0x7FFFFFFF) % 1000000:06}"

    def end(self):
        if self.hub is not None:
            self.hub.send_signal(signal.SIGTERM)
            self.hub.communicate(timeout=30)
