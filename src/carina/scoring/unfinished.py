"""A table that is being written: a hidden file beside it, row by row, that a killed run can go on with.

Every row is written at once and whole; what a kill or a full disk leaves behind the last whole row is cut
off when the file is taken up again. The file's name tells which model and which columns it is of, so that
rows of two models never meet in one table. Knows lines, not scores.
"""

from __future__ import annotations

import csv
import fcntl
import glob
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from carina.errors import OutputError

_LONGEST = 1 << 20  # bytes of a row

Cells = dict[str, Any]  # column → text, number or None


class Form(Protocol):
    """How rows are written as lines, and read back."""

    def head(self, columns: Sequence[str]) -> bytes: ...
    def line(self, row: Cells) -> bytes: ...
    def row(self, line: bytes, columns: Sequence[str]) -> Cells | None: ...


class Unfinished:
    """The open file. ``rows`` are those it held already; it is locked against every other writer."""

    def __init__(self, table: Path, key: str, form: Form, columns: Sequence[str], *, resume: bool) -> None:
        self.path = table.with_name(f".{table.name}.{key}.part")
        self._form, self._columns = form, tuple(columns)
        if resume:
            _check_same(table, self.path)
        self.count = 0  # whole rows that the file held when it was opened
        self._handle = _locked(self.path, table)
        try:
            _remove_others(table, self.path)
            self._begin(form.head(columns), resume=resume)
        except BaseException:
            os.close(self._handle)
            raise

    def write(self, row: Cells) -> None:
        """Add a row; raises ``OSError`` where the disk takes no more."""
        _write_all(self._handle, self._form.line(row))

    def earlier(self) -> Iterator[Cells]:
        """The rows that the file held when it was opened, one by one."""
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            yield from self._rows(file, self._earlier)

    def all(self) -> Iterator[Cells]:
        """All rows, those of before and those written since."""
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            yield from self._rows(file, os.fstat(self._handle).st_size)

    def close(self, *, remove: bool) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1

    def sync(self) -> None:
        """Through to the disk."""
        os.fsync(self._handle)

    def _begin(self, head: bytes, *, resume: bool) -> None:
        self._earlier = 0  # bytes of whole rows, the head included
        if resume:
            with os.fdopen(os.dup(self._handle), "rb") as file:
                if file.read(len(head)) == head:
                    self._earlier = len(head)
                    self.count = sum(1 for _ in self._rows(file, None))
        os.ftruncate(self._handle, self._earlier)
        os.lseek(self._handle, 0, os.SEEK_END)
        if not self._earlier:
            _write_all(self._handle, head)
            self._earlier = len(head)

    def _rows(self, file: io.BufferedReader, end: int | None) -> Iterator[Cells]:
        """The whole rows after the head; without ``end`` finds where the last of them ends."""
        file.seek(len(self._form.head(self._columns)))
        at, line = file.tell(), b""
        while (end is None or at < end) and (more := file.readline()):
            line += more
            row = self._form.row(line, self._columns)
            if row is None and len(line) > _LONGEST:
                return  # what a crash of the machine left behind
            if row is not None:
                at, line = at + len(line), b""
                if end is None:
                    self._earlier = at
                yield row


class CsvForm:
    """Comma-separated values; a name may hold line ends, between quotes."""

    def head(self, columns: Sequence[str]) -> bytes:
        return _comma_separated([harmless(column) for column in columns])

    def line(self, row: Cells) -> bytes:
        return _comma_separated([harmless(cell) if isinstance(cell, str) else cell for cell in row.values()])

    def row(self, line: bytes, columns: Sequence[str]) -> Cells | None:
        if not line.endswith(b"\n") or line.count(b'"') % 2:
            return None
        with suppress(csv.Error, UnicodeDecodeError):
            cells = next(csv.reader(io.StringIO(line[:-1].decode(), newline="")), [])
            if len(cells) == len(columns):
                return dict(zip(columns, cells, strict=True))
        return None


class JsonForm:
    """One JSON object a line."""

    def head(self, columns: Sequence[str]) -> bytes:
        return b""

    def line(self, row: Cells) -> bytes:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode("utf-8", "backslashreplace")

    def row(self, line: bytes, columns: Sequence[str]) -> Cells | None:
        if not line.endswith(b"\n"):
            return None
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and tuple(row) == tuple(columns):
                return row
        return None


class Done:
    """The films that have a row already, by name, each as often as it has one.

    Holds a hash of 16 bytes for each. While films come in the order of the rows, as they do unless files
    came or went meanwhile, nothing is searched for.
    """

    def __init__(self) -> None:
        self._hashes: list[bytes] = []
        self._at = 0
        self._others: dict[bytes, int] | None = None

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: str) -> None:
        """Take note of a row."""
        self._hashes.append(_hash(name))

    def take(self, name: str) -> bool:
        """Whether a film of this name has a row that no film before it was found for."""
        wanted = _hash(name)
        if self._others is None:
            if self._at == len(self._hashes):
                return False
            if self._hashes[self._at] == wanted:
                self._at += 1
                return True
            self._others = {}
            for each in self._hashes[self._at :]:
                self._others[each] = self._others.get(each, 0) + 1
        left = self._others.get(wanted, 0)
        if left:
            self._others[wanted] = left - 1
        return left > 0


_RISKY = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\0",
    "＝",
    "＋",
    "－",
    "＠",
)  # CWE-1236; full-width forms too


def harmless(cell: str) -> str:
    """A text cell that no spreadsheet takes for a formula: with an apostrophe where one might (CWE-1236)."""
    return f"'{cell}" if cell.lstrip(" \u00a0\ufeff").startswith(_RISKY) else cell


def _comma_separated(cells: Sequence[object]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)  # with its own line ends, so that a \r in a name is quoted
    return (line.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "backslashreplace")


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _others(table: Path, mine: Path) -> list[Path]:
    found = table.parent.glob(f".{glob.escape(table.name)}.*.part")
    return [path for path in found if path != mine]


def _check_same(table: Path, mine: Path) -> None:
    if mine.exists():
        return
    if _others(table, mine):
        raise OutputError(
            f"{table}: was begun with another model or other options; name those, or leave --resume out to "
            "start over"
        )
    if table.exists():
        raise OutputError(
            f"{table}: is complete, there is nothing to resume; leave --resume out to score again"
        )


def _locked(path: Path, table: Path) -> int:
    """A handle on the file, which is ours until it is closed."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, handle):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise OutputError(
                f"{table}: another process is writing it; wait for that, or name another file with --out"
            ) from None
        os.close(handle)  # its writer has just finished, and the file has become the table


def _is_still(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))  # noqa: PTH116
    return False


def _remove_others(table: Path, mine: Path) -> None:
    """Rows of other models that nobody is writing: this table takes their place."""
    for path in _others(table, mine):
        with suppress(OSError, BlockingIOError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def _write_all(handle: int, content: bytes) -> None:
    at, whole = 0, memoryview(content)
    while at < len(whole):
        at += os.write(handle, whole[at:])
