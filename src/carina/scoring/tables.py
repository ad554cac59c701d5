"""The score table: one row a film, as CSV, JSON lines or Parquet.

Knows columns and files, not how scores come about. Rows go to a hidden file beside the table as they
come (:mod:`carina.scoring.unfinished`); it takes the table's name when it is complete, so a table that is
there is whole. For Parquet the hidden file holds JSON lines, which can be taken up again, and the table is
made of them at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from carina.errors import OutputError
from carina.folders import check_outside_bundles
from carina.records import Prediction, Refusal
from carina.scoring.probabilities import Posterior
from carina.scoring.rows import Row, Rows
from carina.scoring.sets import Sets
from carina.scoring.unfinished import CsvForm, Done, Form, JsonForm, Unfinished, harmless

__all__ = ["SUFFIXES", "ScoreTable", "harmless"]

SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROW_GROUP = 4096  # rows of a Parquet row group


class ScoreTable:
    """Write scores row by row; a context manager.

    The columns are those of :class:`~carina.scoring.rows.Rows`; what is ``None`` there is empty, and null
    in JSON lines and Parquet. Probabilities are written with all the digits of a float32. The suffix
    chooses the form. Raises :class:`~carina.errors.OutputError` when the suffix is none of ``.csv .jsonl
    .parquet``, when a folder stands there or the place lies in a bundle, when two classes would share a
    column, when another process writes the same table, and when the disk fails: it says how many films
    were written. Left by any exception no table appears, and the rows so far wait in a hidden file; with
    ``resume`` the next table that is ``made_by`` the same (model and settings) goes on with them:
    :meth:`earlier` tells them, :meth:`has` knows their films. To resume a table that is complete, or was
    begun by another model, is an ``OutputError`` too; where nothing was begun, it is begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str],
        sets: Sets | None = None,
        *,
        posterior: Posterior | None = None,
        heat: bool = False,
        made_by: str = "",
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self._rows = Rows(classes, sets, posterior, heat=heat)
        self.columns = self._rows.columns
        if self._rows.clash:
            raise OutputError(f"{self.path}: a class is called like another column; rename the class")
        self.rows = 0  # those of before included
        self._done = Done()
        form = _FORMS.get(self.path.suffix.lower())
        if form is None:
            raise OutputError(
                f"{self.path}: scores are written as {', '.join(SUFFIXES)}; choose one of these endings"
            )
        check_outside_bundles(self.path)
        if os.path.isdir(self.path):  # noqa: PTH112 - Path's own raises where access is denied
            raise OutputError(f"{self.path}: is a folder; name a file with --out")
        key = hashlib.sha256(json.dumps([made_by, self.columns]).encode()).hexdigest()[:12]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part = Unfinished(self.path, key, form, self.columns, resume=resume)
        except OSError as error:
            raise self._failed(error) from error
        self.rows = self._part.count

    def earlier(self) -> Iterator[Row]:
        """The rows of before, for whoever counts; afterwards :meth:`has` knows their films."""
        for row in self._part.earlier():
            self._done.add(str(row["path"]))
            yield row

    def has(self, name: str) -> bool:
        """Whether a film of this name has a row of before, which no other film was found for."""
        return self._done.take(harmless(name) if self.path.suffix.lower() == ".csv" else name)

    def write(self, item: Prediction | Refusal) -> None:
        """Add the row of one film."""
        try:
            self._part.write(self._rows.of(item))
        except OSError as error:
            raise self._failed(error) from error
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            if kind is None:
                self._appear()
                whole = True
            elif self.rows and error is not None and not isinstance(error, OutputError):
                error.add_note(f"{self.path}: {self.rows:,} films have a row; go on with --resume")
        except OSError as fault:
            raise self._failed(fault) from fault
        finally:
            self._part.close(remove=not whole and not self.rows)

    def _appear(self) -> None:
        """The table takes its name."""
        self._part.sync()
        if self.path.suffix.lower() == ".parquet":
            made = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.made")
            try:
                _write_parquet(made, self._rows, self._part.all())
                _sync(made)
                made.replace(self.path)
            finally:
                made.unlink(missing_ok=True)
            self._part.path.unlink()
        else:
            self._part.path.replace(self.path)
        _sync(self.path.parent)

    def _failed(self, error: OSError) -> OutputError:
        where = f"after {self.rows:,} films" if self.rows else "before the first film"
        fault = os.strerror(error.errno) if error.errno else str(error)
        cure = "make room and go on with --resume" if self.rows else "make room or name another place"
        return OutputError(f"{self.path}: writing stopped {where}: {fault}; {cure}")


_FORMS: dict[str, Form] = {".csv": CsvForm(), ".jsonl": JsonForm(), ".parquet": JsonForm()}


def _write_parquet(path: Path, form: Rows, rows: Iterator[Row]) -> None:
    import pyarrow  # only where Parquet is asked for: a tenth of a second
    import pyarrow.parquet

    schema = form.schema()
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        while group := list(islice(rows, _ROW_GROUP)):
            file.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
