#!/usr/bin/env python3
"""Modbus between the hub and programs that others wrote: pymodbus, libmodbus, mbpoll.

    modbus.py PATH_OF_WEIGHBRIDGE

The hub's side writes every type into devices of pymodbus (TCP, RTU over TCP, TLS, a serial line) and
of libmodbus (TCP, a serial line), and these say what they then hold. libmodbus, pymodbus and mbpoll
read and write the simulated PLC. Serial lines are pairs of pseudo-terminals by socat. The last line says `N
passed, N failed`. `run` is for whoever has more checks to make.
"""

import contextlib
import datetime
import ipaddress
import json
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UNIT = 5

# What is written: point, value, and the registers or coils that hold it then.
WRITES = [
    ('holding_register = 0, type = "f32"', "-21.5", ("registers", 0, struct.pack(">f", -21.5))),
    (
        'holding_register = 2, type = "u32", word_order = "little"', "305419896",
        ("registers", 2, bytes.fromhex("56781234")),
    ),
    ('holding_register = 4, type = "i16", scale = 0.1', "-4.2", ("registers", 4, struct.pack(">h", -42))),
    (
        'holding_register = 5, type = "f64", swap_bytes = true', "1234.5678901",
        ("registers", 5, struct.pack("<4H", *struct.unpack(">4H", struct.pack(">d", 1234.5678901)))),
    ),
    ('holding_register = 9, type = "i48"', "-2", ("registers", 9, struct.pack(">q", -2)[2:])),
    ('holding_register = 12, type = "bcd32"', "20260131", ("registers", 12, bytes.fromhex("20260131"))),
    # The last register's low byte stays what it was, 7.
    ('holding_register = 14, type = "text", length = 7', '"PRESS 4"', ("registers", 14, b"PRESS 4\x07")),
    # Of 0b0111 bit 1 goes off, and bit 12 on.
    ("holding_register = 20, bit = 1", "false", ("registers", 20, struct.pack(">H", 0x1005))),
    ("holding_register = 20, bit = 12", "true", ("registers", 20, struct.pack(">H", 0x1005))),
    ("holding_register = 30", "65535", ("registers", 30, b"\xff\xff")),
    ("coil = 3", "true", ("coils", 3, [1])),
    ("coil = 4", "false", ("coils", 4, [0])),
    ("coil = 5", "true", ("coils", 5, [1])),
]


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


class Peer:
    """A program that answers line by line; it ends with its standard input."""

    def __init__(self, stack, command):
        self.name = Path(str(command[0])).name
        self.complaints = stack.enter_context(tempfile.TemporaryFile())
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
        )
        self.rest = b""
        stack.callback(self.end)

    def line(self, seconds=20):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise Failed(f"{self.name} said nothing in {seconds} s, before that {self.rest!r}")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                self.complaints.seek(0)
                said = self.rest + self.complaints.read()[-2000:]
                raise Failed(f"{self.name} ended: {said.decode(errors='replace')}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace")

    def json(self):
        """The next line that is JSON; others are what a library says of itself."""
        for _ in range(100):
            line = self.line()
            if line.startswith("{"):
                return json.loads(line)
        raise Failed(f"{self.name} said no JSON")

    def dump(self):
        self.process.stdin.write(b"dump\n")
        self.process.stdin.flush()
        return self.json()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


def done(command, seconds=120, code=0, **options):
    """Runs a program to its end; what it said."""
    ended = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace", timeout=seconds, **options,
    )
    if ended.returncode != code:
        said = (ended.stdout + ended.stderr)[:2000]
        raise Failed(f"{command[0]} ended with {ended.returncode}:\n{said}")
    return ended.stdout


def certificates(folder):
    """An authority, a device for 127.0.0.1, and a hub; paths of (ca, certificate, key) of both."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject, key, issuer, issuer_key, *extensions):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    def save(path, data):
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path

    def pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM)

    folder.mkdir()
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate("plant", ca_key, "plant", ca_key, (x509.BasicConstraints(True, None), True))
    ca_file = save(folder / "ca.pem", pem(ca))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    # Modbus/TCP Security: the role of whoever connects, here as a UTF-8 string.
    role = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1"), b"\x0c\x08Operator"
    )
    sides = []
    for side, extension in (("device", address), ("hub", role)):
        key = ec.generate_private_key(ec.SECP256R1())
        made = certificate(side, key, "plant", ca_key, (extension, False))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        files = save(folder / f"{side}.pem", pem(made)), save(folder / f"{side}.key", private)
        sides.append((ca_file, *files))
    return sides


class Modbus:
    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.peer = folder / "libmodbus_peer"
        self.jobs = 0

    def checks(self):
        return [
            ("libmodbus compiles", self.compile),
            ("pymodbus over TCP is written and read", self.pymodbus_tcp),
            ("pymodbus over TCP, functions 23 and no 22", self.pymodbus_other_functions),
            ("pymodbus with RTU frames over TCP", self.pymodbus_rtu_tcp),
            ("pymodbus over mutual TLS", self.pymodbus_tls),
            ("pymodbus over TLS refuses a stranger", self.pymodbus_tls_stranger),
            ("pymodbus on a serial line", self.pymodbus_serial),
            ("libmodbus over TCP is written and read", self.libmodbus_tcp),
            ("libmodbus on a serial line", self.libmodbus_serial),
            ("a libmodbus master reads and writes the simulated PLC", self.libmodbus_master),
            ("a pymodbus master reads and writes the simulated PLC", self.pymodbus_master),
            ("mbpoll writes the simulated PLC and reads it back", self.mbpoll_writes),
            ("scan finds what pymodbus has, and check takes it", self.scan_pymodbus),
        ]

    # -- the hub's side

    def write(self, reached, code=0):
        """Writes everything through the hub's own Modbus; what it said."""
        self.jobs += 1
        job = self.folder / f"job-{self.jobs}.toml"
        text = f"[modbus]\n{reached}\nunit_id = {UNIT}\ntimeout_ms = 3000\nidentify = true\n"
        for point, value, _ in WRITES:
            text += f"[[write]]\nmodbus = {{ {point} }}\nvalue = {value}\n"
        job.write_text(text)
        test = "modbus_interop::reads_and_writes_what_it_is_told"
        return done(
            ["cargo", "test", "--quiet", "--locked", "--test", "it", "--", "--ignored", "--exact", test,
             "--nocapture"],
            seconds=600, code=code, cwd=ROOT, env={**os.environ, "WEIGHBRIDGE_INTEROP_MODBUS": str(job)},
        )

    def holds(self, peer):
        held = peer.dump()
        for point, _, (table, first, expected) in WRITES:
            if isinstance(expected, bytes):
                expected = list(struct.unpack(f">{len(expected) // 2}H", expected))
            found = held[table][first:first + len(expected)]
            if found != expected:
                raise Failed(f"{point}: the device holds {found}, not {expected}")

    def written(self, peer, reached):
        said = self.write(reached)
        if f"{len(WRITES)} values written and read" not in said:
            raise Failed(said)
        self.holds(peer)
        return said

    # -- pymodbus

    def pymodbus(self, stack, *arguments):
        peer = Peer(stack, [sys.executable, "-u", HERE / "pymodbus_lines.py", *arguments])
        return peer, peer.json()["port"]

    def pymodbus_tcp(self):
        with contextlib.ExitStack() as stack:
            peer, port = self.pymodbus(stack, "tcp")
            said = self.written(peer, f'address = "127.0.0.1:{port}"')
            if "identification: pymodbus lines 3.16.1" not in said:
                raise Failed(f"it did not say who it is:\n{said}")

    def pymodbus_other_functions(self):
        with contextlib.ExitStack() as stack:
            peer, port = self.pymodbus(stack, "tcp")
            keys = 'read_write = true\nbit_write = "rewrite"\nmax_gap = 60'
            self.written(peer, f'address = "127.0.0.1:{port}"\n{keys}')

    def pymodbus_rtu_tcp(self):
        with contextlib.ExitStack() as stack:
            peer, port = self.pymodbus(stack, "rtu-tcp")
            self.written(peer, f'address = "127.0.0.1:{port}"\nframing = "rtu"')

    def tls(self, stack, trusted=True):
        device, hub = certificates(self.folder / ("pki" if trusted else "pki-device"))
        if not trusted:
            _, stranger = certificates(self.folder / "pki-stranger")
            hub = (hub[0], *stranger[1:])
        peer, port = self.pymodbus(stack, "tls", *device)
        ca, certificate, key = hub
        files = f'ca = "{ca}", certificate = "{certificate}", key = "{key}"'
        return peer, f'address = "127.0.0.1:{port}"\ntls = {{ {files} }}'

    def pymodbus_tls(self):
        with contextlib.ExitStack() as stack:
            self.written(*self.tls(stack))

    def pymodbus_tls_stranger(self):
        with contextlib.ExitStack() as stack:
            peer, reached = self.tls(stack, trusted=False)
            self.write(reached, code=101)
            if peer.dump()["registers"][0] != 7:
                raise Failed("a stranger wrote")

    @contextlib.contextmanager
    def line(self, stack):
        """The two ends of a serial line."""
        ends = [self.folder / f"line-{self.jobs}-{end}" for end in "ab"]
        socat = subprocess.Popen(
            ["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)], stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 10
            while not all(end.exists() for end in ends):
                if time.monotonic() > deadline or socat.poll() is not None:
                    raise Failed("socat made no pseudo-terminals")
                time.sleep(0.05)
            yield ends
        finally:
            socat.terminate()
            socat.wait(10)

    def serial(self, start):
        with contextlib.ExitStack() as stack:
            ours, theirs = stack.enter_context(self.line(stack))
            peer = start(stack, theirs)
            keys = 'baud = 115200\nparity = "none"\nstop_bits = 1'
            self.written(peer, f'serial = "{ours}"\n{keys}')

    def pymodbus_serial(self):
        self.serial(lambda stack, port: self.pymodbus(stack, "serial", port)[0])

    # -- libmodbus

    def compile(self):
        flags = done(["pkg-config", "--cflags", "--libs", "libmodbus"]).split()
        source = HERE / "libmodbus_peer.c"
        done(["cc", "-Wall", "-Wextra", "-Werror", "-o", self.peer, source, *flags, "-lpthread"])

    def libmodbus_tcp(self):
        with contextlib.ExitStack() as stack:
            peer = Peer(stack, [self.peer, "server", "tcp"])
            self.written(peer, f'address = "127.0.0.1:{peer.json()["port"]}"')

    def libmodbus_serial(self):
        def start(stack, port):
            peer = Peer(stack, [self.peer, "server", "rtu", port])
            peer.json()
            return peer

        self.serial(start)

    # -- masters

    @contextlib.contextmanager
    def plc(self):
        """The port of the simulated PLC."""
        with contextlib.ExitStack() as stack:
            sim = Peer(stack, [self.binary, "sim", "--json", "--for", "120"])
            machines = sim.json()["machines"]
            plc = next(m for m in machines if m["id"].startswith("plc"))
            yield plc["modbus"].rsplit(":", 1)[1]
            sim.process.terminate()

    def libmodbus_master(self):
        with self.plc() as port:
            done([self.peer, "master", port])

    def pymodbus_master(self):
        with self.plc() as port:
            done([sys.executable, HERE / "pymodbus_master.py", port])

    def mbpoll_writes(self):
        with self.plc() as port:
            poll = ["mbpoll", "-m", "tcp", "-p", port, "-0", "-1", "-q"]
            done([*poll, "-t", "4", "-r", "1010", "127.0.0.1", "12", "34", "56"])
            said = done([*poll, "-t", "4", "-r", "1010", "-c", "3", "127.0.0.1"])
            values = re.findall(r"^\[\d+\]:\s+(\d+)", said, re.M)
            if values != ["12", "34", "56"]:
                raise Failed(f"mbpoll read {values}:\n{said}")

    def scan_pymodbus(self):
        with contextlib.ExitStack() as stack:
            _, port = self.pymodbus(stack, "tcp")
            profile = self.folder / "scanned.toml"
            said = json.loads(done(
                [self.binary, "scan", "modbus", f"127.0.0.1:{port}", "--units", str(UNIT), "--delay-ms", "0",
                 "--requests", "400", "--timeout-ms", "2000", "--json", "-o", profile],
            ))
            units = {unit["unit"]: unit for unit in said["units"]}
            if UNIT not in units:
                raise Failed(f"unit {UNIT} was not found: {said}")
            names = {o["name"]: o["text"] for o in units[UNIT]["identification"]}
            if names["vendor"] != "pymodbus":
                raise Failed(f"it says it is {names}")
            ranges = {t["table"]: t["ranges"] for t in units[UNIT]["tables"]}
            expected = {
                "coil": [[0, 15]], "discrete input": [[0, 15]],
                "holding register": [[0, 59]], "input register": [[0, 59]],
            }
            if ranges != expected:
                raise Failed(f"ranges {ranges}")
            done([self.binary, "check", profile])
            done([self.binary, "profile", "test", profile])


def run(binary, folder):
    """Makes all checks; (name, passed, detail) of each. The detail is what was wrong."""
    results = []
    for name, check in Modbus(Path(binary), Path(folder)).checks():
        began = time.monotonic()
        try:
            check()
            results.append((name, True, f"{time.monotonic() - began:.1f} s"))
        except (Failed, OSError, subprocess.SubprocessError) as error:
            results.append((name, False, str(error)))
        except Exception:
            results.append((name, False, traceback.format_exc()))
    return results


def main():
    binary = Path(sys.argv[1]).resolve()
    folder = Path(tempfile.mkdtemp(prefix="weighbridge-modbus-"))
    try:
        results = run(binary, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, passed, detail in results:
        print(f"{'ok     ' if passed else 'FAILED '} {name}: {detail}", flush=True)
    failed = sum(not passed for _, passed, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
