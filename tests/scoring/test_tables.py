from __future__ import annotations

import csv
import hashlib
import json
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from carina.errors import OutputError
from carina.records import Prediction, Refusal
from carina.scoring.sets import Sets
from carina.scoring.tables import ScoreTable, harmless

CLASSES = ("COVID-19", "Normal")


def prediction(path: str = "a.png", covid: float = 0.7, classes: tuple[str, ...] = CLASSES) -> Prediction:
    return Prediction(
        path=path,
        sha256="0" * 64,
        classes=classes,
        healthy=frozenset({"Normal"}),
        logits=np.zeros(2, np.float32),
        probabilities=np.array([covid, 1 - covid], np.float32),
        embedding=np.zeros(1, np.float32),
        cam=np.zeros((2, 1, 1), np.float32),
        prepared=np.zeros((1, 1), np.uint8),
    )


def fill(path: Path, items: Iterable[Prediction | Refusal]) -> None:
    with ScoreTable(path, CLASSES) as table:
        for item in items:
            table.write(item)


def interrupted() -> Iterator[Prediction]:
    yield prediction()
    raise KeyboardInterrupt


REFUSED = Refusal("b.png", "truncated", "truncated: the PNG stream ends early; fetch the file again")


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_film_has_a_row_and_a_refused_one_has_no_number(tmp_path: Path, suffix: str) -> None:
    with ScoreTable(tmp_path / f"scores{suffix}", CLASSES) as table:
        table.write(prediction())
        table.write(REFUSED)
    scored, refused = read(tmp_path / f"scores{suffix}")
    assert list(scored) == ["path", "class", "p_disease", "p_COVID-19", "p_Normal", "refused"]
    assert (scored["path"], scored["class"], scored["refused"]) == ("a.png", "COVID-19", "")
    assert float(scored["p_disease"]) == pytest.approx(0.7, abs=1e-6)
    assert np.float32(scored["p_Normal"]) == np.float32(1 - 0.7)
    assert refused["refused"].startswith("truncated: ")
    assert [refused[key] for key in ("class", "p_disease", "p_COVID-19")] == [
        "" if suffix == ".csv" else None
    ] * 3
    assert [path.name for path in tmp_path.iterdir()] == [f"scores{suffix}"]


NAMES = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "two\nlines.png",
    "🫁.png",
    'a,"b".png',
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_come_back_as_they_were_but_for_an_apostrophe_in_csv(tmp_path: Path, suffix: str) -> None:
    with ScoreTable(tmp_path / f"scores{suffix}", CLASSES) as table:
        for name in NAMES:
            table.write(prediction(name))
    found = [row["path"] for row in read(tmp_path / f"scores{suffix}")]
    assert found == ([harmless(name) for name in NAMES] if suffix == ".csv" else NAMES)


@pytest.mark.parametrize("cell", NAMES[:7])
def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a.png", "films/=1.png", "0.5", "'quoted", "Größe"])
def test_other_cells_are_left_alone(cell: str) -> None:
    assert harmless(cell) == cell


def test_a_class_with_a_dangerous_name_does_no_harm_in_its_cells(tmp_path: Path) -> None:
    classes = ("=1+1", "Normal")
    with ScoreTable(tmp_path / "s.csv", classes) as table:
        table.write(prediction(classes=classes))
    assert (tmp_path / "s.csv").read_text().splitlines()[1].split(",")[1] == "'=1+1"


def test_a_small_probability_is_a_number_that_no_one_takes_for_a_formula(tmp_path: Path) -> None:
    with ScoreTable(tmp_path / "s.csv", CLASSES) as table:
        table.write(prediction(covid=1e-12))
    (row,) = read(tmp_path / "s.csv")
    assert float(row["p_COVID-19"]) == pytest.approx(1e-12)
    assert not row["p_disease"].startswith("-")


def test_a_name_that_is_no_unicode_is_written_and_not_lost(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        with ScoreTable(tmp_path / f"s.{suffix}", CLASSES) as table:
            table.write(prediction("caf\udce9.png"))
        assert "caf\\udce9.png" in (tmp_path / f"s.{suffix}").read_text("utf-8")


def test_many_rows_go_to_parquet_in_several_groups(tmp_path: Path) -> None:
    with ScoreTable(tmp_path / "s.parquet", CLASSES) as table:
        for number in range(9000):
            table.write(prediction(f"{number}.png"))
    file = pyarrow.parquet.ParquetFile(tmp_path / "s.parquet")
    assert file.num_row_groups == 3
    assert file.read().column("path").to_pylist() == [f"{number}.png" for number in range(9000)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_interrupted_table_does_not_appear_and_the_old_one_stays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill(path, interrupted())
    assert path.read_text() == "old"
    (part,) = (each for each in tmp_path.iterdir() if each != path)
    assert re.fullmatch(rf"\.s\{suffix}\.[0-9a-f]{{12}}\.part", part.name)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB: what is written after that fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_disk_that_takes_no_more_ends_with_where_it_stopped(tmp_path: Path, suffix: str) -> None:
    items = [prediction(hashlib.sha256(b"%d" % number).hexdigest() * 2) for number in range(5000)]
    with pytest.raises(
        OutputError, match=rf"s\{suffix}: writing stopped after [0-9,]+ films: .*File too large.*--resume"
    ):
        fill(tmp_path / f"s{suffix}", items)
    assert not (tmp_path / f"s{suffix}").exists()


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="before the first film"):
        ScoreTable(tmp_path / "file" / "s.csv", CLASSES)


def test_another_ending_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.csv, \.jsonl, \.parquet; choose one"):
        ScoreTable(tmp_path / "s.xlsx", CLASSES)


def test_a_class_that_would_hide_another_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="called like another column"):
        ScoreTable(tmp_path / "s.csv", ("disease", "Normal"))


def test_a_prediction_of_other_classes_is_not_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the table is for"):
        fill(tmp_path / "s.csv", [prediction(classes=("Normal", "COVID-19"))])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_sets_say_what_cannot_be_ruled_out(tmp_path: Path, suffix: str) -> None:
    sets = Sets(coverage=0.9, floors={"COVID-19": 0.2, "Normal": 0.4}, people={"COVID-19": 60, "Normal": 60})
    with ScoreTable(tmp_path / f"scores{suffix}", CLASSES, sets) as table:
        for covid in (0.55, 0.9, 0.1):
            table.write(prediction(covid=covid))
        table.write(REFUSED)
    rows = read(tmp_path / f"scores{suffix}")
    assert [row["set"] or "" for row in rows] == ["COVID-19 or Normal", "COVID-19", "Normal", ""]
    assert list(rows[0])[-2:] == ["set", "refused"]
