"""What a million films cost: measured here on few cores, calculated for many machines; ``docs/scale.md``.

    python benchmarks/scale.py [--films 2000] [--full 200] [--rounds 2] [--price 0.05] [--write]

Films and network are made here (random weights: speed does not depend on what was learnt). The local engine
and Ray take turns on the same films with the same cores; processor time is counted too, as it depends less on
who else is busy. Everything beyond this machine is arithmetic, and says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from random_bundle import random_bundle
from scoring import make_films, shades

from carina.scoring import parts, plan
from carina.scoring.bundle import Bundle
from carina.scoring.cluster import score_on_cluster
from carina.scoring.inputs import Skipped, films
from carina.scoring.run import score_films

HERE = Path(__file__).resolve().parent
LISTED = 100_000  # names that are listed, without films behind them
NODES = ((1, 16), (4, 16), (16, 16), (64, 16))  # machines, cores of each


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of films took."""

    films: int
    seconds: float  # by the clock
    processor: float  # seconds of all cores; 0 where it cannot be told

    @property
    def rate(self) -> float:
        """Films a second."""
        return self.films / self.seconds


def main() -> None:
    """Measure, print, and write where asked."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="carina-scale-") as name:
        text = "\n\n".join(measured(Path(name), args))
    print(text)
    if args.write:
        from real import write_section

        write_section(HERE.parent / "docs" / "scale.md", "scale", text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=2000, help="small films, 512 × 512")
    parser.add_argument("--full", type=int, default=200, help="films of 1500 × 1200")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--price", type=float, default=0.05, help="of a core for an hour, in any currency")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", action="store_true", help="write the section of docs/scale.md")
    return parser.parse_args()


def measured(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    """Paragraphs: on what, what was measured, what follows."""
    bundle = Bundle.open(random_bundle(folder / "bundle", size=224))
    make_small(folder / "small", args.films)
    make_films(folder, args.full)
    local, ray, full = [], [], []
    for turn in range(args.rounds):
        local.append(on_one_machine(folder / "small", bundle, folder / f"local-{turn}.parquet", args.threads))
        ray.append(on_ray(folder / "small", bundle, folder / f"ray-{turn}", args.threads))
        full.append(on_one_machine(folder / "jpeg", bundle, folder / f"full-{turn}.parquet", args.threads))
    same = parity(folder / "local-0.parquet", folder / "ray-0")
    listing, writing = driver(folder)
    yield head(args)
    yield table(folder, local, ray, full, args.threads)
    yield f"{same} Listing: {listing:,.0f} films a second; writing parts: {writing:,.0f} films a second."
    yield calculated(folder, full, ray, local, args)


def make_small(folder: Path, count: int) -> None:
    """JPEG films of 512 × 512; 24 different ones, copied."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if number < 24:
            gray = np.rint(255 * shades(512, 512, number)).astype(np.uint8)
            Image.fromarray(gray).save(path, quality=90)
        else:
            shutil.copyfile(folder / f"{number % 24:06}.jpg", path)


def on_one_machine(source: Path, bundle: Bundle, out: Path, threads: int) -> Cost:
    """The local engine."""
    return timed(lambda: score_films(source, bundle, out=out, threads=threads, check=False))


def on_ray(source: Path, bundle: Bundle, out: Path, threads: int) -> Cost:
    """Ray on this machine; its start, about which a million films do not care, is not counted."""
    import ray

    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        began: list[float] = []
        films_after: list[int] = []

        def note(event: object) -> None:
            began.append(time.perf_counter())
            films_after.append(event.done)  # type: ignore[attr-defined]

        score_on_cluster(source, bundle, out=out, threads=threads, check=False, progress=note)
        first = films_after[0]
        return Cost(films_after[-1] - first, max(1e-9, began[-1] - began[0]), 0.0)
    finally:
        ray.shutdown()


def timed(work: Callable[[], object]) -> Cost:
    """Clock and processor of ``work``, children included."""
    before, began = used(), time.perf_counter()
    summary = work()
    seconds = time.perf_counter() - began
    return Cost(summary.scored + summary.refused, seconds, used() - before)  # type: ignore[attr-defined]


def used() -> float:
    """Processor seconds of this process and its ended children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def parity(local: Path, ray: Path) -> str:
    """Whether both tables are the same, bit for bit."""
    one = pq.read_table(local)
    rows = [row for path in sorted(ray.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    same = rows == one.to_pylist()
    return (
        f"Rows of both engines: {'the same, bit for bit' if same else 'NOT the same'} ({len(rows):,} films)."
    )


def driver(folder: Path) -> tuple[float, float]:
    """Films a second that one driver can list, and write: what does not grow with the machines."""
    place = folder / "many"
    place.mkdir()
    for number in range(LISTED // 1000):
        (place / f"{number:03}").mkdir()
        (place / f"{number:03}" / "000.jpg").touch()
        for copy in range(1, 1000):
            os.link(place / f"{number:03}" / "000.jpg", place / f"{number:03}" / f"{copy:03}.jpg")
    began = time.perf_counter()
    found = plan.make(folder / "out", films([place], contents=False), [str(place)], "key", 16, Skipped())
    listing = found.films / (time.perf_counter() - began)
    form = parts.Rows(("A", "B", "C", "D"))
    empty = dict.fromkeys(form.columns)
    with parts.Parts(folder / "out", found, form) as made:
        contents = []
        for number in range(8):
            names = made.listing.table(number)["name"].to_pylist()
            rows = [{**empty, "path": name, "p_disease": 0.5, "refused": ""} for name in names]
            contents.append(parts.content(rows, form, found, number))
        began = time.perf_counter()
        for number, content in enumerate(contents):
            made.write(number, content)
        seconds = time.perf_counter() - began
    return listing, sum(found.count(number) for number in range(8)) / seconds


def head(args: argparse.Namespace) -> str:
    """On what it was measured."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(": ")[1] for line in told.splitlines() if line.startswith("model name")), "?")
    return (
        f"{args.threads} cores of {name}; Python {platform.python_version()}; ResNet18 at 224 px, float32; "
        f"{args.rounds} rounds in turn, medians; load at the end {os.getloadavg()[0]:.1f}.\n"
        f"`python benchmarks/scale.py --films {args.films} --full {args.full} --rounds {args.rounds}`"
    )


def table(folder: Path, local: list[Cost], ray: list[Cost], full: list[Cost], threads: int) -> str:
    """What was measured."""
    rows = [
        "| measured | kB a film | films/s | processor ms a film | core-hours a million |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, source, costs in (
        ("local engine, 512 × 512", "small", local),
        ("Ray, 512 × 512", "small", ray),
        ("local engine, 1500 × 1200", "jpeg", full),
    ):
        size = mean_size(folder / source) / 1000
        rate = statistics.median(each.rate for each in costs)
        spent = statistics.median(each.processor / each.films for each in costs)
        by = (
            f"{1000 * spent:.1f} | {spent * 1e6 / 3600:.1f}"
            if spent
            else f"– | {threads / rate * 1e6 / 3600:.1f} by the clock"
        )
        rows.append(f"| {label} | {size:.0f} | {rate:.1f} | {by} |")
    return "\n".join(rows)


def mean_size(folder: Path) -> float:
    """Bytes of a film."""
    return statistics.mean(path.stat().st_size for path in folder.iterdir())


def calculated(
    folder: Path, full: list[Cost], ray: list[Cost], local: list[Cost], args: argparse.Namespace
) -> str:
    """What a million films of full size cost on machines that are not here."""
    spent = statistics.median(each.processor / each.films for each in full)
    share = min(1.0, statistics.median(a.rate / b.rate for a, b in zip(ray, local, strict=True)))
    said = (
        f"Calculated from {1000 * spent:.1f} ms of processor a film (1500 × 1200) and the share {share:.2f} "
        f"of the local engine's films/s that Ray reached; {args.price:g} a core-hour:"
    )
    rows = [
        said,
        "",
        "| machines × cores | hours a million | core-hours | cost | read, MB/s a machine |",
        "|---|---:|---:|---:|---:|",
    ]
    size = mean_size(folder / "jpeg")
    for nodes, cores in NODES:
        rate = nodes * cores * share / spent
        hours = 1e6 / rate / 3600
        spent_hours = hours * nodes * cores
        rows.append(
            f"| {nodes} × {cores} | {hours:.2f} | {spent_hours:.1f} | {spent_hours * args.price:.2f} | "
            f"{rate / nodes * size / 1e6:.0f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
