"""What a run on many machines scores: the films, listed once, and the parts they are cut into.

    _plan/films.parquet   the listing: a row a film, in order
    _plan/plan.json       how many, how large a part is, what makes the rows; written last

A listing that was made is never made again, so a run that is taken up after a week scores the films it was
begun with: none twice, none lost. Memory does not grow with their number. Knows files, not machines.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from carina.errors import OutputError
from carina.records import Refusal
from carina.scoring.inputs import Input, Skipped

FOLDER, FILMS, PLAN = "_plan", "films.parquet", "plan.json"
FORMAT = 1
MOST, LEAST = 1024, 16  # films of a part: powers of two, so that parts begin where handfuls do
_PARTS_EACH = 4  # parts for each core, where films suffice: nobody waits long for the last
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),  # what the row of the film says
        pa.field("path", pa.binary()),  # bytes of a path, which may be no UTF-8
        pa.field("address", pa.string()),  # in a store
        pa.field("member", pa.int32(), nullable=False),  # number within an archive, or -1
        pa.field("size", pa.int64(), nullable=False),  # bytes, or -1
        pa.field("code", pa.string()),  # of a refusal that the listing found
        pa.field("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A listing that is complete. ``key`` says what makes the rows: model, settings and what was named."""

    films: int
    part: int  # films of each part but the last
    skipped: int  # files that are no films
    key: str
    roots: tuple[str, ...]  # folders on disks, which every machine must see
    format: int = FORMAT

    @property
    def parts(self) -> int:
        """How many parts; one where there is no film, so that the table has its columns."""
        return max(1, -(-self.films // self.part))

    def first(self, number: int) -> int:
        """How many films come before a part."""
        return number * self.part

    def count(self, number: int) -> int:
        """The films of a part."""
        return max(0, min(self.part, self.films - self.first(number)))


class Listing:
    """The films of a plan, part by part, read from its folder."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.plan = plan
        self._file = pq.ParquetFile(out / FOLDER / FILMS, pre_buffer=False)
        self._group: tuple[int, pa.Table] = (-1, None)

    def table(self, number: int) -> pa.Table:
        """The rows (:data:`SCHEMA`) of one part."""
        if not self.plan.count(number):
            return SCHEMA.empty_table()
        group, first = divmod(self.plan.first(number), MOST)
        if self._group[0] != group:
            self._group = (group, self._file.read_row_group(group, use_threads=False))
        return self._group[1].slice(first, self.plan.count(number))


def key_of(made_by: str, named: Sequence[str]) -> str:
    """16 hex digits over what makes the rows, and what was named."""
    return hashlib.sha256(json.dumps([made_by, list(named)]).encode()).hexdigest()[:16]


def make(
    out: Path, films: Iterable[Input | Refusal], named: Sequence[str], key: str, cores: int, skipped: Skipped
) -> Plan:
    """List the films into ``out/_plan``, whole or not at all. Raises ``OSError``, and what listing does."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with pq.ParquetWriter(folder / FILMS, SCHEMA, compression="zstd") as file:
        left = iter(films)
        while group := list(islice(left, MOST)):  # a row group holds whole parts
            file.write_table(pa.Table.from_pylist([_row(each) for each in group], schema=SCHEMA))
            count += len(group)
    part = MOST
    while part > LEAST and count < part * cores * _PARTS_EACH:
        part //= 2
    plan = Plan(count, part, skipped.total, key, _roots(named))
    write_whole(folder / PLAN, (json.dumps(asdict(plan), indent=2) + "\n").encode())
    return plan


def opened(out: Path) -> Plan | None:
    """The plan in a folder, or ``None`` where none was completed. Raises ``OutputError`` for another's."""
    try:
        raw = json.loads((out / FOLDER / PLAN).read_bytes())
        if raw.get("format") != FORMAT:
            raise OutputError(f"{out}: was begun by another version of Carina; name another folder")
        return Plan(**{**raw, "roots": tuple(raw["roots"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError(f"{out}: its plan cannot be read ({error}); name another folder") from error


def inputs(table: pa.Table) -> list[Input | Refusal]:
    """The films of a part, not read yet."""
    return [_input(row) for row in table.to_pylist()]


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there is whole, also after a power cut."""
    new = path.with_name(f".{path.name}.part")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _row(item: Input | Refusal) -> dict[str, Any]:
    if isinstance(item, Refusal):
        return {"name": item.path, "member": -1, "size": -1, "code": item.code, "reason": item.reason}
    path = None if item.path is None else os.fsencode(item.path)
    return {
        "name": item.name, "path": path, "address": item.address, "member": item.member, "size": item.size
    }  # fmt: skip


def _input(row: dict[str, Any]) -> Input | Refusal:
    if row["code"] is not None:
        return Refusal(row["name"], row["code"], row["reason"])
    path = None if row["path"] is None else Path(os.fsdecode(row["path"]))
    return Input(row["name"], path, None, row["address"], row["member"], row["size"])


def _roots(named: Sequence[str]) -> tuple[str, ...]:
    """The folders that hold what was named on disks; of very many, the one that holds them all."""
    paths = [os.path.abspath(each) for each in named if os.path.lexists(each)]  # noqa: PTH100
    folders = sorted({path if os.path.isdir(path) else os.path.dirname(path) for path in paths})  # noqa: PTH112, PTH120
    return tuple(folders) if len(folders) <= 32 else (os.path.commonpath(folders),)
