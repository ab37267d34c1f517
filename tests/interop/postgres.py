#!/usr/bin/env python3
"""Sealed batches in a PostgreSQL of Debian's, which this starts for itself: written, read, lost, changed, erased.

    postgres.py PATH_OF_WEIGHBRIDGE

`run` is for whoever has more checks to make.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import checks
from checks import Failed

PASSWORD = "interop-only"
TABLE = "weighbridge_batches"
REGISTERS = 4


def programs():
    """The folder of the newest PostgreSQL server there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Failed("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1].parent


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Server:
    """A cluster of its own in `folder`, on loopback with TLS and on a Unix socket; not run as root."""

    def __init__(self):
        self.bin, self.port = programs(), free_port()
        # Short, for the socket, and where another user gets to.
        self.folder = folder = Path(tempfile.mkdtemp(prefix="weighbridge-postgres-"))
        self.data = folder / "data"
        # PostgreSQL refuses to run as root; Debian's package makes a user for it.
        self.user = "postgres" if os.getuid() == 0 else None
        self.certificates()
        if self.user:
            there = pwd.getpwnam(self.user)
            for path in [folder, *folder.iterdir()]:
                os.chown(path, there.pw_uid, there.pw_gid)
        word = folder / "word"
        self.do("initdb", "-D", self.data, "-U", "owner", "-A", "scram-sha-256", "--pwfile", word, "-E", "UTF8")
        with open(self.data / "postgresql.conf", "a") as config:
            config.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{folder}'\n"
                f"ssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n"
                "shared_buffers = 16MB\nmax_connections = 20\n"
            )
        (self.data / "pg_hba.conf").write_text(
            "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.start()
        self.sql(f"CREATE ROLE weighbridge LOGIN PASSWORD '{PASSWORD}'", "postgres")
        self.sql("CREATE DATABASE weighbridge OWNER weighbridge", "postgres")

    def certificates(self):
        def openssl(*arguments):
            command = ["openssl", *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise Failed(f"{' '.join(command)}: {done.stderr}")

        here, ec = self.folder, ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *ec, "-keyout", here / "ca.key", "-out", here / "ca.pem", "-subj", "/CN=Test CA", "-days", 2)
        openssl("req", *ec, "-keyout", here / "server.key", "-out", here / "server.csr", "-subj", "/CN=db")
        (here / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", here / "server.csr", "-CA", here / "ca.pem", "-CAkey", here / "ca.key",
                "-CAcreateserial", "-days", 2, "-extfile", here / "san", "-out", here / "server.crt")
        (here / "word").write_text(PASSWORD + "\n")
        for name in ("server.key", "ca.key", "word"):
            (here / name).chmod(0o600)
        for name in ("ca.pem", "server.crt"):
            (here / name).chmod(0o644)

    def do(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        log = self.folder / f"{program}.log"
        who = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        # What it starts keeps its output open, so that is a file.
        with open(log, "ab") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=120, cwd="/", **who)
        if done.returncode:
            raise Failed(f"{' '.join(command)}:\n{log.read_text(errors='replace')[-2000:]}")

    def start(self):
        self.do("pg_ctl", "start", "-w", "-D", self.data, "-l", self.folder / "log")

    def stop(self, how="immediate"):
        self.do("pg_ctl", "stop", "-w", "-m", how, "-D", self.data)

    def sql(self, text, database="weighbridge"):
        """What the owner gets for it: lines of columns, with `|` between them."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", self.port,
                   "-U", "owner", "-d", database, "-c", text]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, env=environment)
        if done.returncode:
            raise Failed(f"{text}: {done.stderr}")
        return done.stdout.strip()


class Postgres:
    """The checks, in order. A check that needs what an earlier one did fails when that did."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.plant = binary, folder, folder / "plant"
        self.hub = self.sim = self.server = None

    def checks(self):
        return [
            ("a hub writes its batches into PostgreSQL over TLS, and none of them into its directory", self.begin),
            ("over a Unix socket it goes on in the same rows", self.over_the_socket),
            ("the server is killed: nothing is acknowledged, and it goes on by itself when it is back", self.outage),
            ("a hub that is killed while it writes has lost nothing, and leaves nothing", self.killed),
            ("verify reads every row, and the chain is clean", self.verified),
            ("a changed row is named, and never served", self.changed),
            ("a removed row is missed", self.removed),
            ("without the server, or its section, it is said what is needed", self.without),
            ("a wrong password, an unknown authority and a plain connection are refused", self.refused),
            ("what is erased is removed there too", self.erased),
        ]

    # -- programs

    def weighbridge(self, *arguments, code=0):
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != code:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + (done.stderr if code else "")

    def configure(self, address, ca=True, postgres=True):
        tags = "".join(
            f'[[device.tag]]\nname = "r{i}"\nmodbus = {{ holding_register = {i}, type = "u16" }}\n'
            for i in range(REGISTERS)
        )
        ca = 'ca = "keys/postgres-ca.pem"\n' if ca else ""
        section = f'[ledger.postgres]\naddress = "{address}"\npassword_file = "keys/postgres.pw"\n{ca}'
        (self.plant / "hub.toml").write_text(
            f"""
[hub]
id = "hub-1"
[http]
bind = "127.0.0.1:{self.http}"
[opcua_server]
bind = "127.0.0.1:0"
{section if postgres else ""}
[[device]]
id = "plc-1"
modbus = {{ address = "127.0.0.1:{self.plc}", period_ms = 10 }}
batch = {{ samples = 8, milliseconds = 50 }}
{tags}"""
        )

    def start_hub(self):
        command = [self.binary, "run", "--json", "--config", self.plant / "hub.toml"]
        self.log = open(self.folder / "hub.log", "ab")
        self.hub = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=self.log, text=True)
        self.blocks, self.seen = 0, threading.Condition()
        threading.Thread(target=self.read, args=(self.hub,), daemon=True).start()

    def read(self, hub):
        for line in hub.stdout:
            if '"event":"block"' in line:
                with self.seen:
                    self.blocks += 1
                    self.seen.notify_all()

    def grow(self, more, seconds=60):
        """Waits for so many more blocks."""
        with self.seen:
            wanted = self.blocks + more
            if not self.seen.wait_for(lambda: self.blocks >= wanted, seconds):
                raise Failed(f"{self.blocks} blocks, not {wanted}:\n{self.said()}")

    def said(self):
        return (self.folder / "hub.log").read_text(errors="replace")[-3000:]

    def stop_hub(self, how=signal.SIGINT):
        self.hub.send_signal(how)
        code = self.hub.wait(60)
        if how == signal.SIGINT and code != 0:
            raise Failed(f"it ended with {code}:\n{self.said()}")
        self.hub = None

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/v1/status", timeout=20) as answer:
            return answer.read().decode()

    def waits_for_status(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in (last := self.status()):
            if time.monotonic() > deadline:
                raise Failed(f"it never said {text!r}: {last}\n{self.said()}")
            time.sleep(0.1)
        return last

    def rows(self):
        return int(self.server.sql(f"SELECT count(*) FROM {TABLE}"))

    def verify(self, code=0):
        return self.weighbridge("verify", self.plant, "--trust", self.plant / "keys" / "hub.pub", code=code)

    # -- the checks

    def begin(self):
        self.server = Server()
        self.weighbridge("init", self.plant)
        keys = self.plant / "keys"
        shutil.copy(self.server.folder / "ca.pem", keys / "postgres-ca.pem")
        word = keys / "postgres.pw"
        word.touch(0o600)
        word.write_text(PASSWORD + "\n")
        command = [self.binary, "sim", "--bench-devices", "1", "--bench-registers", REGISTERS, "--for", "600", "--json"]
        self.sim = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.plc = json.loads(self.sim.stdout.readline())["ports"][0]
        self.http = free_port()
        self.address = f"127.0.0.1:{self.server.port}"
        self.configure(self.address)
        said = json.loads(self.weighbridge("check", "--json", self.plant / "hub.toml"))
        if not said["ok"] or said["files"][0]["diagnostics"]:
            raise Failed(json.dumps(said, indent=1))
        self.start_hub()
        self.grow(5)
        over = self.server.sql(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'weighbridge'"
        )
        if over != "t":
            raise Failed(f"its connection over TLS: {over!r}")
        if self.rows() < 5:
            raise Failed(f"{self.rows()} rows")
        self.stop_hub()
        shown = self.server.sql(f"SELECT encode(ciphertext, 'hex') FROM {TABLE}").split()
        stored = b"".join(path.read_bytes() for path in (self.plant / "data").rglob("*") if path.is_file())
        there = [row for row in shown if bytes.fromhex(row) in stored]
        if there:
            raise Failed(f"{len(there)} of {len(shown)} batches are in the data directory as well")
        if PASSWORD.encode() in stored or PASSWORD in self.said():
            raise Failed("the password is somewhere it does not belong")

    def over_the_socket(self):
        self.configure(f"{self.server.folder}:{self.server.port}", ca=False)
        before = self.rows()
        self.start_hub()
        self.grow(5)
        self.stop_hub()
        if self.rows() <= before or self.server.sql(f"SELECT count(DISTINCT ledger) FROM {TABLE}") != "1":
            raise Failed("it did not go on where it was")
        self.configure(self.address)

    def outage(self):
        self.start_hub()
        self.grow(3)
        self.server.stop()
        said = json.loads(self.waits_for_status("the ledger waits"))
        height = said["height"]
        if "database `weighbridge` at" not in json.dumps(said):
            raise Failed(f"it does not say what it waits for: {said}")
        time.sleep(3)
        if json.loads(self.status())["height"] != height:
            raise Failed("blocks were acknowledged without their batches")
        began = time.monotonic()
        self.server.start()
        with self.seen:
            blocks = self.blocks
            if not self.seen.wait_for(lambda: self.blocks > blocks, 60):
                raise Failed(f"it does not go on:\n{self.said()}")
        print(f"        (goes on {time.monotonic() - began:.1f} s after the server was asked to start)", flush=True)
        self.grow(5)
        self.stop_hub()

    def killed(self):
        for _ in range(3):
            self.start_hub()
            self.grow(3)
            self.stop_hub(signal.SIGKILL)
        # What a crash between the two stores would leave: a row of the commit that was never made.
        self.server.sql(
            f"INSERT INTO {TABLE} SELECT ledger, decode(repeat('ab', 32), 'hex'), max(number) + 1, 'nobody''s' "
            f"FROM {TABLE} GROUP BY ledger"
        )
        self.verify()
        self.start_hub()
        self.grow(2)
        self.stop_hub()
        if self.server.sql(f"SELECT count(*) FROM {TABLE} WHERE ciphertext = 'nobody''s'") != "0":
            raise Failed("what nobody refers to is still there")

    def verified(self):
        said = self.verify()
        if f"{self.rows()} sealed values" not in said or "clean, under the trusted key" not in said:
            raise Failed(f"{self.rows()} rows:\n{said}")
        records = json.loads(self.weighbridge("records", "--dir", self.plant, "--device", "plc-1", "--json"))["records"]
        if not records:
            raise Failed("no records")

    def one(self):
        """The row of the newest batch that is proven by its device's samples."""
        return self.server.sql(f"SELECT encode(hash, 'hex') FROM {TABLE} ORDER BY number DESC, hash LIMIT 1")

    def history(self, code=0):
        return self.weighbridge("history", "plc-1", "r0", "--dir", self.plant, code=code)

    def changed(self):
        self.history()
        row = self.one()
        where = f"WHERE hash = decode('{row}', 'hex')"
        change = f"UPDATE {TABLE} SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1) {where}"
        self.server.sql(change)
        for said in (self.verify(code=1), self.history(code=1)):
            if row not in said or TABLE not in said or "is changed" not in said:
                raise Failed(f"row {row}:\n{said}")
        self.server.sql(change)
        self.verify()

    def removed(self):
        row = self.one()
        self.server.sql(f"CREATE TABLE aside AS SELECT * FROM {TABLE} WHERE hash = decode('{row}', 'hex')")
        self.server.sql(f"DELETE FROM {TABLE} WHERE hash = decode('{row}', 'hex')")
        said = self.verify(code=1)
        if f"its sealed bytes {row} are missing" not in said:
            raise Failed(said)
        self.server.sql(f"INSERT INTO {TABLE} SELECT * FROM aside; DROP TABLE aside")
        self.verify()

    def without(self):
        self.server.stop("fast")
        try:
            said = self.verify(code=1)
            if "database `weighbridge` at 127.0.0.1" not in said:
                raise Failed(said)
            said = self.weighbridge("run", "--config", self.plant / "hub.toml", code=1)
            if "database `weighbridge` at 127.0.0.1" not in said:
                raise Failed(said)
        finally:
            self.server.start()
        self.configure(self.address, postgres=False)
        said = self.weighbridge("run", "--config", self.plant / "hub.toml", code=1)
        if "[ledger.postgres] is missing" not in said:
            raise Failed(said)
        self.configure(self.address)

    def refused(self):
        config, word = self.plant / "hub.toml", self.plant / "keys" / "postgres.pw"
        word.chmod(0o644)
        said = self.weighbridge("run", "--config", config, code=1)
        if "can be read by others" not in said:
            raise Failed(said)
        word.chmod(0o600)
        word.write_text("another\n")
        said = self.weighbridge("run", "--config", config, code=1)
        if "password authentication failed" not in said:
            raise Failed(said)
        word.write_text(PASSWORD + "\n")
        authority = self.plant / "keys" / "postgres-ca.pem"
        # A certificate, but not of who vouches for the server.
        shutil.copy(self.server.folder / "server.crt", authority)
        said = self.weighbridge("run", "--config", config, code=1)
        if "certificate" not in said:
            raise Failed(said)
        shutil.copy(self.server.folder / "ca.pem", authority)
        self.configure(self.address, ca=False)
        said = self.weighbridge("run", "--config", config, code=1)
        if "no pg_hba.conf entry" not in said:
            raise Failed(said)
        self.configure("192.0.2.1:5432", ca=False)
        said = self.weighbridge("check", config, code=78)
        if "by TLS only" not in said:
            raise Failed(said)
        self.configure(self.address)

    def erased(self):
        before = self.rows()
        said = self.weighbridge("records", "--dir", self.plant, "--device", "plc-1", "--limit", 1000, "--json")
        batches = sum("batch" in record["content"] for record in json.loads(said)["records"])
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        self.weighbridge("erase", "--device", "plc-1", "--until", until, "--dir", self.plant, "--yes")
        after = self.rows()
        # What the erasure records is sealed as well, and so are the settings that it records again.
        if batches < 20 or after > before - batches + 10:
            raise Failed(f"{after} of {before} rows are left, and {batches} batches went")
        if "erased: plc-1" not in self.verify():
            raise Failed(self.verify())

    def end(self):
        for process in (self.hub, self.sim):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.server:
            self.server.stop()
            shutil.rmtree(self.server.folder, ignore_errors=True)


def run(binary, folder):
    """Makes the checks: a list of name, whether it passed, and what was seen."""
    it = Postgres(binary, folder)
    try:
        return checks.results(it.checks())
    finally:
        try:
            it.end()
        except Failed as late:
            print(late, flush=True)


if __name__ == "__main__":
    checks.main("postgres", run)
