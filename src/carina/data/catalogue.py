"""The catalogue: a folder with one row for each film, and a manifest that is written last.

    catalogue.parquet   the films (columns: ``SCHEMA``), in order of image_id
    dropped.csv         every file that was left out, and why
    conflicts.csv       copies with different labels
    groups.csv          every group of copies, exact and near
    catalogue.json      classes, counts, options, and the sha256 of catalogue.parquet; written last
    audit.json          whether figures on these films can be believed (``confounding/``)
    pixels/             prepared films (``pixels.py``); may be deleted at any time

Knows nothing of how films were found. Needs pyarrow and numpy only, so that a machine that trains or
evaluates needs no image library to open one.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from carina.errors import CatalogueError

FORMAT = 1
KIND = "carina catalogue"
TABLE, MANIFEST, AUDIT = "catalogue.parquet", "catalogue.json", "audit.json"
DECISIONS, REVIEW = "decisions.json", "review.html"  # a person's; they outlive a compile
LISTS = {
    "dropped.csv": ("path", "source", "label", "code", "reason"),
    "conflicts.csv": ("group", "path", "class", "label", "source", "patient", "sha256"),
    "groups.csv": ("group", "path", "kept", "class", "source", "patient", "sha256"),
    "pairs.csv": ("first", "second", "score", "kind"),  # by sha256
}
_KNOWN = frozenset({TABLE, MANIFEST, AUDIT, DECISIONS, REVIEW, "pixels", *LISTS})

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # the first 16 digits of sha256
        pa.field("path", pa.string(), nullable=False),  # absolute
        pa.field("class", pa.string(), nullable=False),
        pa.field("findings", pa.list_(pa.string()), nullable=False),  # the source's own words
        pa.field("source", pa.string(), nullable=False),
        pa.field("patient", pa.string(), nullable=False),  # "source:patient"; unique where unknown
        pa.field("group", pa.string(), nullable=False),  # image_id of the group's first film
        pa.field("split", pa.string(), nullable=False),  # train, valid, test
        pa.field("view", pa.string()),
        pa.field("age", pa.float32()),  # years
        pa.field("sex", pa.string()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("study", pa.string()),
        pa.field("label", pa.string(), nullable=False),  # the source's own word
        pa.field("bits", pa.int32(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("manufacturer", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),  # size of the file
    ]
)


@dataclass(frozen=True)
class Catalogue:
    """A catalogue that was opened and verified."""

    root: Path
    manifest: Mapping[str, Any] = field(repr=False)
    films: pa.Table = field(repr=False)
    classes: tuple[str, ...]
    healthy: frozenset[str]
    fingerprint: str

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Catalogue:
        """Open the catalogue in the folder ``path``.

        Raises CatalogueError when it is missing, unfinished, of another format, or changed since.
        """
        root = Path(path)
        manifest = _read_manifest(root)
        try:
            raw = (root / TABLE).read_bytes()
        except OSError as error:
            raise CatalogueError(f"{root}: {TABLE} is missing; compile the catalogue again") from error
        if hashlib.sha256(raw).hexdigest() != manifest.get("parquet_sha256"):
            raise CatalogueError(
                f"{root}: {TABLE} is not the file that was compiled; compile the catalogue again"
            )
        # Arrow's threads, when still starting as a short program ends, abort it (1 in 50 on a busy machine)
        films = pq.read_table(pa.BufferReader(raw), use_threads=False, pre_buffer=False)
        classes = tuple(manifest["classes"])
        foreign = sorted(set(films["class"].to_pylist()).difference(classes))
        if films.schema.names != SCHEMA.names or foreign or films.num_rows != manifest["images"]:
            raise CatalogueError(
                f"{root}: {TABLE} and {MANIFEST} contradict each other; compile the catalogue again"
            )
        return cls(root, manifest, films, classes, frozenset(manifest["healthy"]), fingerprint(films))

    def table(self, split: str | None = None) -> pa.Table:
        """All films, or those of one side. Raises CatalogueError for a side that has none."""
        if split is None:
            return self.films
        part = self.films.filter(pc.equal(self.films["split"], split))
        if part.num_rows == 0:
            sides = ", ".join(sorted(set(self.films["split"].to_pylist())))
            raise CatalogueError(f"{self.root}: no film is on the side {split!r}; there are {sides}")
        return part

    def labels(self, split: str | None = None) -> NDArray[np.int64]:
        """The index into ``classes`` of each film's class, (n,) int64, in the order of ``table(split)``."""
        place = {name: i for i, name in enumerate(self.classes)}
        return np.array([place[name] for name in self.table(split)["class"].to_pylist()], np.int64)

    def __len__(self) -> int:
        return int(self.films.num_rows)


def fingerprint(films: pa.Table) -> str:
    """sha256 over what the films are and how they are used; where they lie does not count."""
    columns = ("sha256", "class", "source", "patient", "group", "split")
    rows = sorted(zip(*(films[name].to_pylist() for name in columns), strict=True))
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    if not os.path.isdir(root):  # noqa: PTH112 - Path's own raises where access is denied
        raise CatalogueError(
            f"{root}: no such folder; make a catalogue with: carina compile PATH… --out {root}"
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        fault = "its compile did not finish" if (root / TABLE).exists() else "not a catalogue"
        raise CatalogueError(f"{root}: {MANIFEST} is missing ({fault}); run carina compile again") from error
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path}: cannot be read ({error}); compile the catalogue again") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise CatalogueError(
            f"{path}: not the manifest of a catalogue; give a folder that carina compile made"
        )
    if manifest.get("format") != FORMAT:
        raise CatalogueError(
            f"{path}: format {manifest.get('format')}; this Carina reads {FORMAT}, compile it again"
        )
    return manifest


def check_may_write(out: Path) -> None:
    """Raises CatalogueError when ``out`` holds anything but a catalogue of ours, whole or unfinished."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CatalogueError(f"{out}: a file, not a folder; choose another --out")
    strange = sorted(entry.name for entry in out.iterdir() if entry.name not in _KNOWN)
    if strange and not (out / MANIFEST).exists():
        raise CatalogueError(f"{out}: holds files that are no catalogue ({strange[0]}); choose another --out")
    if (out / MANIFEST).exists():
        try:
            _read_manifest(out)
        except CatalogueError as error:
            if not str(error).startswith(f"{out / MANIFEST}: format"):
                raise CatalogueError(f"{out}: {MANIFEST} is not Carina's; choose another --out") from error


def write(
    out: Path,
    films: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any],
    lists: Mapping[str, Iterable[Sequence[object]]],
) -> Catalogue:
    """Write a catalogue, its manifest last, and open it.

    An older catalogue in ``out`` is replaced; from its first change to the last the folder has no
    manifest, so that nobody opens a mixture. ``pixels/`` is kept: it is keyed by content.
    """
    check_may_write(out)
    try:
        _write(out, films, manifest, lists)
    except OSError as error:
        raise CatalogueError(
            f"{out}: cannot be written ({error.strerror}); make room or choose another --out"
        ) from error
    return Catalogue.open(out)


def _write(
    out: Path,
    films: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any],
    lists: Mapping[str, Iterable[Sequence[object]]],
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        table = pa.Table.from_pylist(sorted(films, key=lambda row: row["image_id"]), schema=SCHEMA)
        pq.write_table(table, partial / TABLE, compression="zstd")
        for name, header in LISTS.items():
            _write_list(partial / name, header, lists.get(name, ()))
        full = {"kind": KIND, "format": FORMAT, **manifest, "images": table.num_rows}
        full |= {"fingerprint": fingerprint(table), "parquet_sha256": _sha256(partial / TABLE)}
        (partial / MANIFEST).write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", "utf-8")
        out.mkdir(exist_ok=True)
        (out / MANIFEST).unlink(missing_ok=True)
        (out / AUDIT).unlink(missing_ok=True)  # of the older films
        for name in (TABLE, *LISTS, MANIFEST):
            _flush(partial / name)
            (partial / name).replace(out / name)
        _flush(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_list(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    """Bring a file or folder to the disk, so that the manifest never outlives what it vouches for."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
