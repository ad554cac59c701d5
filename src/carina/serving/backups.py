"""A backup: one folder with the database as it was at one moment, and every film that it names.

Made while the service runs. The database first, the films after it: a film is stored before it is entered and
never changed, so whatever the copy of the database names is there. The list of it all is written last; a
folder without it is no backup.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from carina import __version__
from carina.errors import OutputError, ServiceError
from carina.folders import check_can_write, whole
from carina.records import Progress
from carina.serving import upgrades
from carina.serving.copying import copy
from carina.serving.database import Database
from carina.serving.schema import Instance
from carina.serving.settings import Settings

LIST, DATABASE, FILMS = "backup.json", "carina.sqlite", "archive"
_CHUNK = 1 << 20

Tell = Callable[[Progress], None] | None


def backup(settings: Settings, out: Path, progress: Tell = None) -> dict[str, Any]:
    """Write a backup to the folder ``out``; what it holds.

    Raises :class:`~carina.errors.OutputError` where it cannot be written, and what the database raises.
    """
    check_can_write(out)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out}: holds something; name a folder that does not exist yet")
    source = Database(settings.database_url)
    try:
        upgrades.check(source)
        with whole(out) as folder:
            folder.chmod(0o700)
            target = Database(f"sqlite:///{folder / DATABASE}")
            upgrades.upgrade(target)
            rows = copy(source, target, progress)
            films, gone = _copy_films(settings.archive, folder / FILMS, target, progress)
            target.close()
            with closing(sqlite3.connect(folder / DATABASE)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
            facts = {
                "format": 1,
                "carina": __version__,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "database": _sha256(folder / DATABASE),
                "rows": rows,
                "films": films,
                "gone": gone,  # films that the archive had lost
            }
            _write(folder / LIST, (json.dumps(facts, indent=2) + "\n").encode())
    except OSError as fault:
        raise OutputError(
            f"{out}: the backup cannot be written ({fault.strerror or fault}); make room, or name another"
        ) from fault
    finally:
        source.close()
    return facts


def restore(backup_: Path, data: Path, progress: Tell = None) -> dict[str, Any]:
    """Put a backup into the empty or new folder ``data``, every byte checked; what it holds.

    Raises :class:`~carina.errors.ServiceError` where it is no whole backup or ``data`` is in use.
    """
    try:
        facts: dict[str, Any] = json.loads((backup_ / LIST).read_bytes())
    except (OSError, ValueError) as fault:
        raise ServiceError(f"{backup_}: is no backup that was finished (no {LIST}); name another") from fault
    if data.exists() and any(data.iterdir()):
        raise ServiceError(f"{data}: holds something; move it away, or name another folder with --data")
    if facts.get("format") != 1 or _sha256(backup_ / DATABASE) != facts["database"]:
        raise ServiceError(f"{backup_}: {DATABASE} is not the one that was saved; use another backup")
    try:
        with whole(data) as folder:
            folder.chmod(0o700)
            shutil.copyfile(backup_ / DATABASE, folder / DATABASE)
            (folder / DATABASE).chmod(0o600)
            database = Database(f"sqlite:///{folder / DATABASE}")
            films, gone = _copy_films(backup_ / FILMS, folder / FILMS, database, progress)
            database.close()
            if (films, gone) != (facts["films"], facts["gone"]):
                raise ServiceError(
                    f"{backup_}: {films:,} of {facts['films']:,} films are there, whole; use another"
                )
    except OSError as fault:
        raise ServiceError(
            f"{data}: cannot be written ({fault.strerror or fault}); make room, or name another folder"
        ) from fault
    return facts


def _copy_films(source: Path, target: Path, database: Database, progress: Tell) -> tuple[int, int]:
    """Copy what the database names, each file checked against its name; (copied, not there)."""
    with database.read() as session:
        paths = sorted(set(session.scalars(select(Instance.path).where(Instance.path != ""))))
    target.mkdir(mode=0o700)
    copied = gone = 0
    for number, path in enumerate(paths, 1):
        folder = target / path.rpartition("/")[0]
        folder.mkdir(mode=0o700, exist_ok=True)
        if _copied(source / path, target / path):
            copied += 1
        else:
            gone += 1
        if progress is not None:
            progress(Progress("films copied", number, len(paths)))
    for each in {target, *(entry for entry in target.iterdir() if entry.is_dir())}:
        handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)
    return copied, gone


def _copied(source: Path, target: Path) -> bool:
    """Copy one film to the disk; False where it is not there, or not what its name says."""
    digest = hashlib.sha256()
    try:
        reading = source.open("rb")
    except FileNotFoundError:
        return False
    with reading, target.open("xb") as file:
        target.chmod(0o600)
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != source.name:
        target.unlink()
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        path.chmod(0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
