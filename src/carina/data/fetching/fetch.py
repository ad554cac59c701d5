"""A public set, by name, into a folder: whole or not at all.

Everything is fetched into a hidden folder beside the one asked for, and moved into its place in one step
when it is complete; ``fetched.json`` in it says what, whence and when. A set that is not ours to fetch is
an error that says where to ask for it.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carina.data.fetching import kaggle
from carina.data.fetching.archive import unpack
from carina.data.fetching.download import download
from carina.data.sources.family import PUBLIC_SETS, kinship, public_set
from carina.data.sources.public import PublicSet
from carina.data.sources.way import ByHand, Download, Kaggle
from carina.errors import FetchError
from carina.records import Progress

Tell = Callable[[Progress], None] | None

MANIFEST = "fetched.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A set that lies in ``folder``, complete. ``before`` is true when it already did."""

    known: PublicSet
    folder: Path
    files: int
    before: bool = False


def fetch(name: str, out: str | os.PathLike[str] | None = None, *, progress: Tell = None) -> Fetched:
    """Fetch the public set ``name`` into the folder ``out`` (its name, by default).

    A set that lies there complete is not fetched again; a download that was stopped goes on. Raises
    SourceError for an unknown name, FetchError when it must be asked for, cannot be had whole, or the
    folder holds something else, and MissingExtra without the ``fetch`` extra.
    """
    known = public_set(name)
    folder = Path(out) if out is not None else Path(name)
    if known.way is None:
        raise FetchError(f"{name}: where to get it is not known; ask its authors ({known.citation})")
    if isinstance(known.way, ByHand):
        raise FetchError(f"{name}: cannot be fetched for you; {known.way.steps}: {known.way.where}")
    if (there := _there(folder)) is not None:
        if there.get("name") == name:
            return Fetched(known, folder, int(there["files"]), before=True)
        raise FetchError(f"{folder}: holds {there.get('name')}; name another folder with --out")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FetchError(f"{folder}: is not empty; name a new folder with --out")
    return _into_place(known, folder, progress)


def relatives(name: str) -> list[str]:
    """In words, the sets that share films with ``name``."""
    others = (other for other in PUBLIC_SETS if other != name)
    return [words for other in others for _, _, words in kinship((name, other))]


def _there(folder: Path) -> dict[str, Any] | None:
    """The manifest of a set that was fetched into ``folder``."""
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"name", "files"} <= set(content) else None


def _into_place(known: PublicSet, folder: Path, tell: Tell) -> Fetched:
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.parent / f".{folder.name}.fetching"
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    match known.way:
        case Kaggle():
            kaggle.download(known.way, work / "kaggle").replace(whole)
        case Download():
            file = download(known.way, work, tell=tell)
            if file.suffix == ".zip":
                unpack(file, whole, tell=tell)
            else:
                whole.mkdir()
                file.replace(whole / file.name)
    whole = _root(whole)
    files = sum(path.is_file() for path in whole.rglob("*"))
    if not files:
        raise FetchError(f"{known.name}: nothing came; look at {known.to_dict()['where']}")
    _finish(known, whole, files)
    if folder.exists():
        folder.rmdir()  # empty: we looked
    whole.replace(folder)
    shutil.rmtree(work, ignore_errors=True)
    return Fetched(known, folder, files)


def _root(folder: Path) -> Path:
    """The one folder that everything lies in, as in archives of GitHub; otherwise ``folder`` itself."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _finish(known: PublicSet, whole: Path, files: int) -> None:
    """Write the manifest, last."""
    content = known.to_dict() | {
        "files": files,
        "fetched": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    with (whole / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
