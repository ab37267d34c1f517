#!/usr/bin/env python3
"""Interoperability: a hub between programs that others wrote.

    run.py PATH_OF_WEIGHBRIDGE [--keep DIR]

A pymodbus server is its PLC and an asyncua server is its robot; asyncua reads it as SCADA, once without
security and once with Basic256Sha256 SignAndEncrypt; mbpoll reads the simulated cell. opcua_servers.py has
the hub read, write and call asyncua, node-opcua and open62541 servers under every security policy, and
opcua_open62541.py has open62541's client do so with the hub; opcua_many.py measures 10,000 items. Then the hub is
stopped, its ledger verified, and a sample proven. evidence.py compares our verifier of evidence files with
docs/verify.py, on thousands of changed files; guomi.py checks suite guomi with OpenSSL's SM2 and SM3; checkpoints.py has
aics-witness cosign a ledger; https_users.py has Python log in over HTTPS; one_login.py has asyncua and curl log in as the same
users; postgres.py keeps sealed batches in a PostgreSQL that it starts; readers.py has Python open what a hub hands to readers; identities.py has OpenSSL and others look at
certificates. Everything is bounded in time, listens on loopback, and is ended by the process that started it. The last
line says `N passed, N failed`.
"""

import argparse
import datetime
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from pathlib import Path

import checkpoints
import evidence
import guomi
import https_users
import identities
import modbus
import one_login
import opcua_alarms
import opcua_clients
import opcua_history
import opcua_many
import opcua_open62541
import opcua_servers
import postgres
import readers
import timestamps

HERE = Path(__file__).resolve().parent
USER, PASSWORD = "scada", "interop-only"

# What the peers say of themselves in their files: pymodbus_plc.py and asyncua_robot.py.
PLC_TAGS = """
[[device.tag]]
name = "temperature"
unit = "°C"
range = [0.0, 120.0]
modbus = { holding_register = 0, type = "f32" }
[[device.tag]]
name = "pressure"
unit = "bar"
modbus = { holding_register = 2, type = "f32", word_order = "little" }
[[device.tag]]
name = "count"
modbus = { holding_register = 4, type = "u32" }
[[device.tag]]
name = "scaled"
modbus = { holding_register = 6, type = "i16", scale = 0.1 }
[[device.tag]]
name = "exact"
modbus = { holding_register = 8, type = "f64" }
[[device.tag]]
name = "text"
modbus = { holding_register = 12, type = "text", registers = 4 }
[[device.tag]]
name = "ready"
modbus = { holding_register = 20, bit = 2 }
[[device.tag]]
name = "input_7"
modbus = { input_register = 7 }
[[device.tag]]
name = "coil_3"
modbus = { coil = 3 }
[[device.tag]]
name = "discrete_1"
modbus = { discrete_input = 1 }
[[device.tag]]
name = "nowhere"
modbus = { holding_register = 5000 }
# It is always missing, which would put every batch of the device out of control.
validation = { missing_share = 1.0 }
"""
PLC_VALUES = {
    "temperature": 21.5,
    "pressure": 6.25,
    "scaled": -4.0,
    "exact": 1234.5678901,
    "text": "PRESS 4",
    "ready": True,
    "input_7": 1007,
    "coil_3": True,
    "discrete_1": False,
}


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


class Process:
    """A program in the background: its lines are kept, its end is certain."""

    started = []

    def __init__(self, name, command, **options):
        self.name = name
        self.lines = []
        self.seen = threading.Condition()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            # Held open: some programs end when it closes, also when this one is killed.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        Process.started.append(self)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append(line.rstrip("\n"))
                self.seen.notify_all()
        with self.seen:
            self.lines.append(None)
            self.seen.notify_all()

    def wait_for(self, pattern, seconds):
        """The match of the first line that fits `pattern`."""
        deadline = time.monotonic() + seconds
        at = 0
        with self.seen:
            while True:
                while at < len(self.lines):
                    line = self.lines[at]
                    at += 1
                    if line is None:
                        raise Failed(f"{self.name} ended early:\n{self.tail()}")
                    match = re.search(pattern, line)
                    if match:
                        return match
                left = deadline - time.monotonic()
                if left <= 0 or not self.seen.wait(left):
                    raise Failed(f"{self.name} did not say /{pattern}/ in {seconds} s:\n{self.tail()}")

    def tail(self, count=25):
        return "\n".join(f"    {line}" for line in self.lines[-count:] if line is not None)

    def stop(self, sig=signal.SIGTERM, seconds=20):
        """Ends it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.name} did not end within {seconds} s:\n{self.tail()}") from None
        return self.process.returncode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command, seconds=60, code=0, **options):
    """Runs a program to its end; its standard output. Another exit code than `code` is a failure."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds, **options,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(command)} took more than {seconds} s: {late.output}") from None
    if done.returncode != code:
        said = f"{done.stdout}{done.stderr}".strip()
        raise Failed(f"{' '.join(command)} ended with {done.returncode}, not {code}:\n{said}")
    return done.stdout


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(seconds, what, look):
    """Asks `look` until it gives something; what it said last is in the failure."""
    deadline = time.monotonic() + seconds
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            found, last = look()
            if found:
                return found
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s; last seen: {last}")


class Interop:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.plant = folder / "plant"
        self.config = self.plant / "hub.toml"
        self.data = self.plant / "data"
        self.evidence = folder / "sample.evidence"
        self.http = f"http://127.0.0.1:{free_port()}"
        self.opcua = f"opc.tcp://127.0.0.1:{free_port()}/"

    def checks(self):
        return [
            ("init makes keys and a configuration", self.init),
            ("pymodbus serves a PLC", self.start_plc),
            ("asyncua serves a robot", self.start_robot),
            ("check takes the hub's configuration", self.configure),
            ("the hub starts", self.start_hub),
            ("the hub reads pymodbus, every type and table", self.reads_plc),
            ("a register that is not there is bad alone", self.missing_register_is_bad_alone),
            ("the hub reads asyncua, with its status codes", self.reads_robot),
            ("batches of both are in the ledger", self.ledger_grows),
            ("asyncua as SCADA, policy None", self.scada_none),
            ("asyncua as SCADA, Basic256Sha256 SignAndEncrypt", self.scada_secure),
            ("asyncua with a wrong password is refused", self.scada_refused),
            ("mbpoll reads the simulated cell", self.mbpoll_reads_cell),
            ("the hub stops on SIGINT", self.stop_hub),
            ("blocks and records of the stopped hub", self.list_stopped),
            ("the ledger verifies, with and without a key to trust", self.verify),
            ("one sample is proven, and the proof verifies", self.prove),
            ("a changed proof does not verify", self.changed_proof),
        ]

    def hub_runs(self):
        """Ends a check at once that would wait for a hub in vain."""
        hub = getattr(self, "hub", None)
        if hub is None or hub.process.poll() is not None:
            raise Failed("the hub is not running" + (f":\n{hub.tail()}" if hub else ""))

    def weighbridge(self, *arguments, **options):
        return run([self.binary, *arguments], **options)

    # -- the plant

    def init(self):
        made = json.loads(self.weighbridge("init", self.plant, "--json"))
        self.key = made["public_key"]
        if not re.fullmatch("[0-9a-f]{66}", self.key):
            raise Failed(f"public key {self.key}")
        for name in ("hub.key", "sealing.key"):
            mode = (self.plant / "keys" / name).stat().st_mode & 0o777
            if mode != 0o600:
                raise Failed(f"{name} has mode {mode:o}")
        self.weighbridge("init", self.plant, code=1)

    def start_plc(self):
        self.plc = Process("pymodbus_plc.py", [sys.executable, "-u", HERE / "pymodbus_plc.py"])
        self.plc_port = json.loads(self.plc.wait_for(r"^{.*}$", 30).group())["port"]

    def start_robot(self):
        self.robot = Process("asyncua_robot.py", [sys.executable, "-u", HERE / "asyncua_robot.py"])
        self.robot_at = json.loads(self.robot.wait_for(r"^{.*}$", 30).group())

    def configure(self):
        password = self.plant / "keys" / "scada.pw"
        password.touch(mode=0o600)
        password.write_text(PASSWORD + "\n")
        kinds = {"speed": "f64", "current": "f64", "cycles": "u64", "running": "bool", "program": "text"}
        robot_tags = "".join(
            f"""[[device.tag]]
name = "{name}"
opcua = {{ node = "{node}", type = "{kinds[name]}" }}
"""
            for name, node in self.robot_at["nodes"].items()
        )
        self.config.write_text(
            f"""
[hub]
id = "hub-1"
[http]
bind = "{self.http.removeprefix("http://")}"
[opcua_server]
bind = "{self.opcua.removeprefix("opc.tcp://").rstrip("/")}"
trust = "any"
users = [{{ name = "{USER}", password_file = "keys/scada.pw" }}]
[[device]]
id = "plc-1"
modbus = {{ address = "127.0.0.1:{self.plc_port}", period_ms = 50 }}
batch = {{ samples = 1000, milliseconds = 300 }}
{PLC_TAGS}
[[device]]
id = "robot-1"
opcua = {{ url = "{self.robot_at["url"]}" }}
batch = {{ samples = 1000, milliseconds = 300 }}
{robot_tags}
"""
        )
        said = json.loads(self.weighbridge("check", "--json", self.config))
        if not said["ok"] or said["files"][0]["diagnostics"]:
            raise Failed(json.dumps(said, indent=1))

    # -- the running hub

    def start_hub(self):
        self.hub = Process("weighbridge run", [self.binary, "run", "--config", self.config])

        def answers():
            if self.hub.process.poll() is not None:
                raise Failed(f"it ended with {self.hub.process.returncode}:\n{self.hub.tail()}")
            return get(f"{self.http}/healthz").get("status") == "ok", "no answer"

        until(60, "the hub's HTTP interface", answers)

    def tags(self, device):
        answer = get(f"{self.http}/api/v1/tags?device={device}&limit=1000")
        return {t["tag"]: t["sample"] for t in answer["tags"] if t["device"] == device}

    def good(self, device, names):
        """Waits until these tags are Good; all samples of the device."""
        self.hub_runs()

        def look():
            tags = self.tags(device)
            return (
                tags if all(tags.get(n) and tags[n]["quality"] == "Good" for n in names) else None
            ), tags

        return until(60, f"good values of {device}", look)

    def reads_plc(self):
        tags = self.good("plc-1", PLC_VALUES)
        for name, expected in PLC_VALUES.items():
            value = tags[name]["value"]
            close = isinstance(expected, float) and abs(value - expected) < 1e-9 * abs(expected)
            if not close and value != expected:
                raise Failed(f"{name} is {value!r}, not {expected!r}")
        first = tags["count"]["value"]
        until(20, "a counter that goes up", lambda: (
            (now := self.tags("plc-1")["count"]["value"]) > first, now
        ))

    def missing_register_is_bad_alone(self):
        self.hub_runs()
        tags = self.tags("plc-1")
        if tags["nowhere"]["quality"] != "Bad":
            raise Failed(f"it is {tags['nowhere']}")
        if tags["temperature"]["quality"] == "Bad":
            raise Failed("its neighbour is bad too")

    def reads_robot(self):
        tags = self.good("robot-1", ["speed", "cycles", "running", "program"])
        if not -1.0 <= tags["speed"]["value"] <= 1.0:
            raise Failed(f"speed is {tags['speed']}")
        if tags["program"]["value"] not in ("pick", "place"):
            raise Failed(f"program is {tags['program']}")
        if tags["current"]["quality"] != "Uncertain":
            raise Failed(f"current should be uncertain: {tags['current']}")
        age = time.time_ns() - int(tags["speed"]["time_ns"])
        if not -1e9 < age < 10e9:
            raise Failed(f"the source time is {age / 1e9:.1f} s old")

    def ledger_grows(self):
        self.hub_runs()
        for device in ("plc-1", "robot-1"):
            def look():
                said = self.weighbridge(
                    "records", "--url", self.http, "--device", device, "--limit", 50, "--json"
                )
                batches = [r for r in json.loads(said)["records"] if "batch" in r["content"]]
                return len(batches) >= 3, f"{len(batches)} batches"

            until(60, f"batches of {device}", look)
        status = json.loads(self.weighbridge("status", "--url", self.http, "--json"))
        if status["height"] < 3 or status["devices"]["up"] != 2:
            raise Failed(json.dumps(status))

    # -- SCADA

    def scada(self, *arguments, code=0):
        self.hub_runs()
        script = [sys.executable, HERE / "asyncua_scada.py", self.opcua, *arguments]
        return json.loads(run(script, seconds=120, code=code))

    def seen_by_scada(self, report):
        devices = report["devices"]
        if sorted(devices) != ["plc-1", "robot-1"]:
            raise Failed(f"SCADA sees {sorted(devices)}")
        temperature = devices["plc-1"]["temperature"]
        if temperature["value"] != 21.5 or temperature["range"] != [0.0, 120.0]:
            raise Failed(f"SCADA sees {temperature}")
        if report["ledger"]["Height"] < 3:
            raise Failed(f"SCADA sees {report['ledger']}")

    def scada_none(self):
        self.seen_by_scada(self.scada())

    def secure(self, password):
        file = self.folder / "client.pw"
        file.write_text(password + "\n")
        pki = self.folder / "scada-pki"
        return ["--secure", "--user", USER, "--password-file", file, "--pki", pki]

    def scada_secure(self):
        self.seen_by_scada(self.scada(*self.secure(PASSWORD)))

    def scada_refused(self):
        report = self.scada(*self.secure("wrong"), code=1)
        if "BadUserAccessDenied" not in str(report) and "BadIdentityToken" not in str(report):
            raise Failed(f"it ended otherwise: {report}")

    # -- the simulated cell

    def mbpoll_reads_cell(self):
        sim = Process("weighbridge sim", [self.binary, "sim", "--json", "--for", "120"])
        machines = json.loads(sim.wait_for(r"^{.*}$", 30).group())["machines"]
        plc = next(m for m in machines if m["id"] == "plc-1")
        port = plc["modbus"].rsplit(":", 1)[1]
        # Measurements are floats in input registers from 0 on, high word first.
        poll = ["mbpoll", "-m", "tcp", "-p", port, "-a", "1", "-0", "-1", "-q", "-B"]
        said = run([*poll, "-t", "3:float", "-r", "0", "-c", "6", "127.0.0.1"])
        values = [float(v) for v in re.findall(r"^\[\d+\]:\s+(\S+)", said, re.M)]
        if len(values) != 6 or not all(-1e4 < v < 1e4 for v in values) or not any(values):
            raise Failed(f"mbpoll read {values}:\n{said}")
        said = run([*poll, "-t", "1", "-r", "0", "-c", "2", "127.0.0.1"])
        switches = re.findall(r"^\[\d+\]:\s+([01])\s*$", said, re.M)
        if len(switches) != 2:
            raise Failed(f"mbpoll read {switches}:\n{said}")
        # An address between the tables is refused, and the server goes on.
        refused = subprocess.run(
            [*poll, "-t", "3", "-r", "150", "-c", "1", "127.0.0.1"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        if "Illegal data address" not in refused.stdout + refused.stderr:
            raise Failed(f"an illegal address gave {refused.stdout}{refused.stderr}")
        code = sim.stop(signal.SIGINT)
        if code != 0:
            raise Failed(f"it ended with {code}:\n{sim.tail()}")

    # -- afterwards

    def stop_hub(self):
        self.hub_runs()
        # The sample that will be proven; in the ledger for certain when a later one is.
        self.proven_at = datetime.datetime.now(datetime.timezone.utc)
        before = json.loads(self.weighbridge("status", "--url", self.http, "--json"))["height"]
        until(30, "blocks after the sample", lambda: (
            (at := get(f"{self.http}/api/v1/status")["height"]) >= before + 6, at
        ))
        # A directory in use is refused, with a word on how.
        self.weighbridge("blocks", "--dir", self.data, code=1)
        code = self.hub.stop(signal.SIGINT, 30)
        if code != 0:
            raise Failed(f"it ended with {code}:\n{self.hub.tail()}")

    def list_stopped(self):
        blocks = json.loads(self.weighbridge("blocks", "--dir", self.data, "--json"))["blocks"]
        heights = [b["height"] for b in blocks]
        if heights != list(range(heights[0], heights[0] - len(heights), -1)):
            raise Failed(f"heights {heights}")
        said = self.weighbridge("records", "--dir", self.data, "--device", "plc-1", "--json")
        records = json.loads(said)["records"]
        if not records or any(r["object"].split(":")[-1] != "plc-1" for r in records):
            raise Failed(f"records {records}")

    def verify(self):
        said = self.weighbridge("verify", self.data, seconds=300)
        if "self-consistent only" not in said:
            raise Failed(f"verify did not say how much that is worth:\n{said}")
        said = self.weighbridge("verify", self.data, "--trust", self.key, seconds=300)
        if "self-consistent only" in said:
            raise Failed(f"verify did not trust the key:\n{said}")
        stranger = "02" + "11" * 31 + "22"
        done = subprocess.run(
            [self.binary, "verify", self.data, "--trust", stranger],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )
        if done.returncode == 0:
            raise Failed(f"a stranger's key was taken:\n{done.stdout}")

    def prove(self):
        at = self.proven_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.weighbridge(
            "prove", "--config", self.config, "--device", "plc-1", "--tag", "temperature",
            "--at", at, "-o", self.evidence,
        )
        said = self.weighbridge("verify", self.evidence, "--trust", self.key)
        if "21.5" not in said or "temperature" not in said:
            raise Failed(f"the proof does not tell the sample:\n{said}")
        said = self.weighbridge("verify", self.evidence)
        if "self-consistent only" not in said:
            raise Failed(f"verify did not say how much that is worth:\n{said}")

    def changed_proof(self):
        proof = bytearray(self.evidence.read_bytes())
        proof[len(proof) // 2] ^= 1
        changed = self.folder / "changed.evidence"
        changed.write_bytes(proof)
        done = subprocess.run(
            [self.binary, "verify", changed, "--trust", self.key],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        if done.returncode == 0:
            raise Failed(f"a changed proof was taken:\n{done.stdout}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weighbridge", type=Path, help="the binary")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR, and leave it there")
    arguments = parser.parse_args()
    binary = arguments.weighbridge.resolve()
    if not binary.is_file():
        parser.error(f"{binary} is not there: run `cargo build` first")
    if shutil.which("mbpoll") is None:
        parser.error("mbpoll is not installed: apt-get install mbpoll")
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="weighbridge-interop-"))
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever runs out of patience with this program must not leave its children behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed = failed = 0
    try:
        for name, check in Interop(binary, folder.resolve()).checks():
            began = time.monotonic()
            try:
                check()
                passed += 1
                print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception as error:
                failed += 1
                # What a check found is its message; anything else is a mistake in this file.
                expected = isinstance(error, (Failed, OSError))
                why = error if expected else traceback.format_exc()
                print(f"FAILED  {name}\n    {why}", flush=True)
        suites = (
            modbus, opcua_clients, opcua_open62541, opcua_servers, opcua_many, opcua_alarms, opcua_history,
            checkpoints,
            evidence,
            guomi,
            https_users,
            one_login,
            identities,
            postgres,
            readers,
            timestamps,
        )
        for suite in suites:
            place = folder.resolve() / suite.__name__
            place.mkdir(exist_ok=True)
            for name, well, detail in suite.run(binary, place):
                passed, failed = passed + well, failed + (not well)
                print(f"ok      {name} ({detail})" if well else f"FAILED  {name}\n    {detail}", flush=True)
    finally:
        for process in reversed(Process.started):
            try:
                process.stop(seconds=10)
            except Failed as late:
                print(late, flush=True)
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
