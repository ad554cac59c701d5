"""The database: SQLite in one file by default, PostgreSQL where a site outgrows that.

Knows how to open it so that what is committed is on the disk: SQLite in WAL mode with ``synchronous =
FULL`` (with ``NORMAL`` a power cut loses committed rows). Knows nothing of what is kept in it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

WAIT = 30.0  # seconds that a writer waits for another one in SQLite
_TOGETHER = 64  # pieces of work in one transaction
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Piece:
    """Work that waits for a transaction, and then what came of it."""

    work: Callable[[Connection], Any]
    done: bool = False
    answer: Any = None
    error: BaseException | None = None


class Database:
    """One database. ``url`` is SQLAlchemy's: ``sqlite:////data/carina.sqlite``, ``postgresql+psycopg://…``."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.engine: Engine = create_engine(self.url, **_options(self.url.get_backend_name()))
        self._writer = self.engine.execution_options(carina_writes=True)
        self._turn = threading.RLock()  # SQLite's own waiting is a sleep that grows to 0.1 s
        self._waiting: deque[_Piece] = deque()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite: one writer at a time, one machine."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end, or rolled back when anything is raised.

        In SQLite it takes the write lock at once (``BEGIN IMMEDIATE``), so that two writers wait for each
        other instead of failing half-way.
        """
        turn = self._turn if self.is_sqlite else nullcontext()
        with turn, Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def together(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` answers, once that it wrote is committed; what it raises, once that is undone.

        In SQLite, where one transaction is written at a time, the work of all threads that wait is done in
        one, and brought to the disk once. Where any of it fails, all is rolled back and each is done alone;
        so ``work`` may be called twice. PostgreSQL does the like by itself.
        """
        if not self.is_sqlite:
            with self._writer.begin() as connection:
                return work(connection)
        mine = _Piece(work)
        self._waiting.append(mine)
        with self._turn:
            while not mine.done:  # else whoever had the turn before did it
                self._do([self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))])
        if mine.error is not None:
            raise mine.error
        return cast("T", mine.answer)

    def _do(self, group: list[_Piece]) -> None:
        """Commit the work of ``group``, together or else one by one."""
        try:
            with self._writer.begin() as connection:
                for piece in group:
                    piece.answer = piece.work(connection)
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception):
                for piece in group:
                    self._do([piece])
                return
            for piece in group:
                piece.error = error
        for piece in group:
            piece.done = True

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads; it sees one state of the database throughout."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _options(backend: str) -> dict[str, Any]:
    """For the engine; no error message may quote what is kept: it ends in a log."""
    if backend == "sqlite":
        return {"hide_parameters": True, "connect_args": {"timeout": WAIT, "check_same_thread": False}}
    return {"hide_parameters": True, "pool_pre_ping": True, "pool_size": 10, "max_overflow": 20}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN, not the driver's
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {int(WAIT * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("carina_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
