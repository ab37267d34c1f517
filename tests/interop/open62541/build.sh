#!/usr/bin/env bash
# Builds open62541's client and server for the interoperability tests.
#
#     build.sh [DIR]        by default target/interop-open62541; makes only what has changed
#
# Needs cargo, cmake, a C compiler, Python and OpenSSL's headers. Cargo brings the sources, of the version
# and with the checksum in Cargo.lock.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../../target/interop-open62541}

mkdir -p "$(dirname "$out")"
sources=$(
    cargo metadata --locked --format-version 1 --manifest-path "$here/Cargo.toml" | python3 -c '
import json, pathlib, sys
found = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "open62541-sys"]
print(pathlib.Path(found[0]["manifest_path"]).parent / "open62541")'
)
# Its scripts would leave their bytecode between the sources that cargo keeps.
export PYTHONDONTWRITEBYTECODE=1
cmake -S "$here" -B "$out" -DOPEN62541="$sources" >"$out.log" || {
    cat "$out.log"
    exit 1
}
cmake --build "$out" --parallel "$(nproc)" >"$out.log" 2>&1 || {
    tail -50 "$out.log"
    exit 1
}
