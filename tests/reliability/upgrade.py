"""A clean stop, a backup under load and its return, the database of another version: nothing is lost.

There is one revision of the tables so far. What an older database goes through is shown on the next one,
which this harness writes: a step that runs, and one that fails half-way.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sqlalchemy import func, inspect, select, text

from carina.errors import DatabaseError
from carina.serving import upgrades
from carina.serving.backups import backup, restore
from carina.serving.database import Database
from carina.serving.schema import Instance, Study
from carina.serving.settings import read_settings
from tests.reliability.sender import Ledger, Sending, film
from tests.reliability.site import Kept, Site, check_kept, until

_SENDERS = 4
_STEP = '''"""A step of the next version, for a harness."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", {down!r}, None, None


def upgrade() -> None:
    """A column, and then whatever the harness wants."""
    op.add_column("studies", sa.Column("harness", sa.Text()))
    op.execute("UPDATE studies SET harness = uid")
    {then}
'''


@dataclass(frozen=True, slots=True)
class Size:
    """So many clean ``stops`` amid stores, ``films`` between two; ``apart``: 1 for processes of their own."""

    stops: int
    films: int
    apart: int

    def __str__(self) -> str:
        return (
            f"{self.stops} {'SIGTERM' if self.apart else 'stops'} and a backup amid stores over {_SENDERS} "
            "associations, restored; a database one revision older, one newer"
        )


QUICK, FULL = Size(1, 25, 0), Size(10, 150, 1)


@dataclass(frozen=True, slots=True)
class Found:
    """``kept`` after all stops; ``saved`` of what was acknowledged before the backup began."""

    acknowledged: int
    kept: Kept
    restored: int
    saved: Kept
    rows: int  # studies that went through the step to the next version
    whole: bool  # a step that failed half-way left nothing behind
    refusal: str

    @property
    def met(self) -> bool:
        told = "was written by a newer Carina" in self.refusal
        return self.kept.well and self.saved.well and self.whole and told and self.rows > 0

    def __str__(self) -> str:
        left = "left nothing" if self.whole else "LEFT SOMETHING"
        return (
            f"{self.acknowledged:,} acknowledged, {self.kept}; {self.restored:,} films restored, of those "
            f"acknowledged before the backup {self.saved}; {self.rows:,} studies brought one revision up; a "
            f"step that failed half-way {left}; a newer database is refused: “{self.refusal}”"
        )


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Stop and start amid stores, then save, restore, upgrade and refuse."""
    ledger, numbers, senders = Ledger(), count(), list[Sending]()
    with Site(folder / "site", bundle, inside=not size.apart) as site:
        site.start()
        for _ in range(size.stops):
            senders += _amid_stores(site, ledger, numbers, size.films)
            begin = time.monotonic()
            assert site.stop() == 0
            assert time.monotonic() - begin < 60
            site.start()
        senders += _amid_stores(site, ledger, numbers, size.films)
        early = Ledger(films=dict(ledger.films))
        backup(read_settings(site.config), folder / "saved")
        for sender in senders:
            sender.join(600)
        until(lambda: site.unscored() == 0, "everything is looked at", 600, 0.2)
        assert site.stop() == 0
        kept = check_kept(ledger, site.database, site.data / "archive")
        facts = restore(folder / "saved", folder / "restored")
        returned = Database(f"sqlite:///{folder / 'restored' / 'carina.sqlite'}")
        saved = check_kept(early, returned, folder / "restored" / "archive")
        rows, whole = _step(returned, folder)
        site.database.close()  # its connections are older than the backup's, see docs/log.md
        refusal = _refused(site)
        returned.close()
    return Found(len(ledger), kept, int(facts["films"]), saved, rows, whole, refusal)


def _amid_stores(site: Site, ledger: Ledger, numbers: count[int], films: int) -> list[Sending]:
    """Begin to send films, and come back in the midst of it; the senders retry until all are acknowledged."""
    some = [film(next(numbers)) for _ in range(films)]
    before = len(ledger)
    senders = [Sending("dicom", some[start::_SENDERS], ledger, site.ports) for start in range(_SENDERS)]
    for sender in senders:
        sender.start()
    until(lambda: len(ledger) >= before + films // 3, "films come in", 120, 0.002)
    return senders


def _step(database: Database, folder: Path) -> tuple[int, bool]:
    """Bring a restored database one revision up: first by a step that fails, then by one that does not."""
    head = upgrades.check(database)
    with database.read() as session:
        studies = session.scalar(select(func.count(Study.id))) or 0
    with _next_version(folder / "fails", head, "raise RuntimeError('half-way')"), suppress(RuntimeError):
        upgrades.upgrade(database)
    columns = {column["name"] for column in inspect(database.engine).get_columns("studies")}
    whole = upgrades.check(database) == head and "harness" not in columns
    with _next_version(folder / "runs", head, "pass"):
        assert upgrades.upgrade(database) == "next"
        with database.read() as session:
            rows = session.scalar(text("SELECT count(*) FROM studies WHERE harness = uid")) or 0
    assert rows == studies
    try:  # and the version that came before leaves it alone
        upgrades.upgrade(database)
    except DatabaseError:
        return rows, whole
    return rows, False


@contextmanager
def _next_version(folder: Path, down: str, then: str) -> Iterator[None]:
    """The steps of this version and one more."""
    import shutil

    ours, head = upgrades.MIGRATIONS, upgrades.HEAD
    shutil.copytree(ours, folder)
    (folder / "versions" / "next.py").write_text(_STEP.format(down=down, then=then))
    upgrades.MIGRATIONS, upgrades.HEAD = folder, "next"
    try:
        yield
    finally:
        upgrades.MIGRATIONS, upgrades.HEAD = ours, head


def _refused(site: Site) -> str:
    """What ``carina serve`` says of a database that a newer version wrote; it is not to be touched."""
    with site.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        before = session.scalar(select(func.count(Instance.id)))
    line = [sys.executable, "-m", "carina", "serve", "--config", str(site.config)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    with site.database.read() as session:
        assert session.scalar(select(func.count(Instance.id))) == before
    assert done.returncode == 1
    said = [each for each in done.stderr.splitlines() if not each.startswith("{")]
    assert len(said) == 1, done.stderr
    return said[0].removeprefix("carina: ")
