"""All rows of one database into another: SQLite to PostgreSQL, and a backup of either.

Goes table by table in the order of their references, some thousand rows at a time, and makes the target the
same as the source: rows that are missing are written, rows that differ are corrected. So a copy that was
interrupted goes on, and one that is run again proves the first. The source is read in one transaction: it is
copied as it was at one moment, whatever is written to it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Integer, Table, bindparam, func, insert, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from carina.errors import DatabaseError
from carina.records import Progress
from carina.serving.database import Database
from carina.serving.schema import Base

_AT_ONCE = 2000  # rows

Tell = Callable[[Progress], None] | None


def copy(source: Database, target: Database, progress: Tell = None) -> dict[str, int]:
    """Make ``target`` hold what ``source`` holds; rows of each table.

    Both must have the tables of this version. Raises :class:`~carina.errors.DatabaseError` where the target
    holds rows of another site, or does not end up the same.
    """
    counts: dict[str, int] = {}
    try:
        with source.engine.connect() as reading:
            _one_moment(reading, source)
            for table in Base.metadata.sorted_tables:
                counts[table.name] = _copy_table(reading, target, table)
                if progress is not None:
                    progress(Progress("tables copied", len(counts), len(Base.metadata.sorted_tables)))
    except SQLAlchemyError as fault:
        raise DatabaseError(
            f"{_name(target)}: the copy was interrupted ({type(fault).__name__}); run it again, it goes on"
        ) from fault
    if not target.is_sqlite:
        _count_on(target)
    return counts


def _copy_table(reading: Connection, target: Database, table: Table) -> int:
    total = 0
    keys = list(table.primary_key.columns)
    for rows in _chunks(reading, table):
        total += len(rows)
        with target.write() as session:
            first, last = (tuple(rows[at][key.name] for key in keys) for at in (0, -1))
            there = select(table).where(keys[0] >= first[0], keys[0] <= last[0])
            known = {row[keys[0].name]: dict(row) for row in session.execute(there).mappings()}
            new = [row for row in rows if row[keys[0].name] not in known]
            changed = [row for row in rows if row[keys[0].name] in known and known[row[keys[0].name]] != row]
            if new:
                session.execute(insert(table), new)
            if changed:
                same = update(table).where(keys[0] == bindparam("_key"))
                session.connection().execute(same, [{**row, "_key": row[keys[0].name]} for row in changed])
    with target.read() as session:
        found = session.scalar(select(func.count()).select_from(table)) or 0
    if found != total:
        raise DatabaseError(
            f"{_name(target)}: {table.name} has {found:,} rows, the source {total:,}; copy into an empty one"
        )
    return total


def _chunks(reading: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in the order of its key."""
    key, last = next(iter(table.primary_key.columns)), None
    while True:
        rest = select(table).order_by(key).limit(_AT_ONCE)
        if last is not None:
            rest = rest.where(key > last)
        rows = [dict(row) for row in reading.execute(rest).mappings()]
        if not rows:
            return
        yield rows
        last = rows[-1][key.name]


def _one_moment(reading: Connection, source: Database) -> None:
    """Let everything that is read be of one moment."""
    if source.is_sqlite:
        reading.execute(text("SELECT 1"))  # in WAL mode a read transaction sees one state
    else:
        reading.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))


def _count_on(target: Database) -> None:
    """PostgreSQL's counters of keys go on after the rows that were copied."""
    with target.write() as session:
        have = set(inspect(session.connection()).get_table_names())
        for table in Base.metadata.sorted_tables:
            key = next(iter(table.primary_key.columns))
            if table.name in have and isinstance(key.type, Integer):
                top = session.scalar(select(func.max(key)))
                if top is not None:
                    line = text("SELECT setval(pg_get_serial_sequence(:table, :key), :top)")
                    session.execute(line, {"table": table.name, "key": key.name, "top": top})


def _name(database: Database) -> str:
    return database.url.render_as_string(hide_password=True)
