"""A master of pymodbus that reads and writes the simulated PLC with every function that it has.

    python pymodbus_master.py PORT

It ends with 0 when everything was as it should be, and else says what was not.
"""

import sys

from pymodbus.client import ModbusTcpClient

UNIT = 1
# The part of the simulated PLC that anybody may write.
NOTEPAD = 1000
ILLEGAL_ADDRESS = 2


def good(what, answer):
    if answer.isError():
        sys.exit(f"{what}: {answer}")
    return answer


def same(what, found, wanted):
    if list(found) != list(wanted):
        sys.exit(f"{what}: {list(found)} instead of {list(wanted)}")


def main(port):
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
    if not client.connect():
        sys.exit("it cannot be reached")
    unit = {"device_id": UNIT}
    good("function 4", client.read_input_registers(0, count=12, **unit))
    good("function 3", client.read_holding_registers(0, count=12, **unit))
    good("function 2", client.read_discrete_inputs(0, count=2, **unit))
    good("function 1", client.read_coils(0, count=2, **unit))
    good("function 6", client.write_register(NOTEPAD, 0x00FF, **unit))
    good("function 22", client.mask_write_register(
        address=NOTEPAD, and_mask=0xFFF0, or_mask=0x0003, **unit))
    good("function 16", client.write_registers(NOTEPAD + 1, [11, 22, 33], **unit))
    read = good("function 23", client.readwrite_registers(
        read_address=NOTEPAD, read_count=5, write_address=NOTEPAD + 4, values=[44], **unit))
    same("registers", read.registers, [0x00F3, 11, 22, 33, 44])
    good("function 5", client.write_coil(NOTEPAD, True, **unit))
    good("function 15", client.write_coils(NOTEPAD + 1, [True, False, True], **unit))
    coils = good("function 1", client.read_coils(NOTEPAD, count=4, **unit))
    same("coils", coils.bits[:4], [True, True, False, True])
    said = good("function 43/14", client.read_device_information(**unit))
    if 0 not in said.information:
        sys.exit(f"function 43/14: no vendor in {said.information}")
    missing = client.read_holding_registers(500, count=1, **unit)
    if not missing.isError() or missing.exception_code != ILLEGAL_ADDRESS:
        sys.exit(f"a register that is not there: {missing}")
    client.close()
    print("ok")


main(int(sys.argv[1]))
