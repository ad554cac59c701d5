"""What is committed is there, what failed is not, and times keep their zone: on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text

from carina.serving.database import Database
from carina.serving.schema import Event

NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)


def fail_within_a_transaction(database: Database) -> None:
    with database.write() as session:
        session.add(Event(at=NOW, kind="lost", study_id=None))
        session.flush()
        raise ZeroDivisionError


def test_what_is_written_is_read_and_what_failed_is_not(database: Database) -> None:
    with database.write() as session:
        session.add(Event(at=NOW, kind="study", study_id=None))
    with pytest.raises(ZeroDivisionError):
        fail_within_a_transaction(database)
    with database.read() as session:
        assert [event.kind for event in session.scalars(select(Event))] == ["study"]


def test_times_come_back_in_utc_to_the_microsecond(database: Database) -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    with database.write() as session:
        session.add(Event(at=tokyo, kind="study", study_id=None))
    with database.read() as session:
        found = session.scalars(select(Event)).one()
    assert found.at == NOW
    assert found.at.tzinfo == UTC


def test_sqlite_waits_for_the_disk_and_for_other_writers(sqlite: Database) -> None:
    with sqlite.read() as session:
        pragmas = [
            session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]  # 2: FULL
