"""A run that was stopped at any moment goes on: no film twice, none lost, the same table in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pyarrow.parquet
import pytest

from carina.errors import OutputError
from carina.records import Progress
from carina.scoring import run
from carina.scoring.unfinished import Done
from tests.bundles import tiny_bundle

score_films = partial(run.score_films, check=False)  # these films are noise

SUFFIXES = [".csv", ".jsonl", ".parquet"]


def names_of(films: Path, bundle: Path, out: Path) -> list[str]:
    """The films of a table, as a table of them that nobody stopped has them."""
    whole = out.with_name(f"whole{out.suffix}")
    score_films(films, bundle, out=whole)
    return rows(whole)


def rows(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return [str(row) for row in pyarrow.parquet.read_table(path).to_pylist()]
    return path.read_text("utf-8").splitlines()


def stop_after(count: int) -> object:
    def tell(event: Progress) -> None:
        if event.done >= count:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [1, 7, 20])
def test_a_stopped_run_goes_on_and_ends_in_the_same_table(
    films: Path, bundle: Path, tmp_path: Path, suffix: str, count: int
) -> None:
    out = tmp_path / f"s{suffix}"
    with pytest.raises(KeyboardInterrupt) as stopped:
        score_films(films, bundle, out=out, progress=stop_after(count))  # type: ignore[arg-type]
    assert stopped.value.__notes__ == [f"{out}: {count} films have a row; go on with --resume"]
    assert not out.exists()
    told: list[Progress] = []
    summary = score_films(films, bundle, out=out, resume=True, progress=told.append)
    assert (summary.scored, summary.refused) == (20, 0)
    assert len(told) == 20 - count
    assert rows(out) == names_of(films, bundle, out)
    assert {path.name for path in tmp_path.iterdir()} == {f"s{suffix}", f"whole{suffix}"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_killed_anywhere_in_a_row_goes_on(
    films: Path, bundle: Path, tmp_path: Path, suffix: str
) -> None:
    """The hidden file is cut at every byte of its last rows, as a kill or a full disk may leave it."""
    shutil.copytree(films, tmp_path / "films")
    shutil.copy(films / "film_00.png", tmp_path / "films" / 'zz "two\nlines", 🩻.png')
    out = tmp_path / f"s{suffix}"
    with pytest.raises(KeyboardInterrupt):
        score_films(tmp_path / "films", bundle, out=out, progress=stop_after(21))  # type: ignore[arg-type]
    (part,) = tmp_path.glob(".s*.part")
    content, whole = part.read_bytes(), names_of(tmp_path / "films", bundle, out)
    last = 1 + content[:-1].rindex(b"\n", 0, content.index(b"zz "))  # where the last row begins
    for end in (*range(last - 3, len(content), 11), len(content) - 1, len(content)):
        part.write_bytes(content[:end])
        score_films(tmp_path / "films", bundle, out=out, resume=True)
        assert rows(out) == whole, end
        out.unlink()
        part.write_bytes(content[:last] + b"\0" * 700)  # what a crash of the machine may leave
    score_films(tmp_path / "films", bundle, out=out, resume=True)
    assert rows(out) == whole


def test_films_that_came_or_went_meanwhile_are_neither_lost_nor_scored_twice(
    films: Path, bundle: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "films", tmp_path / "s.csv"
    shutil.copytree(films, folder)
    with pytest.raises(KeyboardInterrupt):
        score_films(folder, bundle, out=out, progress=stop_after(9))  # type: ignore[arg-type]
    shutil.copy(films / "film_00.png", folder / "a new one.png")
    (folder / "film_03.png").unlink()
    score_films(folder, bundle, out=out, resume=True)
    names = [line.split(",")[0].rpartition("/")[2] for line in rows(out)[1:]]
    assert sorted(names) == sorted({"a new one.png", *(f"film_{n:02}.png" for n in range(20))})


def test_a_film_named_twice_has_two_rows_also_when_the_run_was_stopped(
    films: Path, bundle: Path, tmp_path: Path
) -> None:
    out, named = tmp_path / "s.jsonl", [films / "film_01.png", films, films / "film_01.png"]
    with pytest.raises(KeyboardInterrupt):
        score_films(named, bundle, out=out, progress=stop_after(2))  # type: ignore[arg-type]
    assert score_films(named, bundle, out=out, resume=True).scored == 22


def test_refusals_of_before_are_counted_and_listed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    for number in range(6):
        (tmp_path / "films" / f"{number}.png").write_text("no film")
    out = tmp_path / "s.csv"
    with pytest.raises(KeyboardInterrupt):
        score_films(tmp_path / "films", bundle, out=out, progress=stop_after(4))  # type: ignore[arg-type]
    summary = score_films(tmp_path / "films", bundle, out=out, resume=True)
    assert (summary.scored, summary.refused, len(summary.refusals)) == (0, 6, 6)
    assert {refusal.code for refusal in summary.refusals} == {"not_an_image"}


def test_rows_of_two_models_never_meet_in_one_table(films: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    with pytest.raises(KeyboardInterrupt):
        score_films(films, bundle, out=out, progress=stop_after(5))  # type: ignore[arg-type]
    other = tiny_bundle(tmp_path / "other", seed=1)
    with pytest.raises(OutputError, match="begun with another model or other options"):
        score_films(films, other, out=out, resume=True)
    with pytest.raises(OutputError, match="begun with another model or other options"):
        run.score_films(films, bundle, out=out, resume=True)
    assert score_films(films, other, out=out).scored == 20  # starting over is always possible
    assert not list(tmp_path.glob(".s.csv*"))


def test_a_complete_table_is_not_begun_again_by_resuming(films: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    assert score_films(films, bundle, out=out, resume=True).scored == 20  # nothing was begun: it begins
    with pytest.raises(OutputError, match="is complete, there is nothing to resume"):
        score_films(films, bundle, out=out, resume=True)


def test_two_runs_never_write_the_same_table(films: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"

    def second(event: Progress) -> None:
        with pytest.raises(OutputError, match="another process is writing it"):
            score_films(films, bundle, out=out)
        with pytest.raises(OutputError, match="another process is writing it"):
            score_films(films, bundle, out=out, resume=True)

    assert score_films(films / "film_00.png", bundle, out=out, progress=second).scored == 1


def test_the_total_is_known_and_members_of_archives_count(films: Path, bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "night.zip", "w") as archive:
        for path in sorted(films.iterdir()):
            archive.write(path, f"../../{path.name}")
    told: list[Progress] = []

    def tell(event: Progress) -> None:
        told.append(event)
        time.sleep(0.005)

    score_films([tmp_path / "night.zip", films], bundle, out=tmp_path / "s.csv", progress=tell)
    assert told[-1].done == told[-1].total == 40
    assert {path.name for path in tmp_path.iterdir()} == {"night.zip", "s.csv"}  # nothing was unpacked
    assert "night.zip!/../../film_00.png" in (tmp_path / "s.csv").read_text()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_killed_at_any_moment_goes_on(
    films: Path, bundle: Path, tmp_path: Path, how: signal.Signals
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(400):
        os.link(films / f"film_{number % 20:02}.png", many / f"{number:03}.png")
    out = tmp_path / "s.csv"
    line = [sys.executable, "-m", "carina", "score", str(many), "--model", str(bundle), "--out", str(out)]
    line.append("--no-check")
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and sum(p.stat().st_size for p in tmp_path.glob(".s.csv*")) < 2000:
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130}.get(how, -how)
    if how == signal.SIGINT:
        assert said.startswith("carina: stopped; ")
        assert said.endswith("films have a row; go on with --resume\n")
    before = next(tmp_path.glob(".s.csv*")).read_text().count("\n") - 1
    done = subprocess.run([*line, "--resume"], capture_output=True, text=True, check=False)
    assert "400 scored, 0 refused" in done.stderr
    assert 0 < before < 400
    names = [row.split(",")[0] for row in rows(out)[1:]]
    assert names == [str(many / f"{number:03}.png") for number in range(400)]
    assert not any(",crashed" in row for row in rows(out))


def test_resuming_without_a_table_is_a_usage_error(films: Path, bundle: Path) -> None:
    line = [sys.executable, "-m", "carina", "score", str(films), "--model", str(bundle), "--resume"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing to resume without --out" in done.stderr


def test_a_name_is_taken_as_often_as_it_has_a_row() -> None:
    done = Done()
    for name in ("a", "b", "b", "c"):
        done.add(name)
    assert [done.take(name) for name in ("a", "c", "b", "new", "b", "b", "a")] == [
        True, True, True, False, True, False, False,
    ]  # fmt: skip
