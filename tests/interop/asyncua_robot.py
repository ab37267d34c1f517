#!/usr/bin/env python3
"""A small robot on an asyncua server, for the hub to read.

Prints one JSON line with its url and the node ids of its variables, then changes their values ten
times a second until standard input closes.

    asyncua_robot.py [--port N] [--secure PKI_DIR]

With --secure it offers Basic256Sha256 SignAndEncrypt only, with a certificate made in PKI_DIR, and
trusts every client.
"""

import argparse
import asyncio
import datetime
import json
import math
import pathlib
import sys
import threading

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

NAMESPACE = "urn:weighbridge:interop:robot"
APPLICATION = "urn:weighbridge:interop:asyncua-robot"


async def secure(server: Server, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "server.pem", folder / "server.der"
    await setup_self_signed_certificate(
        key,
        certificate,
        APPLICATION,
        "127.0.0.1",
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
        {
            "countryName": "AT",
            "stateOrProvinceName": "",
            "localityName": "",
            "organizationName": "interop",
        },
    )
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])


async def run(port: int, pki: pathlib.Path | None) -> None:
    server = Server()
    await server.init()
    await server.set_application_uri(APPLICATION)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/robot/")
    server.set_server_name("interop robot")
    if pki is None:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        await secure(server, pki)
    index = await server.register_namespace(NAMESPACE)
    robot = await server.nodes.objects.add_object(index, "Robot")
    variables = {}
    for name, value, kind in [
        ("speed", 0.0, ua.VariantType.Double),
        ("current", 0.0, ua.VariantType.Float),
        ("cycles", 0, ua.VariantType.UInt32),
        ("running", True, ua.VariantType.Boolean),
        ("program", "pick", ua.VariantType.String),
    ]:
        node = ua.NodeId(f"Robot.{name}", index)
        variables[name] = (await robot.add_variable(node, name, value, kind), kind)

    async with server:
        address = server.bserver._server.sockets[0].getsockname()
        ready = {
            "url": f"opc.tcp://127.0.0.1:{address[1]}/robot/",
            "nodes": {name: f"nsu={NAMESPACE};s=Robot.{name}" for name in variables},
        }
        print(json.dumps(ready), flush=True)

        async def move() -> None:
            step = 0
            while True:
                step += 1
                now = datetime.datetime.now(datetime.timezone.utc)
                values = {
                    "speed": math.sin(step / 10.0),
                    "current": 3.0 + math.cos(step / 7.0),
                    "cycles": step,
                    "running": step % 20 < 15,
                    "program": "pick" if step % 2 else "place",
                }
                for name, (node, kind) in variables.items():
                    # One variable is uncertain, so that a status code is seen to travel.
                    uncertain = name == "current"
                    status = ua.StatusCodes.UncertainSensorNotAccurate if uncertain else 0
                    value = ua.DataValue(
                        ua.Variant(values[name], kind), ua.StatusCode(status), SourceTimestamp=now
                    )
                    await node.write_value(value)
                await asyncio.sleep(0.1)

        closed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait_for_end() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=wait_for_end, daemon=True).start()
        moving = asyncio.create_task(move())
        waiting = asyncio.create_task(closed.wait())
        done, rest = await asyncio.wait([moving, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secure", type=pathlib.Path, metavar="PKI_DIR")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.port, arguments.secure))


if __name__ == "__main__":
    main()
