"""Ten thousand monitored items: how long until the hub has every value of a server that others wrote.

    opcua_many.py PATH_OF_WEIGHBRIDGE [FOLDER]

Beside it, on the same server, open62541's client, which is written in C: what the server can do at best. The
goal is three seconds; ten times as long is taken here, for a busy machine and a build that is not optimised.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from opcua_servers import NAMESPACE, Controller, Failed, Program, free_port, open62541, until

COUNT = 10_000
GOAL = 3.0
PATIENCE = 100


def metric(http, name):
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf'^{name}{{[^}}]*device="many"[^}}]*}} (\S+)$', text, re.M)
    return float(found.group(1)) if found else 0.0


def hub_seconds(binary, folder, url):
    """From the hub's start until it has every value, and from its first answer on."""
    plant, http = folder / "plant", f"http://127.0.0.1:{free_port()}"
    subprocess.run([binary, "init", plant], check=True, capture_output=True)
    tags = "".join(
        f'[[device.tag]]\nname = "v{i}"\nopcua = {{ node = "nsu={NAMESPACE};s=v{i}" }}\n' for i in range(COUNT)
    )
    (plant / "hub.toml").write_text(
        f'[hub]\nid = "hub-1"\n[http]\nbind = "{http.removeprefix("http://")}"\n'
        f'[opcua_server]\nbind = "127.0.0.1:{free_port()}"\n'
        f'[[device]]\nid = "many"\nopcua = {{ url = "{url}" }}\n{tags}'
    )
    hub = Program([binary, "run", "--config", plant / "hub.toml"])
    try:
        def up():
            if hub.process.poll() is not None:
                raise Failed(f"the hub ended:\n{hub.tail()}")
            with urllib.request.urlopen(f"{http}/healthz", timeout=5) as answer:
                return json.load(answer).get("status") == "ok", hub.tail()

        def all_there():
            points = metric(http, "weighbridge_device_points_total")
            return points >= COUNT, f"{points:.0f} values"

        began = time.monotonic()
        until(60, "the hub", up)
        answering = time.monotonic()
        until(PATIENCE, f"{COUNT} values", all_there)
        ended = time.monotonic()
        seen = set()
        after = ""
        while len(seen) < COUNT:
            path = f"/api/v1/tags?device=many&limit=1000{after}"
            with urllib.request.urlopen(http + path, timeout=30) as answer:
                page = json.load(answer)
            for tag in page["tags"]:
                if tag["sample"]["quality"] != "Good" or tag["sample"]["value"] != float(tag["tag"][1:]):
                    raise Failed(f"{tag}")
                seen.add(tag["tag"])
            if not page.get("next"):
                break
            after = f"&after={page['next']}"
        if len(seen) != COUNT:
            raise Failed(f"{len(seen)} tags have a value")
        return ended - began, ended - answering
    finally:
        hub.stop()


def client_seconds(url):
    done = subprocess.run(
        [open62541("many"), url, str(COUNT)], capture_output=True, text=True, timeout=PATIENCE + 20
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not said:
        raise Failed((done.stdout + done.stderr)[-1000:])
    return json.loads(said[-1])["values"]


def measure(binary, folder, kind):
    controller = Controller(kind, folder)
    try:
        controller.start(extra=COUNT)
        best = client_seconds(controller.url)
        whole, since_up = hub_seconds(binary, folder, controller.url)
    finally:
        controller.stop()
    detail = (
        f"{whole:.1f} s from the hub's start, {since_up:.1f} s of it after it answered; "
        f"open62541's client {best:.1f} s"
    )
    if whole > 10.0 * GOAL:
        raise Failed(detail)
    return detail


def run(weighbridge, folder):
    """All checks: name, whether it passed, and what was seen."""
    results = []
    for kind in ("asyncua", "node-opcua", "open62541"):
        name, place = f"{COUNT} items of a {kind} server", Path(folder) / kind
        place.mkdir(parents=True, exist_ok=True)
        try:
            results.append((name, True, measure(Path(weighbridge).resolve(), place, kind)))
        except Exception as failure:  # every check has its line
            results.append((name, False, f"{type(failure).__name__}: {failure}"))
    return results


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="weighbridge-interop-") as temporary:
        found = run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else temporary)
    for name, passed, detail in found:
        print("ok     " if passed else "FAILED ", f"{name}: {detail}")
    raise SystemExit(not all(passed for _, passed, _ in found))
