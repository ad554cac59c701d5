"""What a user names on the command line, as films one by one: files, folders, patterns, zip archives.

Knows paths and archives, not images: what is no film finds its refusal when it is read. Addresses
(``s3://…``) are left to :mod:`carina.scoring.stored`. Nothing is lost in silence: every regular file gives
an item, except hidden files, what desktops leave behind and text beside the films, and those are counted.
"""

from __future__ import annotations

import glob
import lzma
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from carina.errors import ImageTooLarge, SourceError
from carina.records import Refusal

MAX_MEMBER = 256 << 20  # bytes of one inflated archive member
MAX_MEMBERS = 200_000  # of one archive

_LITTER = frozenset({"thumbs.db", "desktop.ini", "dicomdir", "__macosx"})
_BESIDE = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".xml", ".md", ".html", ".htm", ".xlsx", ".pdf"}
)
_CHUNK = 1 << 20  # bytes
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Input:
    """One film to score. ``name`` is what the score table says; ``data`` is set for what was read already.

    ``path`` or ``address`` says where the film lies; for a ``member`` of an archive where that lies, the
    member's number among its files in order of their names, and -1 for what is no member. ``size`` is
    what a store says, in bytes, and -1 where nobody says.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    address: str | None = None
    member: int = -1
    size: int = -1

    @property
    def source(self) -> Path | bytes:
        """What :func:`carina.images.prepare.load` is given."""
        return self.data if self.data is not None else Path(self.path or self.name)


@dataclass(slots=True)
class Skipped:
    """Files in folders and archives that nobody meant as films, counted by kind while inputs are read."""

    kinds: Counter[str] = field(default_factory=Counter)  # "hidden", "system", ".csv" …

    @property
    def total(self) -> int:
        """How many in all."""
        return self.kinds.total()


def films(
    paths: Iterable[str | os.PathLike[str]],
    skipped: Skipped | None = None,
    *,
    without: Path | None = None,
    contents: bool = True,
) -> Iterator[Input | Refusal]:
    """Every film that ``paths`` name, in the order of ``paths``, each folder and archive sorted.

    A folder is read with all below it (links to files are followed, links to folders are not); a
    pattern may hold ``*``, ``?``, ``[…]`` and ``**``; a member of an archive is called
    ``archive.zip!/inner/film.png`` and is read in memory, never written to disk. A file that is
    named itself is always tried. The folder ``without`` is left out wherever it lies below a named one: heat
    maps are written there meanwhile. An address (``s3://bucket/folder``) is listed by its store. Without
    ``contents`` what lies in archives and stores is named and not read. What cannot be read gives a
    :class:`~carina.records.Refusal`.
    Raises :class:`~carina.errors.SourceError` before the first film when a path does not exist or
    a pattern matches nothing: the user typed it, and wants to know.
    """
    skipped = skipped if skipped is not None else Skipped()
    named = [each for path in paths for each in _named(os.fspath(path))]
    return _each(named, _Walk(skipped, os.path.realpath(without) if without is not None else "", contents))


def _named(text: str) -> Sequence[Path | str]:
    """The paths, or the address, that one argument stands for. A path that exists wins."""
    if os.path.lexists(text):
        return [Path(text)]
    if "://" in text:
        from carina.scoring import stored  # stores are another's business, and so is their library

        stored.check(text)
        return [text]
    if glob.has_magic(text):
        found = sorted(glob.iglob(text, recursive=True))  # noqa: PTH207 - Path.glob wants a root
        if not found:
            raise SourceError(
                f"{text}: nothing matches this pattern; check it (quotes keep the shell from reading it)"
            )
        kept: dict[Path, None] = {}  # a/** gives a folder and then all it holds: each film once
        for path in map(Path, found):
            if kept.keys().isdisjoint(path.parents):
                kept[path] = None
        return list(kept)
    raise SourceError(f"{text}: no such file or folder; check the path")


@dataclass(frozen=True, slots=True)
class _Walk:
    """How folders and archives are gone through."""

    skipped: Skipped
    without: str
    contents: bool


def _each(named: list[Path | str], walk: _Walk) -> Iterator[Input | Refusal]:
    for path in named:
        if isinstance(path, str):
            from carina.scoring import stored

            yield from stored.films(path, walk.skipped, contents=walk.contents)
        elif os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where access is denied
            yield from _folder(path, walk)
        else:
            yield from _file(path, walk)


def _folder(folder: Path, walk: _Walk) -> Iterator[Input | Refusal]:
    """All films below a folder in the order of their names; only names are held, and let go one by one."""
    waiting = [(folder, _names(folder))]
    while waiting:
        here, names = waiting[-1]
        if isinstance(names, Refusal):
            yield names
        if isinstance(names, Refusal) or not names:
            waiting.pop()
            continue
        name = names.pop()
        path, kind = here / name, not_a_film(name)
        if kind is not None:
            walk.skipped.kinds[kind] += 1
        elif not os.path.isdir(path):  # noqa: PTH112 - as in _each
            yield from _file(path, walk)
        elif path.is_symlink():
            walk.skipped.kinds["link to a folder"] += 1
        elif walk.without and os.path.realpath(path) == walk.without:
            walk.skipped.kinds["heat maps"] += 1
        else:
            waiting.append((path, _names(path)))


def _names(folder: Path) -> list[str] | Refusal:
    """The names in a folder, last first."""
    try:
        return sorted(os.listdir(folder), reverse=True)  # noqa: PTH208 - names, not paths
    except OSError as error:
        fault = f"unreadable: {error.strerror}; grant access to this folder"
        return Refusal(printable(folder), "unreadable", fault)


def _file(path: Path, walk: _Walk) -> Iterator[Input | Refusal]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Refusal(
            printable(path), "unreadable", f"unreadable: {error.strerror}; check the file and its link"
        )
        return
    if not stat.S_ISREG(mode):
        yield Refusal(printable(path), "not_an_image", "not_an_image: it is a pipe or a device; name files")
    elif path.suffix.lower() == ".zip":
        yield from _archive(path, walk)
    else:
        yield Input(printable(path), path=path)


def _archive(path: Path, walk: _Walk) -> Iterator[Input | Refusal]:
    name = printable(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for found in listed(archive, name, walk.skipped):
                if isinstance(found, Refusal):
                    yield found
                    return
                number, member, film = found
                if walk.contents:
                    yield read_member(archive, member, film)
                else:
                    yield Input(film, path=path, data=b"", member=number)
    except DAMAGE as error:
        yield damaged(name, error)


def listed(
    archive: zipfile.ZipFile, name: str, skipped: Skipped
) -> Iterator[tuple[int, zipfile.ZipInfo, str] | Refusal]:
    """The films of an archive: number, member and name of each; a refusal where there are too many."""
    members = in_order(archive)
    if len(members) > MAX_MEMBERS:
        fault = f"too_large: {len(members):,} files, more than {MAX_MEMBERS:,}"
        yield Refusal(name, "too_large", f"{fault}; unpack it and score the folder")
        return
    for number, member in enumerate(members):
        kind = next(filter(None, map(not_a_film, PurePosixPath(member.filename).parts)), None)
        if kind is not None:
            skipped.kinds[kind] += 1
        else:
            yield number, member, f"{name}!/{member.filename}"


def in_order(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive in the order of their names."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    return sorted(members, key=lambda member: member.filename)


def damaged(name: str, error: Exception) -> Refusal:
    """What is said of an archive that cannot be read."""
    return Refusal(name, "unreadable", f"unreadable: not a readable zip archive ({error}); pack it again")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Input | Refusal:
    """One member's bytes; a fault of it is its own refusal and leaves the others alone."""
    if member.flag_bits & 0x1:
        return Refusal(name, "unreadable", "unreadable: it is encrypted; pack it without a password")
    if stat.S_ISLNK(member.external_attr >> 16):
        return Refusal(name, "not_an_image", "not_an_image: it is a link; pack the file itself")
    try:
        with archive.open(member) as file:
            return Input(name, data=_inflate(file, name))
    except ImageTooLarge as error:
        return Refusal(name, error.code, error.reason)
    except DAMAGE as error:
        return Refusal(name, "unreadable", f"unreadable: damaged in the archive ({error}); pack it again")


def _inflate(file: IO[bytes], name: str) -> bytes:
    """All bytes, counted as they come: the size an archive declares is a claim, not a fact."""
    parts, count = [], 0
    while chunk := file.read(_CHUNK):
        count += len(chunk)
        if count > MAX_MEMBER:
            raise ImageTooLarge(
                name, f"inflates to more than {MAX_MEMBER >> 20} MB", "no film is that large; leave it out"
            )
        parts.append(chunk)
    return b"".join(parts)


def not_a_film(name: str) -> str | None:
    """The kind of a file or folder that nobody means as a film, or ``None``."""
    if name.lower() in _LITTER:
        return "system"
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in _BESIDE else None


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written anywhere: bytes that are no UTF-8 become ``\\xNN``."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
