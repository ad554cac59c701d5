"""Plans and parts without a cluster: what is listed is what is written, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from carina.errors import OutputError
from carina.records import Refusal
from carina.scoring import parts, plan
from carina.scoring.inputs import Input, Skipped
from carina.scoring.inputs import films as listed
from carina.scoring.parts import Parts
from carina.scoring.rows import Rows
from carina.scoring.scorer import Scorer, is_border
from carina.scoring.stored import reading

FORM = Rows(("Bacterial Pneumonia", "COVID-19", "Normal"))


def made(out: Path, films: Path, cores: int = 2) -> plan.Plan:
    skipped = Skipped()
    return plan.make(out, listed([films], skipped, contents=False), [str(films)], "key", cores, skipped)


def part_of(scorer: Scorer, table: Parts, number: int) -> bytes:
    items = reading(plan.inputs(table.listing.table(number)))
    rows = [FORM.of(each) for each in scorer.answers(items, at=table.plan.first(number))]
    return parts.content(rows, FORM, table.plan, number)


def test_parts_begin_where_handfuls_end() -> None:
    sizes = [plan.LEAST << step for step in range(7)]
    assert sizes[-1] == plan.MOST
    assert all(
        is_border(number * size, batch) for size in sizes for number in (1, 2, 3) for batch in (1, 2, 4)
    )


@pytest.mark.parametrize(("films", "part", "count"), [(0, 16, 1), (20, 16, 2), (4000, 256, 16)])
def test_films_are_cut_into_parts_that_keep_two_cores_busy(
    tmp_path: Path, films: int, part: int, count: int
) -> None:
    items = (Input(f"{number}.png", address=f"s3://b/{number}.png", size=1) for number in range(films))
    found = plan.make(tmp_path, items, ["s3://b"], "key", 2, Skipped())
    assert (found.part, found.parts) == (part, count)
    assert sum(found.count(number) for number in range(found.parts)) == films


def test_a_plan_is_read_back_as_it_was_listed(tmp_path: Path, films: Path) -> None:
    strange = Path("a\udcffb.png")
    items: list[Input | Refusal] = [
        Input("a\\xffb.png", path=strange),
        Input("s3://b/é.png", address="s3://b/é.png", size=7),
        Input("w.zip!/x.png", path=Path("w.zip"), member=3),
        Refusal("locked", "unreadable", "unreadable: no access; grant access to this folder"),
    ]
    found = plan.make(tmp_path, items, [], "key", 1, Skipped())
    assert plan.opened(tmp_path) == found
    assert plan.inputs(plan.Listing(tmp_path, found).table(0)) == items


def test_the_rows_of_parts_are_those_of_the_whole(tmp_path: Path, films: Path, scorer: Scorer) -> None:
    found = made(tmp_path, films)
    with Parts(tmp_path, found, FORM) as table:
        for number in (1, 0):
            assert table.write(number, part_of(scorer, table, number)) is not None
        assert table.write(0, b"an answer that came twice") is None
        table.finish({"films": found.films})
    rows = [row for path in sorted(tmp_path.glob("part-*")) for row in pq.read_table(path).to_pylist()]
    whole = [FORM.of(each) for each in scorer.score(films)]
    assert [row["path"] for row in rows] == [row["path"] for row in whole]
    for row, other in zip(rows, whole, strict=True):
        assert row["p_disease"] == pytest.approx(other["p_disease"], abs=1e-7)
    told = json.loads((tmp_path / parts.MANIFEST).read_text())
    assert [each["films"] for each in told["parts"]] == [16, 4]


def test_a_part_of_another_run_or_a_cut_one_is_made_again(
    tmp_path: Path, films: Path, scorer: Scorer
) -> None:
    found = made(tmp_path, films)
    with Parts(tmp_path, found, FORM) as table:
        content = part_of(scorer, table, 1)
        with pytest.raises(ValueError, match="part 0 is of another run"):
            table.write(0, content)
        table.write(1, content)
        with pytest.raises(ValueError, match="part 0 of 2 was not written"):
            table.finish({})
    table.path(0).write_bytes(content)
    with Parts(tmp_path, found, FORM) as again:
        assert [rows.num_rows for rows in again.earlier()] == [4]
        assert again.missing() == [0]
    table.path(1).write_bytes(content[:-9])
    with Parts(tmp_path, found, FORM) as again:
        assert list(again.earlier()) == []


def test_two_writers_never_share_a_folder(tmp_path: Path, films: Path) -> None:
    found = made(tmp_path, films)
    with Parts(tmp_path, found, FORM), pytest.raises(OutputError, match="another process is writing it"):
        Parts(tmp_path, found, FORM).__enter__()


def test_places_that_cannot_take_parts_are_said_before_the_work(tmp_path: Path, films: Path) -> None:
    with pytest.raises(OutputError, match="is the name of a file; many machines write a folder"):
        parts.check_place(tmp_path / "s.csv", resume=False)
    with pytest.raises(OutputError, match="parts are written to a folder of this machine"):
        parts.check_place(Path("s3:/bucket/out"), resume=False)
    (tmp_path / "a").write_text("mine")
    with pytest.raises(OutputError, match="is not empty; name another folder"):
        parts.check_place(tmp_path, resume=False)
    made(tmp_path / "out", films)
    with pytest.raises(OutputError, match="holds scores that were begun; go on with --resume"):
        parts.check_place(tmp_path / "out", resume=False)
    parts.check_place(tmp_path / "out", resume=True)
    (tmp_path / "out" / parts.MANIFEST).write_text("{}")
    with pytest.raises(OutputError, match="holds scores that are complete; there is nothing to resume"):
        parts.check_place(tmp_path / "out", resume=True)
