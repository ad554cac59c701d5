"""Does memory grow with the number of films? The section ``memory`` of ``docs/results.md``.

    python benchmarks/memory.py [--films 1000 20000] [--write]

Small films and a tiny network: what could grow is what is kept of each film (names, rows, answers), and that
does not depend on their size. Each number of films is scored in a process of its own; the peak is that of the
process and its decoders together, memory they share divided among them, asked twenty times a second.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scoring import Peak

HERE = Path(__file__).resolve().parent
FOLDER_OF = 1000  # films in one folder


def main() -> None:
    """Run all numbers of films, or one of them."""
    args = arguments()
    if args.folder:
        print(json.dumps(scored(Path(args.folder), Path(args.bundle))))
        return
    with tempfile.TemporaryDirectory(prefix="carina-memory-") as name:
        text = table(Path(name), args.films)
    print(text)
    if args.write:
        from real import write_section

        write_section(HERE.parent / "docs" / "results.md", "memory", text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, nargs="+", default=[1000, 20000])
    parser.add_argument("--write", action="store_true", help="write the section of docs/results.md")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", help=argparse.SUPPRESS)
    return parser.parse_args()


def scored(folder: Path, bundle: Path) -> dict[str, float]:
    """Score a folder to a table, as the verb does."""
    from carina.scoring.run import score_films

    peak = Peak()
    peak.start()
    began = time.perf_counter()
    summary = score_films(folder, bundle, out=folder / "s.csv", check=False, progress=lambda _: None)
    seconds = time.perf_counter() - began
    return {"films": summary.scored, "seconds": seconds, "mb": peak.stop()}


def table(folder: Path, numbers: list[int]) -> str:
    """A row for each number of films."""
    sys.path.insert(0, str(HERE.parent))
    from tests.bundles import tiny_bundle

    bundle = tiny_bundle(folder / "bundle")
    found = [one(folder, bundle, number) for number in numbers]
    rows = ["| films | peak memory, MB | of the first | films/s |", "|---:|---:|---:|---:|"]
    for each in found:
        share = each["mb"] / found[0]["mb"]
        rate = each["films"] / each["seconds"]
        rows.append(f"| {each['films']:,} | {each['mb']:.0f} | {share:.2f} | {rate:.0f} |")
    said = f"`python benchmarks/memory.py --films {' '.join(map(str, numbers))}`"
    return "\n".join([said, "", *rows])


def one(folder: Path, bundle: Path, number: int) -> dict[str, float]:
    """Scoring so many films, in a process of its own."""
    place = films(folder / str(number), number)
    line = [sys.executable, __file__, "--folder", str(place), "--bundle", str(bundle)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    if result["films"] != number:
        raise SystemExit(f"{result['films']} of {number} films were scored")
    return result


def films(place: Path, number: int) -> Path:
    """So many files; links to one film, which for whoever reads them is the same as copies."""
    shades = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(shades).save(held, "PNG")
    for at in range(number):
        folder = place / f"{at // FOLDER_OF:04}"
        folder.mkdir(parents=True, exist_ok=True)
        if at == 0:
            (place / "first").write_bytes(held.getvalue())
        os.link(place / "first", folder / f"{at:06}.png")
    (place / "first").unlink()
    return place


if __name__ == "__main__":
    main()
