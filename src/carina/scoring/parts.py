"""The score table of millions of films: a folder of Parquet parts, and a manifest that is written last.

    part-000000.parquet   rows of films 0 … of the plan; the parts one after the other are the whole table
    _plan/                what is scored (:mod:`carina.scoring.plan`)
    _manifest.json        counts and the sha256 of every part; where it stands, no row is missing

Readers of Parquet folders pass over names that begin with an underscore. A part is written once and whole;
one that is there is looked at before it is believed. Knows files, not machines.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from carina.errors import OutputError
from carina.folders import check_can_write
from carina.scoring.plan import FOLDER, Listing, Plan, write_whole
from carina.scoring.rows import Row, Rows

MANIFEST = "_manifest.json"
_MARK = b"carina"  # in the metadata of a part: whose it is


def content(rows: Sequence[Row], form: Rows, plan: Plan, number: int) -> bytes:
    """One part as the bytes of its file."""
    schema = form.schema().with_metadata({_MARK: _mark(plan, number)})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def check_place(out: Path, *, resume: bool) -> None:
    """Raises ``OutputError`` where no parts can be written, or others' lie; asked before films are listed."""
    if out.parts[:1] and out.parts[0].endswith(":"):  # an address, of which Path has kept one slash
        raise OutputError(f"{out}: parts are written to a folder of this machine; name one with --out")
    if out.suffix.lower() in (".csv", ".jsonl", ".parquet"):
        raise OutputError(f"{out}: is the name of a file; many machines write a folder, name one with --out")
    check_can_write(out)
    if (out / MANIFEST).exists():
        cure = "there is nothing to resume" if resume else "name another folder"
        raise OutputError(f"{out}: holds scores that are complete; {cure}")
    if not resume and os.path.isdir(out) and any(out.iterdir()):  # noqa: PTH112
        begun = (out / FOLDER).is_dir()
        cure = "go on with --resume, or name another folder" if begun else "name another folder"
        raise OutputError(f"{out}: {'holds scores that were begun' if begun else 'is not empty'}; {cure}")


class Parts:
    """The folder while it is written; a context manager that keeps other writers out.

    Raises ``OutputError`` where another process writes it, and where the disk fails.
    """

    def __init__(self, out: Path, plan: Plan, form: Rows) -> None:
        self.out, self.plan, self._form = out, plan, form
        self.listing = Listing(out, plan)
        self._hashes: dict[int, str] = {}
        self._handle = -1

    def __enter__(self) -> Self:
        self._handle = os.open(self.out / FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise OutputError(
                f"{self.out}: another process is writing it; wait for that, or name another folder with --out"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        if error is not None and not isinstance(error, OutputError):
            rows = sum(map(self.plan.count, self._hashes))
            error.add_note(
                f"{self.out}: {rows:,} of {self.plan.films:,} films have a row; go on with --resume"
            )

    def earlier(self) -> Iterator[pa.Table]:
        """The tables of parts that an earlier run finished; one that is not whole is made again."""
        for number in range(self.plan.parts):
            path = self.path(number)
            try:
                raw = path.read_bytes()
                table = self._verified(raw, number)
            except (OSError, pa.ArrowInvalid, ValueError):
                continue
            self._hashes[number] = hashlib.sha256(raw).hexdigest()
            yield table

    def missing(self) -> list[int]:
        """The parts that have no file yet."""
        return [number for number in range(self.plan.parts) if number not in self._hashes]

    def write(self, number: int, raw: bytes) -> pa.Table | None:
        """Put a part in its place; ``None`` for one that is there already, as a machine may answer twice.

        Raises ``ValueError`` for what is not this part, ``OutputError`` where the disk fails.
        """
        if number in self._hashes:
            return None
        table = self._verified(raw, number)
        try:
            write_whole(self.path(number), raw)
        except OSError as error:
            raise self.failed(error) from error
        self._hashes[number] = hashlib.sha256(raw).hexdigest()
        return table

    def finish(self, about: dict[str, Any]) -> None:
        """Write the manifest. Every part must be there."""
        if left := self.missing():
            raise ValueError(f"part {left[0]} of {self.plan.parts} was not written")
        parts = [
            {"file": self.path(number).name, "films": self.plan.count(number), "sha256": self._hashes[number]}
            for number in range(self.plan.parts)
        ]
        text = json.dumps({"format": 1, **about, "parts": parts}, indent=2, ensure_ascii=False) + "\n"
        try:
            write_whole(self.out / MANIFEST, text.encode())
        except OSError as error:
            raise self.failed(error) from error

    def path(self, number: int) -> Path:
        """Where a part lies."""
        return self.out / f"part-{number:06}.parquet"

    def failed(self, error: OSError) -> OutputError:
        """What is said where the disk refuses."""
        rows = sum(map(self.plan.count, self._hashes))
        fault = os.strerror(error.errno) if error.errno else str(error)
        return OutputError(
            f"{self.out}: writing stopped after {rows:,} films: {fault}; make room and go on with --resume"
        )

    def _verified(self, raw: bytes, number: int) -> pa.Table:
        """The table of a part that is of this plan and has a row for each of its films, in their order."""
        table = pq.read_table(pa.BufferReader(raw), use_threads=False, pre_buffer=False)
        wanted = self._form.schema().with_metadata({_MARK: _mark(self.plan, number)})
        if not table.schema.equals(wanted, check_metadata=True):
            raise ValueError(f"part {number} is of another run")
        if not table["path"].combine_chunks().equals(self.listing.table(number)["name"].combine_chunks()):
            raise ValueError(f"part {number} holds other films than the plan")
        return table


def _mark(plan: Plan, number: int) -> bytes:
    return f"{plan.key} {plan.films} {plan.part} {number}".encode()
