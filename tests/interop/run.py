#!/usr/bin/env python3
"""Interoperability: a hub between programs that others wrote.

    run.py PATH_OF_WEIGHBRIDGE [--keep DIR]

A pymodbus server is its PLC and an asyncua server is its robot; asyncua reads it as SCADA, once without
security and once with Basic256Sha256 SignAndEncrypt; mbpoll reads the simulated cell. Then the hub is
stopped, its ledger verified, and a sample proven. Everything is bounded in time, listens on loopback,
and is ended by the process that started it. The last line says `N passed, N failed`.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
USER, PASSWORD = "scada", "interop-only"


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


class Process:
    """A program in the background: its lines are kept, its end is certain."""

    started = []

    def __init__(self, name, command, **options):
        self.name = name
        self.lines = []
        self.seen = threading.Condition()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        Process.started.append(self)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append(line.rstrip("\n"))
                self.seen.notify_all()
        with self.seen:
            self.lines.append(None)
            self.seen.notify_all()

    def wait_for(self, pattern, seconds):
        """The match of the first line that fits `pattern`."""
        deadline = time.monotonic() + seconds
        at = 0
        with self.seen:
            while True:
                while at < len(self.lines):
                    line = self.lines[at]
                    at += 1
                    if line is None:
                        raise Failed(f"{self.name} ended early:\n{self.tail()}")
                    match = re.search(pattern, line)
                    if match:
                        return match
                left = deadline - time.monotonic()
                if left <= 0 or not self.seen.wait(left):
                    raise Failed(f"{self.name} did not say /{pattern}/ in {seconds} s:\n{self.tail()}")

    def tail(self, count=25):
        return "\n".join(f"    {line}" for line in self.lines[-count:] if line is not None)

    def stop(self, sig=signal.SIGTERM, seconds=20):
        """Ends it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.name} did not end within {seconds} s:\n{self.tail()}") from None
        return self.process.returncode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command, seconds=60, code=0, **options):
    """Runs a program to its end; its standard output. Another exit code than `code` is a failure."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds, **options,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(command)} took more than {seconds} s: {late.output}") from None
    if done.returncode != code:
        said = f"{done.stdout}{done.stderr}".strip()
        raise Failed(f"{' '.join(command)} ended with {done.returncode}, not {code}:\n{said}")
    return done.stdout


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(seconds, what, look):
    """Asks `look` until it gives something; what it said last is in the failure."""
    deadline = time.monotonic() + seconds
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            found, last = look()
            if found:
                return found
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s; last seen: {last}")
