"""OPC UA clients that others wrote, against the hub's server: asyncua and node-opcua.

    opcua_clients.py PATH_OF_WEIGHBRIDGE [FOLDER]

Each client connects over every security policy that it and the hub have, as an operator, as an observer
and with a wrong password. It reads, subscribes, browses in pages, and writes to a pymodbus PLC; or is
refused. node-opcua is looked for as `node_modules` in NODE_OPCUA or in target/interop-node; without it
its checks fail and say how to install it.
"""

import asyncio
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

HERE = Path(__file__).resolve().parent
NAMESPACE = "urn:weighbridge:hub"
APPLICATION = "urn:weighbridge:interop:client"
PASSWORDS = {"olivia": "runs-machines", "oscar": "only-looks"}
ROLES = {"olivia": '["operator", "auditor"]', "oscar": '["observer"]'}
PAGE = 7
# So many tags besides those of the PLC's table, for pages of browsing.
MANY = 40
SECURE = ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Plant:
    """A pymodbus PLC and a hub that reads it; they end with the `with` block."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.processes = []
        self.url = f"opc.tcp://127.0.0.1:{free_port()}/"
        self.http = f"127.0.0.1:{free_port()}"

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def spawn(self, command, log, **options):
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, text=True,
            stderr=open(self.folder / log, "w"), **options,
        )
        self.processes.append(process)
        return process

    def log_ins(self):
        """Who may log in, and how, as the section opcua_server says it."""
        return "".join(
            f"""[[opcua_server.users]]
name = "{user}"
password_file = "keys/{user}.pw"
roles = {ROLES[user]}
"""
            for user in PASSWORDS
        )

    def start(self):
        plc = self.spawn(
            [sys.executable, "-u", HERE / "pymodbus_plc.py"], "plc.log", stdout=subprocess.PIPE
        )
        port = json.loads(plc.stdout.readline())["port"]
        subprocess.run([self.binary, "init", self.folder / "plant"], check=True, capture_output=True)
        keys = self.folder / "plant" / "keys"
        for user, password in PASSWORDS.items():
            file = keys / f"{user}.pw"
            file.touch(mode=0o600)
            file.write_text(password + "\n")
        many = "".join(
            f'[[device.tag]]\nname = "input_{i}"\nmodbus = {{ input_register = {i} }}\n'
            for i in range(MANY)
        )
        config = self.folder / "plant" / "hub.toml"
        config.write_text(f"""
[hub]
id = "hub-1"
[http]
bind = "{self.http}"
[opcua_server]
bind = "{self.url.removeprefix("opc.tcp://").rstrip("/")}"
trust = "any"
{self.log_ins()}
[[device]]
id = "plc-1"
modbus = {{ address = "127.0.0.1:{port}", period_ms = 50 }}
batch = {{ samples = 1000, milliseconds = 300 }}
[[device.tag]]
name = "count"
modbus = {{ holding_register = 4, type = "u32" }}
[[device.tag]]
name = "setpoint"
writable = true
range = [0.0, 5000.0]
modbus = {{ holding_register = 8, type = "f64" }}
{many}
""")
        hub = self.spawn(
            [self.binary, "run", "--config", config], "hub.log", stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.http}/healthz", timeout=5) as answer:
                    if json.load(answer).get("status") == "ok":
                        return
            except OSError:
                pass
            if hub.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the hub did not start:\n{(self.folder / 'hub.log').read_text()[-2000:]}")
            time.sleep(0.1)


# -- asyncua


async def certificate(folder):
    key, file = folder / "client.pem", folder / "client.der"
    if not file.exists():
        await setup_self_signed_certificate(
            key, file, APPLICATION, "127.0.0.1", [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"countryName": "AT", "stateOrProvinceName": "", "localityName": "",
             "organizationName": "interop"},
        )
    return str(file), str(key)


def asyncua_policy(name):
    return getattr(security_policies, "SecurityPolicy" + name.replace("_", ""), None)


async def connect(plant, policy, mode, user=None, password=None):
    client = Client(plant.url, timeout=20)
    client.application_uri = APPLICATION
    if policy != "None":
        file, key = await certificate(plant.folder)
        await client.set_security(
            asyncua_policy(policy), certificate=file, private_key=key,
            mode=getattr(ua.MessageSecurityMode, mode),
        )
    if user:
        client.set_user(user)
        client.set_password(PASSWORDS[user] if password is None else password)
    await client.connect()
    return client


class Changes:
    """Collects the values of one item."""

    def __init__(self):
        self.values = []
        self.enough = asyncio.Event()

    def datachange_notification(self, _node, value, _data):
        self.values.append(value)
        if len(self.values) >= 10:
            self.enough.set()


async def browse_in_pages(client, index):
    """The names of the device's tags, asked for in small pages."""
    description = ua.BrowseDescription()
    description.NodeId = ua.NodeId("Weighbridge/Devices/plc-1", index)
    description.BrowseDirection = ua.BrowseDirection.Forward
    description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasComponent)
    description.IncludeSubtypes = True
    description.ResultMask = ua.BrowseResultMask.All
    parameters = ua.BrowseParameters()
    parameters.View.Timestamp = ua.get_win_epoch()
    parameters.RequestedMaxReferencesPerNode = PAGE
    parameters.NodesToBrowse = [description]
    result = (await client.uaclient.browse(parameters))[0]
    names, pages = [], 0
    while True:
        pages += 1
        if len(result.References) > PAGE:
            raise Failed(f"a page of {len(result.References)} references, {PAGE} were asked for")
        names += [reference.BrowseName.Name for reference in result.References]
        if not result.ContinuationPoint:
            return names, pages
        following = ua.BrowseNextParameters()
        following.ReleaseContinuationPoints = False
        following.ContinuationPoints = [result.ContinuationPoint]
        result = (await client.uaclient.browse_next(following))[0]


async def asyncua_works(plant, policy, mode):
    user = None if policy == "None" else "olivia"
    client = await connect(plant, policy, mode, user)
    try:
        index = await client.get_namespace_index(NAMESPACE)
        node = lambda tag: client.get_node(ua.NodeId(f"Weighbridge/Devices/plc-1/{tag}", index))
        deadline = time.monotonic() + 20
        while not (data := await node("input_7").read_data_value(False)).StatusCode.is_good():
            if time.monotonic() > deadline:
                raise Failed(f"input_7 is {data}")
            await asyncio.sleep(0.1)
        if data.Value.Value != 1007 or data.SourceTimestamp is None:
            raise Failed(f"input_7 is {data}")
        names, pages = await browse_in_pages(client, index)
        if len(names) != len(set(names)) or not {f"input_{i}" for i in range(MANY)} <= set(names):
            raise Failed(f"browsing gave {names}")
        if pages < MANY // PAGE:
            raise Failed(f"browsing gave {len(names)} names in {pages} pages")
        changes = Changes()
        subscription = await client.create_subscription(100, changes)
        await subscription.subscribe_data_change(node("count"), queuesize=20, sampling_interval=0)
        await asyncio.wait_for(changes.enough.wait(), 20)
        steps = [b - a for a, b in zip(changes.values, changes.values[1:])]
        # The hub polls; a poll that comes late leaves a count out, but none comes twice or back.
        if any(step < 1 for step in steps):
            raise Failed(f"counts came twice or back: {changes.values}")
        await subscription.delete()
        setpoint = node("setpoint")
        wanted = float(int(time.time() * 1000) % 4000)
        if user:
            await setpoint.write_value(ua.Variant(wanted, ua.VariantType.Double))
            deadline = time.monotonic() + 20
            while await setpoint.read_value() != wanted:
                if time.monotonic() > deadline:
                    raise Failed(f"{wanted} was written and never read back")
                await asyncio.sleep(0.05)
            await refused(setpoint, 6000.0, "BadOutOfRange")
            await refused(node("count"), 1.0, "BadNotWritable")
        else:
            await refused(setpoint, wanted, "BadUserAccessDenied")
        return f"{pages} pages, {len(changes.values)} changes"
    finally:
        await client.disconnect()


async def refused(node, value, expected):
    try:
        await node.write_value(ua.Variant(value, ua.VariantType.Double))
    except ua.UaStatusCodeError as refusal:
        name = ua.status_codes.get_name_and_doc(refusal.code)[0]
        if name != expected:
            raise Failed(f"a write was refused with {name}, not {expected}") from None
    else:
        raise Failed(f"{value} was taken, {expected} was expected")


async def asyncua_observer(plant, policy, mode):
    client = await connect(plant, policy, mode, "oscar")
    try:
        index = await client.get_namespace_index(NAMESPACE)
        setpoint = client.get_node(ua.NodeId("Weighbridge/Devices/plc-1/setpoint", index))
        await refused(setpoint, 1.0, "BadUserAccessDenied")
        level = await setpoint.get_user_access_level()
        if ua.AccessLevel.CurrentWrite in level:
            raise Failed(f"an observer is shown {level}")
        return ""
    finally:
        await client.disconnect()


async def asyncua_wrong(plant, policy, mode):
    try:
        client = await connect(plant, policy, mode, "olivia", "guess")
    except ua.UaError as refusal:
        if "Identity" not in str(refusal) and "AccessDenied" not in str(refusal):
            raise Failed(f"it ended otherwise: {refusal}") from None
        return ""
    await client.disconnect()
    raise Failed("a wrong password was taken")


async def asyncua_server_object(plant, policy, mode):
    client = await connect(plant, policy, mode)
    try:
        read = lambda name: client.get_node(ua.NodeId(getattr(ua.ObjectIds, name))).read_value()
        status = await read("Server_ServerStatus")
        age = abs(status.CurrentTime.timestamp() - time.time())
        if age > 5:
            raise Failed(f"the server's time is {age:.0f} s off")
        most = await read("Server_ServerCapabilities_OperationLimits_MaxNodesPerRead")
        if not most:
            raise Failed("there is no limit of nodes in a read")
        nodes = [client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_State))] * (most + 1)
        try:
            await client.read_values(nodes)
        except ua.UaStatusCodeError as refusal:
            name = ua.status_codes.get_name_and_doc(refusal.code)[0]
            if name != "BadTooManyOperations":
                raise Failed(f"it was refused with {name}") from None
        else:
            raise Failed(f"{most + 1} nodes were read at once")
        summary = await read("Server_ServerDiagnostics_ServerDiagnosticsSummary")
        if summary.CurrentSessionCount < 1:
            raise Failed(f"diagnostics count {summary.CurrentSessionCount} sessions")
        return f"at most {most} nodes a read, {summary.CurrentSessionCount} sessions"
    finally:
        await client.disconnect()


# -- node-opcua


def node_modules():
    default = HERE.parent.parent / "target" / "interop-node"
    folder = Path(os.environ.get("NODE_OPCUA", default))
    if not (folder / "node_modules" / "node-opcua").is_dir():
        raise Failed(f"node-opcua is not in {folder}: npm install --prefix {folder} node-opcua@2.182.2")
    return folder / "node_modules"


def node_opcua(plant, policy, mode, *extra):
    modules = node_modules()
    script = plant.folder / "opcua_client.js"
    # Beside the modules it would be found by itself; so it is told where they are.
    shutil.copy(HERE / "opcua_client.js", script)
    done = subprocess.run(
        ["node", script, plant.url, policy, mode, *extra],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "NODE_PATH": str(modules), "HOME": str(plant.folder)},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise Failed((done.stdout + done.stderr)[-1500:])
    return json.loads(lines[-1]).get("detail", "")


# -- all of it


def checks(plant):
    plain = ("None", "None_")
    for policy in ["None", *SECURE]:
        for mode in ["None_"] if policy == "None" else ["Sign", "SignAndEncrypt"]:
            if policy != "None" and asyncua_policy(policy) is None:
                yield f"asyncua has no {policy}", lambda: ""
            else:
                yield (
                    f"asyncua, {policy} {mode.rstrip('_')}",
                    lambda p=policy, m=mode: asyncio.run(asyncua_works(plant, p, m)),
                )
            yield (
                f"node-opcua, {policy} {mode.rstrip('_')}",
                lambda p=policy, m=mode: node_opcua(
                    plant, p, m.rstrip("_"), *([] if p == "None" else ["olivia", PASSWORDS["olivia"]])
                ),
            )
    last = (SECURE[-1], "SignAndEncrypt")
    yield "asyncua as an observer", lambda: asyncio.run(asyncua_observer(plant, *last))
    yield "asyncua with a wrong password", lambda: asyncio.run(asyncua_wrong(plant, *last))
    yield (
        "node-opcua with a wrong password",
        lambda: node_opcua(plant, *last, "olivia", "guess", "refused"),
    )
    yield "server object", lambda: asyncio.run(asyncua_server_object(plant, *plain))


def run(weighbridge, folder):
    """All checks: name, whether it passed, and what was seen."""
    results = []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Plant(Path(weighbridge).resolve(), folder) as plant:
            for name, check in checks(plant):
                try:
                    results.append((name, True, check() or ""))
                except Exception as failure:  # every check has its line
                    results.append((name, False, f"{type(failure).__name__}: {failure}"))
    except Exception as failure:
        results.append(("the hub starts beside a pymodbus PLC", False, str(failure)))
    return results


def main():
    # Clients report every refusal; what counts is in the checks.
    logging.disable(logging.ERROR)
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
