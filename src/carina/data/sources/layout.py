"""Where things lie in a data set's folder: its films, its tables, and which row means which film.

Knows names and CSV, nothing of pixels, labels or any one set.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from carina.data.sources.source import LeftOut
from carina.errors import SourceError

FILM_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
        ".bmp",
        ".gif",
        ".dcm",
        ".dicom",
        ".dic",
    }
)
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".parquet"})

_JUNK_FOLDER = re.compile(r"^(\..*|__macosx|masks?|.*[ _-]masks?|manualmask|\$recycle\.bin)$", re.IGNORECASE)
_UID_NAME = re.compile(r"^[0-9.]+$")

_CHILDREN = 32

Row = Mapping[str, str]


def folders(root: Path, depth: int) -> Iterator[Path]:
    """``root`` and the folders below it down to ``depth`` levels, nearest first, by name.

    Of one folder's children only the first few are looked into: sets with a folder for each of their
    60,000 patients keep their tables above those.
    """
    level = [root]
    for left in range(depth, -1, -1):
        yield from level
        if left:
            level = [child for folder in level for child in subfolders(folder)[:_CHILDREN]]


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in ``folder`` that may hold films, by name."""
    with os.scandir(folder) as entries:
        found = [
            Path(entry.path) for entry in entries if entry.is_dir() and not _JUNK_FOLDER.match(entry.name)
        ]
    return sorted(found)


def films_in(folder: Path) -> Iterator[Path]:
    """The films directly in ``folder``, in no particular order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file() and is_film(Path(entry.path)):
                yield Path(entry.path)


def films(root: Path) -> list[Path]:
    """Every film below ``root``, by path; without masks, hidden files and what macOS and Windows add."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, names, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not _JUNK_FOLDER.match(name))
        found.extend(films_in(Path(folder)))
    return sorted(found)


def is_film(path: Path) -> bool:
    """Whether the name says "image"; a name without a suffix (or a bare UID) must begin like DICOM."""
    suffix = path.suffix.lower()
    if suffix in FILM_SUFFIXES:
        return True
    if suffix and not _UID_NAME.match(path.name):
        return False
    return has_dicom_mark(path)


def is_dicom(path: Path) -> bool:
    """Whether the name or the first bytes say DICOM."""
    return path.suffix.lower() in DICOM_SUFFIXES or (
        path.suffix.lower() not in FILM_SUFFIXES and has_dicom_mark(path)
    )


def has_dicom_mark(path: Path) -> bool:
    """Whether ``DICM`` stands behind the 128-byte preamble (DICOM PS3.10, section 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def column_key(name: str) -> str:
    """A column's name without case and separators: ``Patient_ID`` → ``patient id``."""
    return re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()


def columns(table: Path) -> tuple[str, ...]:
    """The column keys of a table; empty where it is none."""
    try:
        if table.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_schema

            return tuple(column_key(name) for name in read_schema(table).names)
        with table.open("rb") as file:
            first = _decoded(file.read(65536), table).partition("\n")[0].rstrip("\r")
    except (OSError, ValueError, SourceError):
        return ()
    return tuple(
        column_key(name) for name in next(csv.reader([first], delimiter=_delimiter(table, first)), ())
    )


def rows(table: Path) -> list[Row]:
    """A CSV, TSV or Parquet table as dictionaries of column key → text; empty cells are ``""``.

    Raises SourceError when the table cannot be read.
    """
    try:
        if table.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_table

            records = read_table(table).to_pylist()
            return [
                {column_key(k): "" if v is None else str(v).strip() for k, v in r.items()} for r in records
            ]
        text = _decoded(table.read_bytes(), table)
        delimiter = _delimiter(table, text.partition("\n")[0])
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        keys = [column_key(name) for name in next(reader, [])]
        return [
            dict(zip(keys, (cell.strip() for cell in cells), strict=False)) for cells in reader if any(cells)
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise SourceError(
            f"{table}: cannot be read as a table ({error}); save it again as CSV in UTF-8"
        ) from error


def _decoded(raw: bytes, table: Path) -> str:
    if b"\0" in raw[:4096]:
        raise SourceError(f"{table}: holds binary data; save it as CSV in UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")  # what spreadsheets write; Figure 1's own table is one


def _delimiter(table: Path, header: str) -> str:
    if table.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=header.count)


def find_table(root: Path, name: str, needs: Sequence[str], *, without: Sequence[str] = ()) -> Path | None:
    """The nearest table whose file name matches the pattern ``name`` and that has all columns ``needs``.

    Looked for in ``root``, down to two folders below it, then in the folder above it.
    """
    for folder in (*folders(root, 2), root.absolute().parent):
        try:
            entries = (
                sorted(folder.iterdir()) if folder != root.absolute().parent else sorted(folder.glob("*.csv"))
            )
        except OSError:
            continue
        for table in entries:
            if table.suffix.lower() in TABLE_SUFFIXES and re.fullmatch(name, table.name, re.IGNORECASE):
                found = columns(table)
                if all(key in found for key in needs) and not any(key in found for key in without):
                    return table
    return None


def needed_table(root: Path, found: Path | None, what: str) -> Path:
    """``found``, or SourceError that says which table a set needs."""
    if found is None:
        raise SourceError(f"{root}: {what} is not there; give the folder the set was unpacked into")
    return found


class FilmIndex:
    """Films by file name, so that a row finds its film whatever the folder and the image format."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.second_copies: list[LeftOut] = []
        self._by_name: dict[str, Path] = {}
        self._by_stem: dict[str, Path] = {}
        for path in sorted(paths, key=lambda p: (len(p.parts), p)):
            first = self._by_name.setdefault(path.name.casefold(), path)
            if first is not path:
                reason = f"the set holds this file name twice; the one in {first.parent} is read"
                self.second_copies.append(LeftOut(path, "second_copy", reason))
                continue
            self._by_stem.setdefault(path.stem.casefold(), path)
        self.paths = tuple(sorted(self._by_name.values()))
        self._twice = {item.path.name.casefold() for item in self.second_copies}

    def only(self, name: str) -> Path | None:
        """``find``, or None where several folders hold a file of that name."""
        path = self.find(name)
        return None if path is None or path.name.casefold() in self._twice else path

    def find(self, name: str) -> Path | None:
        """The film that a table's cell means: with the cell's suffix, without one, or with another."""
        last = name.replace("\\", "/").rsplit("/", 1)[-1].casefold()
        if not last:
            return None
        return self._by_name.get(last) or self._by_stem.get(last) or self._by_stem.get(Path(last).stem)


def pair(
    table: Path, index: FilmIndex, name_of: Callable[[Row], str], table_rows: Sequence[Row] | None = None
) -> Iterator[tuple[Row, Path] | LeftOut]:
    """Each row with its film, then what was left over on either side. The first row of a film counts."""
    used: set[Path] = set()
    missing: set[str] = set()
    for row in rows(table) if table_rows is None else table_rows:
        name = name_of(row)
        path = index.find(name)
        if path is not None and path not in used:
            used.add(path)
            yield row, path
        elif path is None and name not in missing:
            missing.add(name)
            reason = f"{table.name} has a row for it, and the file is not there"
            yield LeftOut(table.parent / (name or "(no name)"), "no_film", reason)
    for path in index.paths:
        if path not in used:
            yield LeftOut(path, "no_row", f"{table.name} has no row for it")
    yield from index.second_copies
