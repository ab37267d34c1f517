#!/usr/bin/env python3
"""The hub as a client of OPC UA servers that others wrote: asyncua, node-opcua and open62541.

    run(weighbridge_binary, tempdir) -> list of (name, passed, detail)

`run.py` calls it. node-opcua is looked for in target/interop-node, where .ci/run installs it, or where
WEIGHBRIDGE_NODE_MODULES says; open62541 in target/interop-open62541, where .ci/run builds it, or where
OPEN62541_PEERS says. Everything listens on loopback and is ended by this program.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMESPACE = "urn:weighbridge:interop:controller"
POLICIES = [("none", "sign")] + [
    (policy, mode)
    for policy in ("basic256sha256", "aes128_sha256_rsa_oaep", "aes256_sha256_rsa_pss")
    for mode in ("sign", "sign_and_encrypt")
]


class Failed(Exception):
    """A check that did not hold."""


class Program:
    """A program in the background; its lines are kept."""

    def __init__(self, command, **options):
        self.lines = []
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", **options,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern, seconds):
        def look():
            for line in list(self.lines):
                if re.search(pattern, line):
                    return line, ""
            if self.process.poll() is not None:
                raise Failed("it ended:\n" + self.tail())
            return None, self.tail()

        return until(seconds, f"/{pattern}/", look)

    def tail(self):
        return "\n".join(self.lines[-20:])

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def until(seconds, what, look):
    deadline = time.monotonic() + seconds
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            found, last = look()
            if found:
                return found
        except OSError as error:
            last = error
        time.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s; last seen: {last}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node_modules():
    given = os.environ.get("WEIGHBRIDGE_NODE_MODULES")
    return Path(given) if given else HERE.parent.parent / "target/interop-node/node_modules"


def open62541(program):
    """Where one of the programs of open62541/CMakeLists.txt is."""
    default = HERE.parent.parent / "target/interop-open62541"
    path = Path(os.environ.get("OPEN62541_PEERS", default)) / f"open62541_{program}"
    if not path.is_file():
        raise Failed(f"{path} is not there: tests/interop/open62541/build.sh makes it")
    return path


class Controller:
    """One of the servers, on a port that it keeps over restarts."""

    def __init__(self, kind, folder):
        self.kind, self.pki, self.port, self.program = kind, folder / f"{kind}-pki", free_port(), None

    def start(self, others=0, extra=0):
        options = ["--port", self.port, "--others", others, "--extra", extra, "--pki", self.pki]
        self.pki.mkdir(parents=True, exist_ok=True)
        if self.kind == "asyncua":
            self.program = Program([sys.executable, "-u", HERE / "asyncua_controller.py", *options])
        elif self.kind == "open62541":
            self.program = Program([open62541("server"), *options])
        else:
            environment = {**os.environ, "NODE_PATH": str(node_modules())}
            self.program = Program(["node", HERE / "opcua_servers.js", *options], env=environment)
        self.url = json.loads(self.program.wait_for(r'^{"url"', 120))["url"]

    def stop(self):
        if self.program:
            self.program.stop()


class Servers:
    """The checks with one server, in order."""

    def __init__(self, binary, folder, kind):
        self.binary, self.kind = binary, kind
        self.folder = folder / f"servers-{kind}"
        self.controller = Controller(kind, folder)
        self.plant = self.folder / "plant"
        self.http = f"http://127.0.0.1:{free_port()}"
        self.hub = None

    def checks(self):
        yield "the hub starts", self.start
        for policy, mode in POLICIES:
            what = policy if policy == "none" else f"{policy} {mode}"
            yield f"read under {what}", lambda p=(policy, mode): self.reads(device(*p))
        yield "an unknown certificate is refused with the command, and let in by it", self.trusts
        yield "a scan finds the variables", self.scans
        yield "a write is read back", self.writes
        yield "a method is called", self.calls
        yield "a deleted node is bad alone, and good when it is back", self.deleted
        yield "a restart is survived", lambda: self.restarts(0)
        yield "namespaces numbered anew are survived", lambda: self.restarts(2)

    def weighbridge(self, *arguments):
        command = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        self.controller.start()
        self.folder.mkdir(parents=True)
        self.weighbridge("init", self.plant)
        sections = ""
        trusting = [(device(*p), *p, "any", "pki/client") for p in POLICIES]
        for name, policy, mode, trust, pki in [
            *trusting, ("careful", "basic256sha256", "sign_and_encrypt", "folder", "pki/careful"),
        ]:
            sections += f"""
[[device]]
id = "{name}"
batch = {{ samples = 1000, milliseconds = 200 }}
[device.opcua]
url = "{self.controller.url}"
security_policy = "{policy}"
security_mode = "{mode}"
trust = "{trust}"
pki_dir = "{pki}"
[[device.tag]]
name = "level"
opcua = {{ node = "nsu={NAMESPACE};s=level" }}
[[device.tag]]
name = "other"
opcua = {{ node = "nsu={NAMESPACE};s=other" }}
[[device.tag]]
name = "by_index"
opcua = {{ node = "ns=2;s=level" }}
[[device.tag]]
name = "setpoint"
writable = true
opcua = {{ node = "nsu={NAMESPACE};s=setpoint" }}
[[device.tag]]
name = "nowhere"
opcua = {{ node = "nsu={NAMESPACE};s=nowhere" }}
"""
        config = self.plant / "hub.toml"
        config.write_text(
            f'[hub]\nid = "hub-1"\n[http]\nbind = "{self.http.removeprefix("http://")}"\n'
            f'roles = ["engineer"]\n[opcua_server]\nbind = "127.0.0.1:{free_port()}"\n{sections}'
        )
        self.weighbridge("check", config)
        self.hub = Program([self.binary, "run", "--config", config])
        until(60, "the hub", lambda: (self.get("/healthz").get("status") == "ok", self.hub.tail()))

    def get(self, path):
        with urllib.request.urlopen(self.http + path, timeout=10) as answer:
            return json.load(answer)

    def tags(self, name):
        answer = self.get(f"/api/v1/tags?device={name}&limit=100")
        return {tag["tag"]: tag["sample"] for tag in answer["tags"] if tag["device"] == name}

    def fresh(self, name, seconds=20, tags=("level", "other", "by_index")):
        """Waits for good values of now, which are not the decoys'; what was seen."""
        since = time.time_ns()

        def look():
            seen = self.tags(name)
            for tag in tags:
                sample = seen.get(tag)
                if not sample or sample["quality"] != "Good" or int(sample["time_ns"]) <= since:
                    return None, seen
                if sample["value"] < 0:
                    raise Failed(f"{tag} was read from another namespace: {sample}")
            return seen, seen

        return until(seconds, f"values of {name}", look)

    def reads(self, name):
        seen = self.fresh(name)
        if seen.get("nowhere") and seen["nowhere"]["quality"] != "Bad":
            raise Failed(f"a node that does not exist is {seen['nowhere']}")

    def trusts(self):
        def refused():
            link = str(self.get("/api/v1/devices"))
            found = re.search(r"weighbridge certs trust [0-9a-f]+ --pki \S+?/pki/careful", link)
            return found and found.group().split()[1:], link

        command = until(30, "the command", refused)
        self.weighbridge(*command)
        self.fresh("careful")
        listed = json.loads(self.weighbridge("certs", "list", "--pki", command[-1], "--json"))
        places = [c["place"] for c in listed["folders"][0]["certificates"]]
        if places != ["own", "trusted"]:
            raise Failed(f"there are {listed}")

    def scans(self):
        profile = self.folder / "found.toml"
        found = json.loads(
            self.weighbridge("scan", self.controller.url, "--json", "-o", profile)
        )
        nodes = {v["node"]: v for v in found["variables"]}
        level = nodes.get(f"nsu={NAMESPACE};s=level")
        if not level or level["path"] != ["Machine", "level"] or level["type"] != "f64":
            raise Failed(f"level is {level} among {sorted(nodes)}")
        if not nodes[f"nsu={NAMESPACE};s=setpoint"]["writable"]:
            raise Failed("setpoint cannot be written")
        self.weighbridge("check", profile)
        self.weighbridge("profile", "test", profile)

    def writes(self):
        name = device("aes256_sha256_rsa_pss", "sign_and_encrypt")
        self.weighbridge("write", name, "setpoint=42.5", "--url", self.http)

        def shown():
            sample = self.tags(name).get("setpoint")
            return sample and sample["value"] == 42.5, sample

        until(10, "the written value", shown)

    def calls(self):
        body = {
            "object": f"nsu={NAMESPACE};s=Machine", "method": f"nsu={NAMESPACE};s=Add",
            "arguments": [2.0, 0.5],
        }
        name = device("none", "sign")
        request = urllib.request.Request(
            f"{self.http}/api/v1/devices/{name}/call", data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}, method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                said = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Failed(f"{error}: {error.read().decode()}") from None
        if "2.5" not in said:
            raise Failed(f"2 + 0.5 is {said}")

    def deleted(self):
        name = device("none", "sign")
        self.controller.program.say("delete other")

        def isolated():
            sample = self.tags(name).get("other")
            return sample and sample["quality"] == "Bad", sample

        until(25, "a bad tag", isolated)
        self.fresh(name, tags=("level", "by_index"))
        self.controller.program.say("restore other")
        self.fresh(name)

    def restarts(self, others):
        self.controller.stop()
        time.sleep(0.5)
        self.controller.start(others)
        # All eight connections come at once, which takes a server in one thread its time.
        for policy in POLICIES:
            self.fresh(device(*policy), seconds=20)

    def stop(self):
        if self.hub:
            self.hub.stop()
        self.controller.stop()


def device(policy, mode):
    return f"ua-{policy}-{mode}".replace("_", "-")


def run(binary, folder):
    """The checks against every server; each is (name, passed, detail)."""
    results = []
    for kind in ("asyncua", "node-opcua", "open62541"):
        servers = Servers(Path(binary), Path(folder), kind)
        try:
            for name, check in servers.checks():
                try:
                    check()
                    results.append((f"{kind} server: {name}", True, ""))
                except Exception as error:
                    detail = str(error) or repr(error)
                    results.append((f"{kind} server: {name}", False, detail))
        finally:
            servers.stop()
    return results


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        found = run(Path(sys.argv[1]).resolve(), scratch)
    for name, passed, detail in found:
        print("ok     " if passed else "FAILED ", name, detail)
    sys.exit(not all(passed for _, passed, _ in found))
