"""Makes the checks of a script, and says what came of each: for run.py, and for a script run by itself."""

import sys
import tempfile
import traceback
from pathlib import Path


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def results(checks):
    """Makes the checks; a list of name, whether it passed, and what was seen."""
    found = []
    for name, check in checks:
        try:
            check()
            found.append((name, True, ""))
        except Exception as error:
            expected = isinstance(error, (Failed, OSError))
            found.append((name, False, str(error) if expected else traceback.format_exc()))
    return found


def main(name, run):
    """The program that a script is: `run` with the binary that it was given, in a folder of its own."""
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix=f"weighbridge-{name}-") as folder:
        found = run(binary, Path(folder))
    for name, passed, detail in found:
        print(f"{'ok     ' if passed else 'FAILED '} {name}" + (f"\n    {detail}" if detail else ""))
    failed = sum(not passed for _, passed, _ in found)
    print(f"{len(found) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)
