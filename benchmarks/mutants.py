"""5,000 mutated films through ``carina score``: what was scored, what refused, and whether it held.

    python benchmarks/mutants.py [--count 5000] [--seed 2026] [--write]

The films are those of ``tests/mutants.py``: every format and every transfer syntax, damaged or cut. Ends
with an error where the command did, where a film has no row, or where one was scored whose stream was cut.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]  # films and mutants are those of the tests


def main() -> None:
    """Make them, score them, say what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--write", action="store_true", help="write the section of docs/results.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carina-mutants-") as name:
        text = measured(Path(name), args.count, args.seed)
    print(text)
    if args.write:
        from real import write_section

        write_section(HERE.parent / "docs" / "results.md", "mutants", text)


def measured(root: Path, count: int, seed: int) -> str:
    """One run over ``count`` mutants, as a section of the results."""
    from tests.mutants import laid_out, mutants, scored

    cut = laid_out(root, mutants(count, seed))
    began = time.monotonic()
    rows = scored(root)
    return table(rows, cut, seed, count, time.monotonic() - began)


def table(rows: dict[str, Any], cut: set[str], seed: int, count: int, seconds: float) -> str:
    """The figures; raises ``SystemExit`` where one must not be."""
    halves = sorted(name for name in cut if not rows[name]["refused"])
    codes = Counter(row["refused"].partition(":")[0] or "scored" for row in rows.values())
    if len(rows) != count or halves or codes["internal"]:
        raise SystemExit(
            f"{len(rows)} rows; scored though cut: {halves[:9]}; {codes['internal']} faults of ours"
        )
    told = [
        f"{count} mutated films, seed {seed}, `carina score` in {seconds:.0f} s; every film has a row.",
        f"`python benchmarks/mutants.py --count {count}`",
        "",
        "| | films |",
        "|---|---|",
        f"| pixel stream cut, plainly or closed again | {len(cut)} |",
        f"| of them scored | {len(halves)} |",
        *(f"| {code.replace('_', ' ')} | {found} |" for code, found in codes.most_common()),
    ]
    return "\n".join(told)


if __name__ == "__main__":
    main()
