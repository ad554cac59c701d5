"""The score table: one row a film, as CSV, JSON lines or Parquet.

Knows columns and files, not how scores come about. Rows go to a hidden file beside the table as they
come; it takes the table's name when it is complete, so a table that is there is whole.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from carina.errors import OutputError
from carina.folders import check_outside_bundles
from carina.records import Prediction, Refusal
from carina.scoring.sets import OR, Sets
from carina.taxonomy import column_name

SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROW_GROUP = 4096  # rows of a Parquet row group
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

Row = dict[str, Any]


class _Writer(Protocol):
    def row(self, row: Row) -> None: ...
    def close(self) -> None: ...


class ScoreTable:
    """Write scores row by row; a context manager.

    The columns are ``path``, ``class`` (the most probable), ``p_disease``, one ``p_<class>`` for each
    class, with ``sets`` a column ``set`` ("TB or Other Findings"), and ``refused``: empty, or the reason,
    and then class and probabilities are empty (null in JSON lines and Parquet). Probabilities are
    written with all the digits of a float32. The suffix chooses the form. Raises
    :class:`~carina.errors.OutputError` when the suffix is none of ``.csv .jsonl .parquet``, when a folder
    stands there or the place lies in a bundle, when two classes would share a column, and when the disk
    fails: it says how many films were written. Left by any exception, no table appears.
    """

    def __init__(
        self, path: str | os.PathLike[str], classes: Sequence[str], sets: Sets | None = None
    ) -> None:
        self.path = Path(path)
        self.classes = tuple(classes)
        self.sets = sets
        added = () if sets is None else ("set",)
        self.columns = ("path", "class", "p_disease", *map(column_name, self.classes), *added, "refused")
        if len(set(self.columns)) != len(self.columns):
            raise OutputError(f"{self.path}: a class is called like another column; rename the class")
        self.rows = 0
        self._part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        opener = _WRITERS.get(self.path.suffix.lower())
        if opener is None:
            raise OutputError(
                f"{self.path}: scores are written as {', '.join(SUFFIXES)}; choose one of these endings"
            )
        check_outside_bundles(self.path)
        if os.path.isdir(self.path):  # noqa: PTH112 - Path's own raises where access is denied
            raise OutputError(f"{self.path}: is a folder; name a file with --out")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = opener(self._part, self.columns)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, item: Prediction | Refusal) -> None:
        """Add the row of one film."""
        try:
            self._writer.row(self._row(item))
        except OSError as error:
            raise self._failed(error) from error
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                _sync(self._part)
                self._part.replace(self.path)
                _sync(self.path.parent)
        except OSError as fault:
            if kind is None:  # else the first fault is the one to tell
                raise self._failed(fault) from fault
        finally:
            self._part.unlink(missing_ok=True)

    def _row(self, item: Prediction | Refusal) -> Row:
        if isinstance(item, Refusal):
            nothing = dict.fromkeys(self.columns[1:-1])
            return {"path": item.path, **nothing, "refused": item.reason or item.code}
        if item.classes != self.classes:
            raise ValueError(f"{item.path}: scored for {item.classes}, the table is for {self.classes}")
        shares = [_short(each) for each in item.probabilities]
        probabilities = zip(map(column_name, self.classes), shares, strict=True)
        sets = {} if self.sets is None else {"set": OR.join(self.sets.of(self.classes, shares))}
        return {
            "path": item.path,
            "class": item.top_class,
            "p_disease": round(item.p_disease, 9),
            **dict(probabilities),
            **sets,
            "refused": "",
        }

    def _failed(self, error: OSError) -> OutputError:
        where = f"after {self.rows:,} films" if self.rows else "before the first film"
        fault = os.strerror(error.errno) if error.errno else str(error)
        cure = "make room or name another place, and score again"
        return OutputError(f"{self.path}: writing stopped {where}: {fault}; {cure}")


class _Csv:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        self._rows = csv.writer(self)  # with its own line ends, so that a \r in a name is quoted
        self._rows.writerow([harmless(column) for column in columns])

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")

    def row(self, row: Row) -> None:
        self._rows.writerow([harmless(cell) if isinstance(cell, str) else cell for cell in row.values()])

    def close(self) -> None:
        self._file.close()


class _JsonLines:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n", errors="backslashreplace")

    def row(self, row: Row) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow  # only where Parquet is asked for: a tenth of a second
        import pyarrow.parquet

        text, number = pyarrow.string(), pyarrow.float32()
        kinds = [text if column in ("path", "class", "set", "refused") else number for column in columns]
        self._schema = pyarrow.schema(list(zip(columns, kinds, strict=True)))
        self._table = pyarrow.Table
        self._file = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[Row] = []

    def row(self, row: Row) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._file.write_table(self._table.from_pylist(waiting, schema=self._schema))

    def close(self) -> None:
        try:
            if self._waiting:
                self._flush()
        finally:
            self._file.close()


_WRITERS: dict[str, Callable[[Path, Sequence[str]], _Writer]] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    ".parquet": _Parquet,
}


def harmless(cell: str) -> str:
    """A text cell that no spreadsheet takes for a formula: with an apostrophe where one might (CWE-1236)."""
    return f"'{cell}" if cell.lstrip(" \u00a0\ufeff").startswith(_RISKY) else cell


def _short(probability: Any) -> float:
    """The shortest decimal that is this float32."""
    return float(str(probability))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
