"""A site whose users log in: made by `init`, its hub run as the real program, for the scripts that log in there."""

import json
import signal
import subprocess
import urllib.parse
from base64 import b32decode

from identities import need
from one_time_codes import totp

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
        """Ann's code of now."""
        return totp(self.secret)

    def end(self):
        if self.hub is not None:
            self.hub.send_signal(signal.SIGTERM)
            self.hub.communicate(timeout=30)
