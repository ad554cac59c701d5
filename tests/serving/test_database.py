"""What is committed is there, what failed is not, and times keep their zone: on both databases."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, select, text

from carina.errors import StoreFault
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


_LOOKS_AND_ENDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM events").fetchall()
connection.close()
"""


def test_another_process_that_ends_leaves_the_write_ahead_log(sqlite: Database, tmp_path: Path) -> None:
    """It takes itself for the last one where this process has lost its locks: by closing the file once."""
    path = tmp_path / "carina.sqlite"
    with sqlite.read() as one, sqlite.read() as two:
        for session in (one, two):
            session.scalars(select(Event)).all()
    second = Database(f"sqlite:///{path}")
    with second.read() as session:
        session.scalars(select(Event)).all()
    second.close()
    other = [sys.executable, "-c", _LOOKS_AND_ENDS, str(path)]
    subprocess.run(other, check=True)
    assert path.with_name("carina.sqlite-wal").exists()
    with sqlite.write() as session:
        session.add(Event(at=NOW, kind="study", study_id=None))
    subprocess.run(other, check=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT kind FROM events").fetchall() == [("study",)]


def noting(kind: str) -> Callable[[Connection], str]:
    """Work that writes one event; it answers the event's kind, and fails for the kind "fault"."""

    def work(connection: Connection) -> str:
        connection.execute(insert(Event), {"at": NOW, "kind": kind})
        if kind == "fault":
            raise ZeroDivisionError
        return kind

    return work


def all_at_once(database: Database, kinds: list[str]) -> list[Future[str]]:
    """The work of as many threads, which all waited for their turn before any of it began."""
    with ThreadPoolExecutor(len(kinds)) as threads, database._turn:
        said = [threads.submit(database.together, noting(kind)) for kind in kinds]
        end = time.monotonic() + 20
        while database.is_sqlite and len(database._waiting) < len(kinds) and time.monotonic() < end:
            threading.Event().wait(0.005)
    return said


def kept(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(session.scalars(select(Event.kind)))


def test_the_work_of_many_threads_is_all_there(database: Database) -> None:
    kinds = [f"study {number}" for number in range(8)]
    assert [each.result() for each in all_at_once(database, kinds)] == kinds
    assert kept(database) == kinds


def test_who_waits_in_sqlite_is_committed_with_the_others_and_answered_after_that(sqlite: Database) -> None:
    commits: list[list[str]] = []
    event.listen(sqlite.engine, "commit", lambda connection: commits.append(kept(sqlite)))
    said = all_at_once(sqlite, ["one", "two", "three"])
    assert commits == [[]]  # one commit for the three, and before it nothing was to be seen
    assert [each.result() for each in said] == ["one", "two", "three"]


def test_who_fails_takes_nobody_with_them(sqlite: Database) -> None:
    one, fault, three = all_at_once(sqlite, ["one", "fault", "three"])
    assert (one.result(), three.result()) == ("one", "three")
    assert isinstance(fault.exception(), ZeroDivisionError)
    assert kept(sqlite) == ["one", "three"]


def test_a_disk_that_failed_is_not_asked_again_for_any_of_them(sqlite: Database) -> None:
    """A second fsync may say that all is well, and prove nothing."""
    asked = []

    @event.listens_for(sqlite.engine, "commit")
    def fail(connection: Connection) -> None:
        asked.append(connection)
        sqlite.fault = "the disk failed"
        raise ZeroDivisionError

    said = all_at_once(sqlite, ["one", "two"])
    assert [type(each.exception()) for each in said] == [ZeroDivisionError, ZeroDivisionError]
    with pytest.raises(StoreFault, match="the disk failed"):
        sqlite.together(noting("three"))
    assert len(asked) == 1
    assert kept(sqlite) == []


def test_the_write_ahead_log_does_not_grow_without_end(sqlite: Database) -> None:
    """SQLite's own checkpoints are off; 1,200 transactions write five times what the log may hold."""
    for _ in range(1200):
        with sqlite.write() as session:
            session.add(Event(at=NOW, kind="x" * 3000, study_id=None))
    log = Path(f"{sqlite.url.database}-wal")
    assert log.stat().st_size < 3 * 2**20
    sqlite.close()
    assert not log.exists()


def _disk_fails(_link: object) -> None:
    fault = sqlite3.OperationalError("disk I/O error")
    fault.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    raise fault


def test_a_disk_that_fails_when_the_log_is_brought_into_the_file_is_told(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carina.serving.database._bring_into_file", _disk_fails)
    for _ in range(64):
        assert sqlite.fault is None
        sqlite.together(lambda link: link.execute(insert(Event), [{"at": NOW, "kind": "study"}]))
    assert "could not make the database last" in str(sqlite.fault)
    with sqlite.read() as session:
        assert len(session.scalars(select(Event)).all()) == 64  # what was answered is kept
    with pytest.raises(StoreFault, match="could not make the database last"):
        sqlite.together(lambda link: link.execute(insert(Event), [{"at": NOW, "kind": "study"}]))
