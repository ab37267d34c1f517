#!/usr/bin/env python3
"""Alarms, by clients that others wrote: asyncua and node-opcua.

    opcua_alarms.py PATH_OF_WEIGHBRIDGE [DIR]

A hub reads a simulated PLC, whose pressure is beyond its limits, and a device that is not there. Both
clients subscribe to conditions, refresh, acknowledge with a comment, and see the change; what they did
is then listed by `weighbridge records`. node-opcua is looked for in target/interop-node, where .ci/run
installs it, or where WEIGHBRIDGE_NODE_MODULES says.
"""

import asyncio
import json
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from asyncua import Client, ua

HERE = pathlib.Path(__file__).resolve().parent
TAG_ALARM, DEVICE_ALARM = "plc-1/pressure", "plc-2"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def configuration(plc, http, opcua):
    return f"""
[hub]
id = "hub-1"
[http]
bind = "127.0.0.1:{http}"
roles = ["operator"]
[opcua_server]
bind = "127.0.0.1:{opcua}"
trust = "any"
anonymous_roles = ["supervisor"]
[alarms]
clear_after = 2
[[device]]
id = "plc-1"
modbus = {{ address = "{plc}", period_ms = 50 }}
batch = {{ samples = 1000, milliseconds = 200 }}
[[device.tag]]
name = "pressure"
unit = "bar"
modbus = {{ input_register = 2, type = "f32" }}
validation = {{ charts = ["individuals"], center = 100.0, sigma = 1.0 }}
[[device]]
id = "plc-2"
modbus = {{ address = "127.0.0.1:{free_port()}", period_ms = 50 }}
[[device.tag]]
name = "pressure"
modbus = {{ input_register = 2, type = "f32" }}
"""


class Events:
    """What a subscription was told, in order."""

    def __init__(self):
        self.all = []
        self.more = asyncio.Event()

    def event_notification(self, event):
        self.all.append(event)
        self.more.set()

    def datachange_notification(self, node, value, data):
        pass

    async def wait_for(self, what, wanted, seconds=30):
        async def look():
            while True:
                found = next((e for e in self.all if wanted(e)), None)
                if found:
                    return found
                self.more.clear()
                await self.more.wait()

        try:
            return await asyncio.wait_for(look(), seconds)
        except asyncio.TimeoutError:
            seen = [str(e)[:300] for e in self.all[-5:]]
            raise AssertionError(f"{what} did not come in {seconds} s; last seen: {seen}") from None


def of_alarm(alarm, **fields):
    names = {key: key.replace("_", "/") for key in fields}

    def wanted(event):
        return getattr(event, "SourceName", None) == alarm and all(
            getattr(event, names[key], None) == value for key, value in fields.items()
        )

    return wanted


async def with_asyncua(url):
    """Subscribes to the conditions as asyncua does by itself, and deals with the tag's alarm."""
    async with Client(url, timeout=10) as client:
        events = Events()
        subscription = await client.create_subscription(100, events)
        # Its own filter: the event type is one of all subtypes; the queue is the server's choice.
        kinds = [ua.ObjectIds.AlarmConditionType, ua.ObjectIds.ConditionType]
        await subscription.subscribe_alarms_and_conditions(evtypes=kinds)
        condition_type = client.get_node(ua.ObjectIds.ConditionType)
        number = ua.Variant(subscription.subscription_id, ua.VariantType.UInt32)
        await condition_type.call_method("0:ConditionRefresh", number)
        mark = lambda identifier: lambda e: e.EventType == ua.NodeId(identifier)
        await events.wait_for("the start of the refresh", mark(ua.ObjectIds.RefreshStartEventType))
        raised = await events.wait_for("the tag's alarm", of_alarm(TAG_ALARM, ActiveState_Id=True))
        await events.wait_for("the device's alarm", of_alarm(DEVICE_ALARM, ActiveState_Id=True))
        await events.wait_for("the end of the refresh", mark(ua.ObjectIds.RefreshEndEventType))
        assert "pressure" in raised.Message.Text, raised.Message
        assert raised.Retain and raised.Severity >= 500, raised
        assert getattr(raised, "AckedState/Id") is False, raised

        condition = client.get_node(raised.NodeId)
        said = ua.Variant(ua.LocalizedText("asyncua saw it"), ua.VariantType.LocalizedText)
        event_id = ua.Variant(raised.EventId, ua.VariantType.ByteString)
        # By the method that is found at the instance.
        method = await condition.get_child("0:Acknowledge")
        await condition.call_method(method, event_id, said)
        acked = await events.wait_for(
            "the acknowledgement", of_alarm(TAG_ALARM, AckedState_Id=True, ActiveState_Id=True)
        )
        assert acked.Comment.Text == "asyncua saw it", acked.Comment
        assert acked.EventId != raised.EventId
        acked_node = await condition.get_child(["0:AckedState", "0:Id"])
        assert await acked_node.read_value() is True
        try:
            await condition.call_method(method, event_id, said)
            raise AssertionError("it was acknowledged twice")
        except ua.UaStatusCodeError as refused:
            assert refused.code == ua.StatusCodes.BadConditionBranchAlreadyAcked, refused
        outdated = ua.Variant(b"\0" * 8, ua.VariantType.ByteString)
        try:
            await condition.call_method(method, outdated, said)
            raise AssertionError("an unknown event was acknowledged")
        except ua.UaStatusCodeError as refused:
            assert refused.code == ua.StatusCodes.BadEventIdUnknown, refused
        shelving = await condition.get_child("0:ShelvingState")
        await shelving.call_method("0:OneShotShelve")
        state = await shelving.get_child("0:CurrentState")
        assert (await state.read_value()).Text == "One Shot Shelved"
        await shelving.call_method("0:Unshelve")
        return f"{len(events.all)} events; severity {raised.Severity}: {raised.Message.Text[:80]}"


def node_modules():
    """Where node-opcua is: .ci/run installs it."""
    given = os.environ.get("WEIGHBRIDGE_NODE_MODULES")
    return given or str(HERE.parent.parent / "target" / "interop-node" / "node_modules")


def with_node_opcua(url):
    done = subprocess.run(
        ["node", HERE / "opcua_alarms.js", url, DEVICE_ALARM],
        env={**os.environ, "NODE_PATH": node_modules()},
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise AssertionError(f"it ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def over_http(weighbridge, http):
    """The command line confirms what asyncua acknowledged."""
    url = f"http://127.0.0.1:{http}"
    run = lambda *arguments: subprocess.run(
        [weighbridge, "alarms", *arguments, "--url", url, "--json"],
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
    )
    done = run("confirm", TAG_ALARM, "--comment", "limits were set wrong")
    assert done.returncode == 0, done.stderr
    listed = json.loads(run().stdout)["alarms"]
    states = {a["id"]: (a["active"], a["acknowledged"], a["confirmed"]) for a in listed}
    assert states == {TAG_ALARM: (True, True, True), DEVICE_ALARM: (True, True, True)}, states
    refused = run("shelve", TAG_ALARM)
    assert refused.returncode == 1 and "403" in refused.stderr, refused.stderr
    return str(states)


def records(weighbridge, http):
    """What was done is in the record."""
    listed = subprocess.run(
        [weighbridge, "records", "--url", f"http://127.0.0.1:{http}", "--limit", "1000", "--json"],
        capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL,
    )
    acts = [
        (r["subject"], r["action"], r["object"], r["response"])
        for r in json.loads(listed.stdout)["records"]
        if r["object"].startswith("alarm:")
    ]
    for wanted in [
        ("hub:hub-1", "alarm", f"alarm:{TAG_ALARM}", "accepted"),
        ("user:anonymous", "acknowledge", f"alarm:{TAG_ALARM}", "accepted"),
        ("user:anonymous", "acknowledge", f"alarm:{DEVICE_ALARM}", "accepted"),
        ("user:local", "acknowledge", f"alarm:{TAG_ALARM}", "accepted"),
        ("user:local", "refuse", f"alarm:{TAG_ALARM}", "refused"),
    ]:
        assert wanted in acts, f"{wanted} is not among {acts}"
    return f"{len(acts)} records of alarms"


def run(weighbridge_binary, tempdir):
    """The checks: (name, passed, detail)."""
    folder = pathlib.Path(tempdir)
    plant = folder / "alarms"
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    subprocess.run(
        [weighbridge_binary, "init", plant], check=True, capture_output=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )
    sim = subprocess.Popen(
        [weighbridge_binary, "sim", "--json", "--for", "600"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    results, hub = [], None
    try:
        machines = json.loads(sim.stdout.readline())
        plc = next(m for m in machines["machines"] if m["id"] == "plc-1")
        http, opcua = free_port(), free_port()
        (plant / "hub.toml").write_text(configuration(plc["modbus"], http, opcua))
        log = open(folder / "alarms-hub.log", "w")
        hub = subprocess.Popen(
            [weighbridge_binary, "run", "--config", plant / "hub.toml"],
            stdin=subprocess.PIPE, stdout=log, stderr=log,
        )
        wait_for_alarms(http, hub)
        url = f"opc.tcp://127.0.0.1:{opcua}/"
        for name, check in [
            ("asyncua subscribes, refreshes, acknowledges, shelves", lambda: asyncio.run(with_asyncua(url))),
            ("node-opcua subscribes, refreshes, acknowledges, confirms", lambda: with_node_opcua(url)),
            ("the command line confirms, and may not shelve", lambda: over_http(weighbridge_binary, http)),
            ("acknowledgements and refusals are records", lambda: records(weighbridge_binary, http)),
        ]:
            try:
                results.append((name, True, check()))
            except Exception as error:
                results.append((name, False, f"{type(error).__name__}: {error}"))
    finally:
        for process in filter(None, [hub, sim]):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return results


def wait_for_alarms(http, hub):
    deadline = time.monotonic() + 60
    last = None
    while time.monotonic() < deadline:
        assert hub.poll() is None, f"the hub ended with {hub.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/api/v1/alarms", timeout=5) as answer:
                last = json.load(answer)["alarms"]
            if {a["id"] for a in last} == {TAG_ALARM, DEVICE_ALARM}:
                return
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"the alarms did not come within 60 s; last seen: {last}")


if __name__ == "__main__":
    binary = pathlib.Path(sys.argv[1]).resolve()
    given = len(sys.argv) > 2
    directory = pathlib.Path(sys.argv[2] if given else tempfile.mkdtemp(prefix="weighbridge-alarms-"))
    outcome = run(binary, directory)
    for check, good, detail in outcome:
        print(f"{'ok     ' if good else 'FAILED '} {check}\n    {detail}")
    if not given:
        shutil.rmtree(directory, ignore_errors=True)
    raise SystemExit(0 if all(good for _, good, _ in outcome) else 1)
