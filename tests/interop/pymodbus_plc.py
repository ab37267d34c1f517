"""A small PLC that pymodbus serves over Modbus TCP, for a hub to read.

    python pymodbus_plc.py [PORT]

Port 0, the default, takes a free one. The first line on standard output is {"port": N}. The server ends
when its standard input does.

Unit id 1; addresses from 0. What is not listed does not exist (illegal data address).

    holding register  0  f32            21.5       temperature
                      2  f32, low word first 6.25  pressure
                      4  u32            a counter that goes up ten times a second
                      6  i16            -40        times 0.1: -4.0
                      8  f64            1234.5678901
                     12  text, 4 regs   "PRESS 4"
                     20  u16            0b1000_0000_0000_0101: a status word
    input register    0 .. 99  u16      1000 + address
    coil              0 .. 9            on where the address is a multiple of 3
    discrete input    0 .. 3            on, off, on, on
"""

import asyncio
import json
import struct
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNIT = 1
COUNTER = 4
WRITE_REGISTERS = 16


def words(layout, value):
    """The registers of a value in network order."""
    raw = struct.pack(">" + layout, value)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def registers(first, values):
    return SimData(first, values=values, datatype=DataType.REGISTERS)


def switches(values):
    return [SimData(0, values=values, datatype=DataType.BITS)]


def plc():
    holding = [
        registers(0, words("f", 21.5)),
        registers(2, words("f", 6.25)[::-1]),
        registers(COUNTER, words("I", 0)),
        registers(6, words("h", -40)),
        registers(8, words("d", 1234.5678901)),
        registers(12, words("8s", b"PRESS 4")),
        registers(20, [0b1000_0000_0000_0101]),
    ]
    inputs = [registers(0, [1000 + address for address in range(100)])]
    coils = switches([address % 3 == 0 for address in range(10)])
    discrete = switches([True, False, True, True])
    return SimDevice(id=UNIT, simdata=(coils, discrete, holding, inputs))


async def count(server):
    """Makes the counter go up."""
    counter = 0
    while True:
        await asyncio.sleep(0.1)
        counter += 1
        await server.async_setValues(UNIT, WRITE_REGISTERS, COUNTER, words("I", counter))


async def end_of_input():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ModbusTcpServer(plc(), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)
    counting = asyncio.create_task(count(server))
    await end_of_input()
    counting.cancel()
    await server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
