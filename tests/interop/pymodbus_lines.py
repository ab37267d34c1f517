"""A device that pymodbus serves, over whatever carries Modbus, for a hub to write.

    python pymodbus_lines.py tcp|rtu-tcp
    python pymodbus_lines.py tls CA CERTIFICATE KEY
    python pymodbus_lines.py serial PORT

The first line on standard output is {"port": N} (0 for a serial port). A line "dump" on standard input
is answered with the 60 holding registers and 16 coils as one JSON line; at its end the server ends.
"""

import asyncio
import json
import ssl
import sys

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNIT = 5
REGISTERS, COILS = 60, 16
READ_HOLDING, READ_COILS = 3, 1


def device():
    coils = [SimData(0, values=[False] * COILS, datatype=DataType.BITS)]
    inputs = [SimData(0, values=[True] * COILS, datatype=DataType.BITS)]
    holding = [SimData(0, values=[7] * REGISTERS, datatype=DataType.REGISTERS)]
    measured = [SimData(0, values=list(range(REGISTERS)), datatype=DataType.REGISTERS)]
    return SimDevice(id=UNIT, simdata=(coils, inputs, holding, measured))


def server(mode, arguments):
    identity = ModbusDeviceIdentification(
        info_name={"VendorName": "pymodbus", "ProductCode": "lines", "MajorMinorRevision": "3.16.1"}
    )
    here = ("127.0.0.1", 0)
    if mode == "tcp":
        return ModbusTcpServer(device(), identity=identity, address=here)
    if mode == "rtu-tcp":
        return ModbusTcpServer(device(), framer=FramerType.RTU, identity=identity, address=here)
    if mode == "tls":
        ca, certificate, key = arguments
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
        # Modbus/TCP Security keeps the MBAP header; pymodbus leaves it out unless it is told.
        framer = FramerType.SOCKET
        return ModbusTlsServer(
            device(), framer=framer, identity=identity, address=here, sslctx=context
        )
    (port,) = arguments
    return ModbusSerialServer(
        device(), framer=FramerType.RTU, identity=identity, port=port, baudrate=115200, parity="N"
    )


async def main():
    mode, *arguments = sys.argv[1:]
    serving = server(mode, arguments)
    await serving.serve_forever(background=True)
    sockets = getattr(serving.transport, "sockets", None)
    port = sockets[0].getsockname()[1] if sockets else 0
    print(json.dumps({"port": port}), flush=True)
    lines = asyncio.get_running_loop().run_in_executor
    while await lines(None, sys.stdin.readline):
        registers = await serving.async_getValues(UNIT, READ_HOLDING, 0, REGISTERS)
        coils = await serving.async_getValues(UNIT, READ_COILS, 0, COILS)
        coils = [int(bool(coil)) for coil in coils[:COILS]]
        print(json.dumps({"registers": registers, "coils": coils}), flush=True)
    await serving.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
