"""The database: SQLite in one file by default, PostgreSQL where a site outgrows that.

Knows how to open it so that what is committed is on the disk: SQLite in WAL mode with ``synchronous =
FULL`` (with ``NORMAL`` a power cut loses committed rows). Once the disk has failed to make the file of
SQLite last (fsync), a later success proves nothing of what was written before: the database then says so
in ``fault``, and nothing more is taken in until the next start. The write-ahead log is brought into the file
by us, for SQLite does it after a commit and keeps its errors to itself. Knows nothing of what is kept in it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from carina.errors import StoreFault

WAIT = 30.0  # seconds that a writer waits for another one in SQLite
_NOT_SYNCED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
_CHECKPOINT = 64  # transactions after which the write-ahead log is brought into the file
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
        self._written = 0  # transactions since the write-ahead log was brought into the file
        self.fault: str | None = None  # a sentence, once the disk has failed under it
        self._waiting: deque[_Piece] = deque()
        if self.is_sqlite:
            event.listen(self.engine, "handle_error", self._look_at)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "do_connect", _make_private)
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
        with turn:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
            self._count()

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
                self._count()
        if mine.error is not None:
            raise mine.error
        return cast("T", mine.answer)

    def _do(self, group: list[_Piece]) -> None:
        """Commit the work of ``group``, together or else one by one; none once the disk has failed."""
        try:
            if self.fault is not None:
                raise StoreFault(self.fault)
            with self._writer.begin() as connection:
                for piece in group:
                    piece.answer = piece.work(connection)
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception) and self.fault is None:
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

    def _count(self) -> None:
        """One more transaction of SQLite; the write-ahead log is brought into the file now and then.

        What was committed is on the disk before, in that log, and stays there where this fails.
        """
        self._written += self.is_sqlite
        if self._written < _CHECKPOINT:
            return
        self._written = 0
        link = self.engine.raw_connection()
        try:
            _bring_into_file(link)
        except sqlite3.Error as error:
            self._remember(error)
        finally:
            link.close()

    def _look_at(self, context: ExceptionContext) -> None:
        self._remember(context.original_exception)

    def _remember(self, error: BaseException) -> None:
        """Remember an fsync that failed, in whichever thread it was."""
        if getattr(error, "sqlite_errorcode", None) in _NOT_SYNCED:
            self.fault = (
                f"the disk under {self.url.database} could not make the database last; nothing more is taken "
                "in: see to the disk, then start Carina again"
            )


def _options(backend: str) -> dict[str, Any]:
    """For the engine; no error message may quote what is kept: it ends in a log."""
    if backend == "sqlite":
        return {"hide_parameters": True, "connect_args": {"timeout": WAIT, "check_same_thread": False}}
    return {"hide_parameters": True, "pool_pre_ping": True, "pool_size": 10, "max_overflow": 20}


def _make_private(_dialect: Any, _record: object, arguments: list[Any], _options: object) -> None:
    """A new file is its owner's alone, whatever the umask; SQLite gives its other files the same mode.

    One that is there is never opened here: closing it would take the locks of all connections that this
    process has to it (POSIX; sqlite.org/howtocorrupt.html, 2.2), and another process that ends would then
    remove the write-ahead log under them.
    """
    path = str(arguments[0]) if arguments else ""
    if path and not path.startswith((":", "file:")):
        with suppress(OSError):  # it is there; and what is wrong else, connecting says
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN, not the driver's
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {int(WAIT * 1000)}",
        "wal_autocheckpoint = 0",
        "cache_size = -512",  # kB a connection; the system keeps the file's pages for all of them together
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _bring_into_file(connection: Any) -> None:
    """The write-ahead log of SQLite, as far as no reader needs it."""
    connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("carina_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
