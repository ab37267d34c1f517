#!/usr/bin/env python3
"""asyncua as SCADA: browses the hub's OPC UA server, reads, and waits for a data change.

    asyncua_scada.py URL [--secure --user NAME --password-file FILE] [--pki DIR] [--timeout S]

With --secure it connects with Basic256Sha256 SignAndEncrypt; its certificate is made in DIR (a
temporary folder by default), and the hub has to trust it. Prints one JSON object; exits with 0 when
everything was as it should be, else with 1 and the reasons under "problems".
"""

import argparse
import asyncio
import json
import logging
import pathlib
import tempfile

from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

NAMESPACE = "urn:weighbridge:hub"
APPLICATION = "urn:weighbridge:interop:asyncua-scada"


class Changes:
    """Collects data changes."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.enough = asyncio.Event()

    def datachange_notification(self, node, _value, data) -> None:
        key = node.nodeid.to_string()
        self.counts[key] = self.counts.get(key, 0) + 1
        # The first notification of an item is its present value; the second is a change.
        if self.counts[key] >= 2 and data.monitored_item.Value.SourceTimestamp is not None:
            self.enough.set()


async def connect(arguments) -> Client:
    client = Client(arguments.url, timeout=10)
    client.application_uri = APPLICATION
    if arguments.secure:
        folder = arguments.pki or pathlib.Path(tempfile.mkdtemp())
        folder.mkdir(parents=True, exist_ok=True)
        key, certificate = folder / "client.pem", folder / "client.der"
        await setup_self_signed_certificate(
            key,
            certificate,
            APPLICATION,
            "127.0.0.1",
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            {
                "countryName": "AT",
                "stateOrProvinceName": "",
                "localityName": "",
                "organizationName": "interop",
            },
        )
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate=str(certificate),
            private_key=str(key),
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )
    if arguments.user:
        client.set_user(arguments.user)
        client.set_password(arguments.password_file.read_text().splitlines()[0])
    await client.connect()
    return client


async def properties(tag) -> dict:
    found = {}
    for node in await tag.get_properties():
        name = (await node.read_browse_name()).Name
        value = await node.read_value()
        if name == "EURange":
            found["range"] = [value.Low, value.High]
        elif name == "EngineeringUnits":
            found["unit"] = value.DisplayName.Text
            found["unit_id"] = value.UnitId
    return found


async def look(client: Client, timeout: float) -> dict:
    problems = []
    index = await client.get_namespace_index(NAMESPACE)
    root = await client.nodes.objects.get_child(f"{index}:Weighbridge")

    report = {"devices": {}, "ledger": {}, "problems": problems}
    nodes = []
    for device in await (await root.get_child(f"{index}:Devices")).get_children():
        device_name = (await device.read_browse_name()).Name
        tags = report["devices"][device_name] = {}
        for tag in await device.get_children(refs=ua.ObjectIds.HasComponent):
            name = (await tag.read_browse_name()).Name
            data = await tag.read_data_value(raise_on_bad_status=False)
            value = data.Value.Value if data.Value is not None else None
            tags[name] = {
                "value": value if isinstance(value, (bool, int, float, str)) else repr(value),
                "status": data.StatusCode.name,
                "source_time": str(data.SourceTimestamp),
                **await properties(tag),
            }
            if data.StatusCode.is_good() and data.SourceTimestamp is None:
                problems.append(f"{device_name}/{name} is Good and has no source timestamp")
            nodes.append(tag)
    everything = [tag for tags in report["devices"].values() for tag in tags.values()]
    if not any(tag["status"] == "Good" for tag in everything):
        problems.append("no tag is Good")
    if not any("range" in tag for tag in everything):
        problems.append("no tag has an EURange")
    if not any(tag.get("unit_id", -1) > 0 for tag in everything):
        problems.append("no tag has a unit with a UNECE code")

    ledger = await root.get_child(f"{index}:Ledger")
    for node in await ledger.get_children():
        report["ledger"][(await node.read_browse_name()).Name] = await node.read_value()
    if sorted(report["ledger"]) != ["Height", "LastBlockHash", "Records"]:
        problems.append("the ledger does not show Height, LastBlockHash and Records")

    try:
        await nodes[0].write_value(ua.Variant(1.0, ua.VariantType.Double))
        problems.append("a tag could be written")
    except ua.UaStatusCodeError as refusal:
        report["write"] = ua.status_codes.get_name_and_doc(refusal.code)[0]

    changes = Changes()
    subscription = await client.create_subscription(100, changes)
    await subscription.subscribe_data_change(nodes[:200])
    try:
        await asyncio.wait_for(changes.enough.wait(), timeout)
    except asyncio.TimeoutError:
        problems.append(f"no data change came in {timeout} s")
    await asyncio.sleep(1.0)
    report["notifications"] = sum(changes.counts.values())
    await subscription.delete()
    return report


async def run(arguments) -> dict:
    client = await connect(arguments)
    try:
        return await look(client, arguments.timeout)
    finally:
        await client.disconnect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password-file", type=pathlib.Path)
    parser.add_argument("--pki", type=pathlib.Path)
    parser.add_argument("--timeout", type=float, default=10.0)
    arguments = parser.parse_args()
    if arguments.user and not arguments.password_file:
        parser.error("--user needs --password-file")
    logging.basicConfig(level=logging.ERROR)
    try:
        report = asyncio.run(run(arguments))
    except Exception as failure:  # the report says what stopped it
        report = {"problems": [f"{type(failure).__name__}: {failure}"]}
    print(json.dumps(report, indent=1, default=str))
    raise SystemExit(1 if report["problems"] else 0)


if __name__ == "__main__":
    main()
