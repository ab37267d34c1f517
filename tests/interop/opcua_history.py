#!/usr/bin/env python3
"""History, by clients that others wrote: asyncua reads it raw, node-opcua processed.

    opcua_history.py PATH_OF_WEIGHBRIDGE

An asyncua server is a machine that says known values at known times. What the hub's history says is
compared with what the machine said, exactly. Then the hub runs on with other roles, and who may see
history no more is refused. Both reads and refusals must be records. node-opcua is looked for in
target/interop-node, where .ci/run installs it, or where NODE_PATH says. `run` is for whoever has more
checks to make.
"""

import asyncio
import datetime
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

from asyncua import Client, Server, ua

HERE = Path(__file__).resolve().parent
URI = "urn:interop:machine"
SAMPLES = 60
GAP = 0.04


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def utc(time):
    return time.replace(tzinfo=None)


class History:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.plant = folder / "plant"
        self.http = f"127.0.0.1:{free_port()}"
        self.opcua = f"127.0.0.1:{free_port()}"
        self.machine = f"127.0.0.1:{free_port()}"
        self.hub = None
        self.said = []

    def checks(self):
        return [
            ("a machine says known values, and the hub records them", self.record),
            ("asyncua reads raw history, exactly", self.raw),
            ("asyncua reads it backwards and in pages", self.backwards),
            ("node-opcua reads processed history", self.processed),
            ("asyncua takes evidence, and it verifies", self.evidence),
            ("who may not is refused, after a restart", self.refused),
            ("reads and refusals are records", self.records),
            ("the stopped hub's history is the same", self.stopped),
        ]

    def weighbridge(self, *arguments, code=0):
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != code:
            raise Failed(f"{command} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def start(self, role):
        (self.plant / "hub.toml").write_text(
            f"""
[hub]
id = "hub-1"
[http]
bind = "{self.http}"
[opcua_server]
bind = "{self.opcua}"
trust = "any"
anonymous_roles = ["{role}"]
[[device]]
id = "robot-1"
opcua = {{ url = "opc.tcp://{self.machine}/", sampling_interval_ms = 10, publishing_interval_ms = 50 }}
batch = {{ samples = 7, milliseconds = 200 }}
[[device.tag]]
name = "level"
opcua = {{ node = "nsu={URI};s=level" }}
"""
        )
        log = open(self.folder / "hub.log", "ab")
        command = [str(self.binary), "run", "--config", str(self.plant / "hub.toml")]
        self.hub = subprocess.Popen(command, stdout=log, stderr=log)
        self.until("the hub answers", lambda: self.get("/healthz")["status"] == "ok")

    def stop(self):
        if self.hub and self.hub.poll() is None:
            self.hub.send_signal(signal.SIGTERM)
            self.hub.wait(30)

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
            return json.load(answer)

    def until(self, what, look, seconds=60):
        deadline = time.monotonic() + seconds
        seen = None
        while time.monotonic() < deadline:
            try:
                seen = look()
                if seen:
                    return seen
            except OSError as error:
                seen = error
            time.sleep(0.1)
        log = (self.folder / "hub.log").read_text(errors="replace")[-2000:]
        raise Failed(f"{what}: not within {seconds} s; last seen: {seen}\n{log}")

    # -- what is recorded

    def record(self):
        self.weighbridge("init", self.plant)
        asyncio.run(self.machine_speaks())

    async def machine_speaks(self):
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://{self.machine}/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(URI)
        node = ua.NodeId("level", index)
        level = await server.nodes.objects.add_variable(node, "level", 0.0)
        async with server:
            await asyncio.to_thread(self.start, "auditor")

            def up():
                link = self.get("/api/v1/devices/robot-1")["link"]
                return link.get("state") == "up"

            await asyncio.to_thread(self.until, "the machine is read", up)
            began = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
            for i in range(SAMPLES):
                at = began + datetime.timedelta(seconds=GAP) * i + datetime.timedelta(seconds=2)
                value = ua.DataValue(
                    ua.Variant(i * 0.5, ua.VariantType.Double),
                    SourceTimestamp=at,
                    ServerTimestamp=at,
                )
                await level.write_value(value)
                self.said.append((utc(at), i * 0.5))
                await asyncio.sleep(GAP)

            def recorded():
                tags = self.get("/api/v1/tags?device=robot-1")["tags"]
                return tags[0]["sample"]["value"] == self.said[-1][1]

            await asyncio.to_thread(self.until, "the last value arrives", recorded)
            records = "/api/v1/records?device=robot-1&limit=1000"

            def durable():
                batches = [r["content"].get("batch") for r in self.get(records)["records"]]
                return sum(b["samples"] for b in batches if b) >= SAMPLES

            await asyncio.to_thread(self.until, "all values are durable", durable)

    def client(self):
        return Client(f"opc.tcp://{self.opcua}/")

    async def node(self, client):
        index = await client.get_namespace_index("urn:weighbridge:hub")
        return client.get_node(ua.NodeId("Weighbridge/Devices/robot-1/level", index))

    def compare(self, read, expected):
        read = [(v.SourceTimestamp.replace(tzinfo=None), v.Value.Value) for v in read]
        if read != expected:
            differs = next((p for p in zip(read, expected) if p[0] != p[1]), None)
            raise Failed(f"{len(read)} values for {len(expected)}; first difference {differs}")

    def span(self):
        edge = datetime.timedelta(milliseconds=1)
        return self.said[0][0] - edge, self.said[-1][0] + edge

    def raw(self):
        async def read():
            async with self.client() as client:
                node = await self.node(client)
                start, end = self.span()
                self.compare(await node.read_raw_history(start, end, return_bounds=False), self.said)
                inner = [s for s in self.said if self.said[9][0] <= s[0] < self.said[21][0]]
                self.compare(await node.read_raw_history(
                    self.said[9][0], self.said[21][0], return_bounds=False
                ), inner)

        asyncio.run(read())

    def backwards(self):
        async def read():
            async with self.client() as client:
                node = await self.node(client)
                start, end = self.span()
                self.compare(await node.read_raw_history(end, start, return_bounds=False), self.said[::-1])
                # As many as asked for; asyncua follows the continuation points.
                details = ua.ReadRawModifiedDetails(
                    IsReadModified=False, StartTime=start, EndTime=end,
                    NumValuesPerNode=7, ReturnBounds=False,
                )
                values, point, pages = [], None, 0
                while pages == 0 or point:
                    result = await node.history_read(details, point)
                    result.StatusCode.check()
                    values += result.HistoryData.DataValues
                    point, pages = result.ContinuationPoint, pages + 1
                self.compare(values, self.said)
                if pages != -(-SAMPLES // 7):
                    raise Failed(f"{pages} pages")

        asyncio.run(read())

    def processed(self):
        modules = os.environ.get("NODE_PATH") or HERE.parents[1] / "target/interop-node/node_modules"
        start = self.said[0][0].replace(tzinfo=datetime.timezone.utc)
        first = round(start.timestamp() * 1000)
        interval, count = 400, 5
        command = ["node", str(HERE / "opcua_history.js"), f"opc.tcp://{self.opcua}/"]
        command += [str(first), str(first + interval * count), str(interval)]
        environment = {**os.environ, "NODE_PATH": str(modules)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        if done.returncode != 0:
            raise Failed(f"node-opcua failed: {done.stderr[-2000:]}")
        # node-opcua says things of its own on standard output.
        said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        ms = [(round((t - self.said[0][0]).total_seconds() * 1000), v) for t, v in self.said]
        for index in range(count):
            inside = [v for t, v in ms if interval * index <= t < interval * (index + 1)]
            expected = {
                "Average": sum(inside) / len(inside),
                "Minimum": min(inside),
                "Maximum": max(inside),
                "Count": len(inside),
                # The machine's values lie on a line.
                "TimeAverage": (inside[0] + inside[-1] + 0.5) / 2,
                "Interpolative": inside[0],
            }
            for name, wanted in expected.items():
                answer = said[name]
                if answer["status"] != "Good" or len(answer["values"]) != count:
                    raise Failed(f"{name}: {answer}")
                got = answer["values"][index]
                if got["time"] != first + interval * index or abs(got["value"] - wanted) > 1e-9:
                    raise Failed(f"{name} of interval {index} is {got}, not {wanted}")

    def evidence(self):
        async def take():
            async with self.client() as client:
                index = await client.get_namespace_index("urn:weighbridge:hub")
                root = client.get_node(ua.NodeId("Weighbridge", index))
                at = self.said[30][0]
                arguments = [ua.Variant("robot-1"), ua.Variant("level"), ua.Variant(at)]
                return await root.call_method(f"{index}:GetEvidence", *arguments)

        file = self.folder / "sample.evidence"
        file.write_bytes(asyncio.run(take()))
        said = json.loads(self.weighbridge("verify", file, "--json"))
        samples = said["samples"]
        if len(samples) != 1 or samples[0]["value"] != self.said[30][1]:
            raise Failed(f"it proves {said}, not {self.said[30]}")

    def refused(self):
        self.stop()
        self.start("observer")

        async def read():
            async with self.client() as client:
                node = await self.node(client)
                try:
                    await node.read_raw_history(*self.span())
                except ua.UaStatusCodeError as error:
                    if error.code == ua.StatusCodes.BadUserAccessDenied:
                        return
                    raise Failed(f"refused with {error}") from None
                raise Failed("it was not refused")

        asyncio.run(read())
        self.stop()

    def records(self):
        said = json.loads(self.weighbridge("records", "--dir", self.plant, "--limit", 1000, "--json"))
        of = {"read": 0, "refuse": 0}
        for record in said["records"]:
            message = record["content"].get("message")
            if message and message["kind"] == "history-read":
                of[record["action"]] += 1
        if of["read"] < 5 or of["refuse"] != 1:
            raise Failed(f"{of}")
        self.weighbridge("verify", self.plant / "data")

    def stopped(self):
        start, end = (t.isoformat() + "Z" for t in self.span())
        said = self.weighbridge(
            "history", "robot-1", "level", "--dir", self.plant, "--from", start, "--to", end, "--json"
        )
        values = [s["value"] for s in json.loads(said)["samples"]]
        if values != [v for _, v in self.said]:
            raise Failed(f"{values}")


def run(binary, folder):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    history = History(binary, folder)
    results = []
    try:
        for name, check in history.checks():
            try:
                check()
                results.append((name, True, ""))
            except Exception as error:
                expected = isinstance(error, (Failed, OSError))
                results.append((name, False, str(error) if expected else traceback.format_exc()))
    finally:
        history.stop()
    return results


def main():
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="weighbridge-history-") as folder:
        results = run(binary, Path(folder))
    for name, passed, detail in results:
        print(f"{'ok     ' if passed else 'FAILED '} {name}" + (f"\n    {detail}" if detail else ""))
    failed = sum(not passed for _, passed, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
