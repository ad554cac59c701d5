"""Many films: memory does not grow with their number, and what is hostile stays in its row."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PEAK = """
import sys
from pathlib import Path
from carina.scoring.run import score_films
folder, bundle, out = sys.argv[1:]
summary = score_films(folder, bundle, out=Path(out), top=5, check=False)
status = Path("/proc/self/status").read_text().splitlines()
peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))  # ru_maxrss is inherited
print(summary.scored, summary.refused, peak)
"""


def small_film() -> bytes:
    shades = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(shades).save(held, "PNG")
    return held.getvalue()


def scored(source: Path, bundle: Path, out: Path) -> tuple[int, int, int]:
    """Films scored, films refused and the peak of memory in kB."""
    line = [sys.executable, "-c", PEAK, str(source), str(bundle), str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    found = tuple(map(int, done.stdout.split()))
    return found[0], found[1], found[2]


def folder_of(count: int, place: Path) -> Path:
    place.mkdir()
    (place / "first.png").write_bytes(small_film())
    for number in range(count - 1):
        os.link(place / "first.png", place / f"film {number:06}.png")
    return place


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_films(bundle: Path, tmp_path: Path) -> None:
    few = scored(folder_of(500, tmp_path / "few"), bundle, tmp_path / "few.csv")
    many = scored(folder_of(10_000, tmp_path / "many"), bundle, tmp_path / "many.csv")
    assert (few[:2], many[:2]) == ((500, 0), (10_000, 0))
    assert many[2] < 1.1 * few[2]


@pytest.mark.slow
def test_an_archive_of_ten_thousand_names_that_climb_out_writes_nothing_outside(
    bundle: Path, tmp_path: Path
) -> None:
    film, place = small_film(), tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        for number in range(10_000):
            archive.writestr(f"../../{number}.png", film if number % 10 == 0 else b"no film")
    assert scored(place / "a.zip", bundle, place / "s.csv")[:2] == (1000, 9000)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep", "er", "s.csv"]


def test_a_folder_in_which_one_film_in_twenty_is_broken_has_a_row_for_each(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    content = (films / "film_00.png").read_bytes()
    for number in range(60):
        broken = number % 20 == 7
        (folder / f"{number:02}\n🩻.png").write_bytes(content[: len(content) // 2] if broken else content)
    assert scored(folder, bundle, tmp_path / "s.jsonl")[:2] == (57, 3)
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 60
