"""Run the harnesses: ``python -m tests.reliability crashes --full --write``; without a name, all of them.

``--set kills=12`` changes one number of a load, and the figure says so. Without ``--full`` the quick form
runs. Prints a line for each promise; exit code 1 where one was not met. ``--write`` keeps the figures in
docs/promises.md.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # so that `import films` works, as in tests/conftest.py

ROWS = (
    "crashes", "powercut", "order", "faults", "full", "databases", "poisoned", "delivery", "training", "soak",
    "upgrade",
)  # fmt: skip
ON_VOLUMES = ("powercut", "full")


def main() -> int:
    """Run what is asked for; how many promises were not met, at most 1."""
    from tests import promises
    from tests.bundles import tiny_bundle
    from tests.reliability import volume

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="promises; all where none is named")
    parser.add_argument("--full", action="store_true", help="the whole load")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", dest="changes")
    parser.add_argument("--write", action="store_true", help="keep the figures in docs/promises.md")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="carina-promises-", dir=args.folder))
    bundle = tiny_bundle(work / "bundle")
    unmet = 0
    try:
        for row in args.rows or ROWS:
            harness = importlib.import_module(f"tests.reliability.{row}")
            size, begin = _size(harness, args.full, args.changes), time.monotonic()
            why = volume.missing() if row in ON_VOLUMES else None
            try:
                found = None if why else harness.load(work / row, bundle, size)
            except pytest.skip.Exception as missing:  # a program that is not here
                found, why = None, str(missing)
            if found is None:
                unmet += 1
                print(f"{row}: NOT RUN: {why}", flush=True)
                continue
            unmet += not found.met
            said = "met" if found.met else "NOT MET"
            print(f"{row}: {said}: {found} ({size}; {time.monotonic() - begin:.0f} s)", flush=True)
            if args.write:
                command = f"python -m tests.reliability {row}{' --full' if args.full else ''}"
                command += "".join(f" --set {change}" for change in args.changes)
                promises.keep(row, str(found), met=found.met, load=str(size), command=command)
            shutil.rmtree(work / row, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return min(unmet, 1)


def _size(harness: Any, full: bool, changes: list[str]) -> Any:
    """The load of ``harness``, with the numbers that were named on the command line."""
    size = harness.FULL if full else harness.QUICK
    names = {field.name for field in fields(size)}
    given = dict(change.split("=", 1) for change in changes)
    return replace(size, **{name: int(number) for name, number in given.items() if name in names})


if __name__ == "__main__":
    sys.exit(main())
