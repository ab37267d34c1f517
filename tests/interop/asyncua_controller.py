#!/usr/bin/env python3
"""A controller on an asyncua server, for the hub to read, write and call, under every security policy.

Prints one JSON line with its url, then changes `level` ten times a second until standard input closes.
A line `delete level` or `restore level` on standard input takes the node away or puts it back.

    asyncua_controller.py [--port N] [--others K] [--extra N] [--pki DIR]

--others registers K namespaces before its own, each with a decoy called `level`; --extra adds so many
variables `v0`, `v1`, … that stand still. --pki is where its
certificate is kept; it trusts every client.
"""

import argparse
import asyncio
import datetime
import json
import pathlib
import sys
import threading

from asyncua import Server, ua, uamethod
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

NAMESPACE = "urn:weighbridge:interop:controller"
APPLICATION = "urn:weighbridge:interop:asyncua-controller"


@uamethod
def add(_parent, a, b):
    return a + b


async def run(port: int, others: int, extra: int, pki: pathlib.Path) -> None:
    server = Server()
    await server.init()
    await server.set_application_uri(APPLICATION)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    pki.mkdir(parents=True, exist_ok=True)
    key, certificate = pki / "server.pem", pki / "server.der"
    await setup_self_signed_certificate(
        key, certificate, APPLICATION, "127.0.0.1",
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
        {"countryName": "AT", "stateOrProvinceName": "", "localityName": "", "organizationName": "interop"},
    )
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    kinds = ua.SecurityPolicyType
    server.set_security_policy([
        kinds.NoSecurity,
        kinds.Basic256Sha256_Sign, kinds.Basic256Sha256_SignAndEncrypt,
        kinds.Aes128Sha256RsaOaep_Sign, kinds.Aes128Sha256RsaOaep_SignAndEncrypt,
        kinds.Aes256Sha256RsaPss_Sign, kinds.Aes256Sha256RsaPss_SignAndEncrypt,
    ])
    for number in range(others):
        other = await server.register_namespace(f"urn:other:{number}")
        await server.nodes.objects.add_variable(ua.NodeId("level", other), "level", -1.0)
    index = await server.register_namespace(NAMESPACE)
    machine = await server.nodes.objects.add_object(ua.NodeId("Machine", index), "Machine")

    number = ua.VariantType.Double

    async def variable(name, value):
        return await machine.add_variable(ua.NodeId(name, index), name, value, number)

    nodes = {"level": await variable("level", 0.0), "other": await variable("other", 0.0)}
    for step in range(extra):
        # Adding a reference takes asyncua the longer the more there are.
        if step % 100 == 0:
            shelf = await machine.add_object(ua.NodeId(f"Shelf{step}", index), f"Shelf{step}")
        await shelf.add_variable(ua.NodeId(f"v{step}", index), f"v{step}", float(step), number)
    setpoint = await variable("setpoint", 1.0)
    await setpoint.set_writable()
    await machine.add_method(ua.NodeId("Add", index), "Add", add, [number, number], [number])

    async with server:
        address = server.bserver._server.sockets[0].getsockname()
        print(json.dumps({"url": f"opc.tcp://127.0.0.1:{address[1]}/"}), flush=True)
        loop = asyncio.get_running_loop()
        commands = asyncio.Queue()

        def listen() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(commands.put_nowait, line.split())
            loop.call_soon_threadsafe(commands.put_nowait, None)

        threading.Thread(target=listen, daemon=True).start()
        step = 0
        while True:
            step += 1
            now = datetime.datetime.now(datetime.timezone.utc)
            for node in nodes.values():
                value = ua.DataValue(ua.Variant(float(step), number), SourceTimestamp=now)
                await node.write_value(value)
            try:
                command = await asyncio.wait_for(commands.get(), 0.1)
            except asyncio.TimeoutError:
                continue
            match command:
                case None:
                    return
                case ["delete", name]:
                    await server.delete_nodes([nodes.pop(name)])
                case ["restore", name]:
                    nodes[name] = await variable(name, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--extra", type=int, default=0)
    parser.add_argument("--pki", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.port, arguments.others, arguments.extra, arguments.pki))


if __name__ == "__main__":
    main()
