"""The worklist: in order of need, found again, counted, and fast with 100,000 studies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from carina.serving.database import Database
from carina.serving.schema import Base, Instance, Rank, Series, Study
from carina.serving.worklist import Filter, Order, State, counts, page, prior, total
from tests.serving.worklists import NOON, add_study


def numbers(database: Database, wanted: Filter, **where: int) -> list[int]:
    with database.read() as session:
        return [row.id for row in page(session, wanted, **where)]


@pytest.fixture
def ward(database: Database) -> dict[str, int]:
    """Studies of all kinds: name → number."""
    facts: dict[str, dict[str, object]] = {
        "unflagged": {"rank": 3, "weight": -0.2},
        "clear": {"rank": 4, "weight": -0.01},
        "unread": {"rank": 2, "weight": 0.0, "patient_name": "Люкceмбypг", "second_reading": False},
        "soon": {"rank": 1, "weight": -0.6, "patient_id": "S_1%", "accession": "Acc-77"},
        "sooner": {"rank": 1, "weight": -0.9, "patient_name": "MÜLLER^Änne", "patient_id": "S2"},
        "now": {"rank": 0, "weight": -0.7, "finding": "TB", "patient_id": "S2"},
        "raised": {"rank": 1, "weight": -1.0, "raised_at": NOON},
        "drawn": {"rank": 3, "weight": -0.1, "second_reading": True},
        "read": {"rank": 0, "weight": -0.8, "read_at": NOON, "read_by": "anna"},
    }
    with database.write() as session:
        return {
            name: add_study(session, at=NOON + timedelta(seconds=number), **values).id
            for number, (name, values) in enumerate(facts.items())
        }


def test_open_studies_stand_in_order_of_need(database: Database, ward: dict[str, int]) -> None:
    order = ["now", "raised", "sooner", "soon", "unread", "unflagged", "drawn", "clear"]
    assert numbers(database, Filter()) == [ward[name] for name in order]
    assert numbers(database, Filter(), offset=2, limit=3) == [ward[name] for name in order[2:5]]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(state=State.READ), ["read"]),
        (Filter(state=State.ALL, ranks=(Rank.NOW,)), ["now", "read"]),
        (Filter(ranks=(Rank.NOT_ANALYSED, Rank.LIKELY_CLEAR)), ["unread", "clear"]),
        (Filter(text="ACC-7"), ["soon"]),
        (Filter(text="acc-7"), ["soon"]),
        (Filter(text="s_1%"), ["soon"]),
        (Filter(text="S2"), ["now", "sooner"]),
        (Filter(text="müller"), ["sooner"]),
        (Filter(text="änn"), ["sooner"]),
        (Filter(text="Люкceм"), ["unread"]),
        (Filter(text="S2 müller"), ["sooner"]),
        (Filter(text="%"), []),
        (Filter(text="' OR 1=1 --"), []),
        (Filter(second_reading=True), ["drawn"]),
        (Filter(overdue=True), ["raised"]),
        (Filter(finding="TB"), ["now"]),
        (Filter(since=NOON + timedelta(seconds=7)), ["drawn"]),
        (Filter(until=NOON + timedelta(seconds=1)), ["unflagged"]),
        (Filter(order=Order.ARRIVAL, ranks=(Rank.SOON,)), ["soon", "sooner", "raised"]),
        (Filter(order=Order.LATEST, ranks=(Rank.SOON,)), ["raised", "sooner", "soon"]),
    ],
)
def test_studies_are_found_by_what_is_known_of_them(
    database: Database, ward: dict[str, int], wanted: Filter, names: list[str]
) -> None:
    assert numbers(database, wanted) == [ward[name] for name in names]
    with database.read() as session:
        assert total(session, wanted) == len(names)


def test_open_studies_are_counted_by_rank(database: Database, ward: dict[str, int]) -> None:
    with database.read() as session:
        assert list(counts(session).values()) == [1, 3, 1, 2, 1]


def test_a_row_says_how_many_films_of_which_kind(database: Database, ward: dict[str, int]) -> None:
    with database.read() as session:
        (row,) = page(session, Filter(finding="TB"))
    assert (row.films, row.modalities, row.patient_id) == (1, ("DX",), "S2")


def test_other_studies_of_a_patient_are_found(database: Database, ward: dict[str, int]) -> None:
    with database.read() as session:
        study = session.get_one(Study, ward["now"])
        assert [row.id for row in prior(session, study)] == [ward["sooner"]]


def fill(database: Database, studies: int) -> None:
    """Many studies at once, as years of work leave them."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    facts = [
        {
            "id": n, "uid": f"1.2.3.{n}", "patient_id": f"P{n % 40_000:06}", "patient_name": f"Doe^Jane {n}",
            "accession": f"A{n}", "origin": "dicom", "state": "complete", "version": 1,
            "received_at": day + timedelta(seconds=n), "last_received_at": day + timedelta(seconds=n),
            "rank": (0, 1, 1, 2, 3, 3, 3, 3, 3, 4)[n % 10], "weight": -(n * 7919 % 1000) / 1000,
            "second_reading": n % 50 == 0, "conflict": False, "read_at": day if n % 3 == 0 else None,
        }
        for n in range(1, studies + 1)
    ]  # fmt: skip
    series = [
        {"id": n, "study_id": n, "uid": f"1.2.3.{n}.1", "modality": "DX"} for n in range(1, studies + 1)
    ]
    films = [
        {
            "id": n, "study_id": n, "series_id": n, "uid": f"1.2.3.{n}.1.1", "media_type": "image/png",
            "sha256": "0" * 64, "size": 1, "path": "none", "received_at": day, "conflict": False,
        }
        for n in range(1, studies + 1)
    ]  # fmt: skip
    with database.write() as session:
        session.execute(insert(Study), facts)
        session.execute(insert(Series), series)
        session.execute(insert(Instance), films)


def steps(database: Database, ask: Callable[[Session], object]) -> int:
    """Instructions of SQLite's machine that ``ask`` costs, in hundreds."""
    count = 0

    def one_more() -> int:
        nonlocal count
        count += 1
        return 0

    with database.read() as session:
        machine: Any = session.connection().connection.driver_connection
        machine.set_progress_handler(one_more, 100)
        try:
            ask(session)
        finally:
            machine.set_progress_handler(None, 0)
    return count


PAGES: dict[str, Callable[[Session], object]] = {
    "first page": lambda session: page(session, Filter()),
    "deep page": lambda session: page(session, Filter(), offset=1_500),
    "by rank": lambda session: page(session, Filter(ranks=(Rank.NOT_FLAGGED,)), offset=500),
    "second readings": lambda session: page(session, Filter(second_reading=True)),
}
SCANS: dict[str, Callable[[Session], object]] = {  # these look at each study, once
    "by accession number": lambda session: page(session, Filter(text="A500")),
    "read": lambda session: page(session, Filter(state=State.READ)),
    "counts": counts,
}


def test_a_page_costs_the_same_however_many_studies_there_are(tmp_path: Path) -> None:
    few, many = (Database(f"sqlite:///{tmp_path / name}.sqlite") for name in ("few", "many"))
    for database, studies in ((few, 4_000), (many, 16_000)):
        Base.metadata.create_all(database.engine)
        fill(database, studies)
    for name, ask in PAGES.items():
        with_few, with_many = steps(few, ask), steps(many, ask)
        assert with_many <= 1.5 * with_few + 20, (name, with_few, with_many)
    for name, ask in SCANS.items():
        assert 100 * steps(many, ask) <= 40 * 16_000, name
    for database in (few, many):
        database.close()
