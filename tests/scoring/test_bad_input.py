"""What goes wrong around the films, through the command line: a row for each, or how to go on."""

from __future__ import annotations

import csv
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def score(bundle: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "carina", "score", *map(str, words), "--model", str(bundle), "--no-check"]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, **options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_empty_folder_ends_well_and_says_so(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = score(bundle, tmp_path / "none", "--out", tmp_path / "s.csv")
    assert done.returncode == 0
    assert "warning: no film was found in" in done.stderr
    assert rows(tmp_path / "s.csv") == []


def test_a_full_disk_says_where_it_stopped_and_resuming_completes_the_table(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(60):
        shutil.copy(films / f"film_{number % 20:02}.png", folder / f"{number:02}{'x' * 100}.png")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    out = tmp_path / "s.csv"
    stopped = score(bundle, folder, "--out", out, preexec_fn=little_room)
    assert stopped.returncode == 1
    found = re.search(
        r"writing stopped after (\d+) films: .*; make room and go on with --resume", stopped.stderr
    )
    assert found, stopped.stderr
    assert 5 < int(found[1]) < 60
    assert not out.exists()
    went_on = score(bundle, folder, "--out", out, "--resume")
    assert went_on.returncode == 0, went_on.stderr
    assert [Path(row["path"]).name[:2] for row in rows(out)] == [f"{number:02}" for number in range(60)]
    assert all(row["p_disease"] for row in rows(out))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_film_that_may_not_be_read_has_a_row_with_the_cure(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(films / "film_00.png", tmp_path / name)
    (tmp_path / "a.png").chmod(0)
    done = score(bundle, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "s.csv")
    assert done.returncode == 0
    refused, scored = rows(tmp_path / "s.csv")
    assert "it may not be read; give the account that runs Carina leave" in refused["refused"]
    assert scored["p_disease"]


def test_a_film_that_is_replaced_all_the_time_is_read_whole_or_refused(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    """A writer rewrites the film in place while it is read again and again: never a half of two films."""
    target = tmp_path / "film.png"
    shutil.copy(films / "film_00.png", target)
    one, other = ((films / f"film_0{number}.png").read_bytes() for number in (0, 1))
    code = (
        "import sys, itertools, pathlib\n"
        "target, one, other = map(pathlib.Path, sys.argv[1:])\n"
        "both = one.read_bytes(), other.read_bytes()\n"
        "print(flush=True)\n"
        "for content in itertools.cycle(both):\n"
        "    with target.open('r+b', buffering=0) as file:\n"
        "        file.truncate(len(content) // 2)\n"
        "        file.write(content)\n"
        "        file.truncate(len(content))\n"
    )
    line = [sys.executable, "-c", code, target, films / "film_00.png", films / "film_01.png"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        done = score(bundle, *[target] * 40, "--out", tmp_path / "s.csv")
        writer.kill()
    assert done.returncode == 0, done.stderr
    target.write_bytes(one)
    (tmp_path / "other.png").write_bytes(other)
    score(bundle, target, tmp_path / "other.png", "--out", tmp_path / "true.csv")
    true = {row["p_disease"] for row in rows(tmp_path / "true.csv")}
    found = rows(tmp_path / "s.csv")
    assert len(found) == 40
    for row in found:
        assert row["refused"] or row["p_disease"] in true, row
