"""Databases that are locked, restarted and killed amid stores: nothing is lost, nothing comes twice.

SQLite is locked by another program for seconds; PostgreSQL is stopped and started, or killed, under a
listener that has connections open. Senders are told of failures meanwhile, and send again.
"""

from __future__ import annotations

import random
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.sender import Ledger, Sending, film
from tests.reliability.site import Kept, Site, check_kept, until
from tests.serving.postgres import Cluster

_SENDERS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """``stores`` each; ``locks`` of SQLite for ``seconds``, ``restarts`` and ``kills`` of PostgreSQL."""

    stores: int
    locks: int
    seconds: int
    restarts: int
    kills: int

    def __str__(self) -> str:
        return (
            f"{self.stores:,} stores each: SQLite locked {self.locks} times for {self.seconds} s; "
            f"PostgreSQL restarted {self.restarts} times, killed {self.kills} times"
        )


QUICK, FULL = Size(40, 1, 2, 1, 1), Size(5000, 10, 5, 20, 3)


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept in each database, and how often a sender had to try again."""

    sqlite: Kept
    postgresql: Kept
    acknowledged: int
    again: int

    @property
    def met(self) -> bool:
        return self.sqlite.well and self.postgresql.well

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged, {self.again:,} tried again: SQLite {self.sqlite}; "
            f"PostgreSQL {self.postgresql}"
        )


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """First SQLite, then PostgreSQL."""
    one, other = Ledger(), Ledger()
    sqlite = _sqlite(folder / "sqlite", size, one)
    postgresql = _postgresql(folder / "postgresql", size, other)
    acknowledged = len(one) + len(other)
    return Found(sqlite, postgresql, acknowledged, one.tries + other.tries - acknowledged)


def _sqlite(folder: Path, size: Size, ledger: Ledger) -> Kept:
    with Site(folder, None, inside=True) as site:
        site.start(role="listener")
        senders = _send(site, ledger, size.stores)
        for number in range(size.locks):
            _reach(ledger, size.stores * (number + 1) // (size.locks + 1))
            with sqlite3.connect(site.data / "carina.sqlite", isolation_level=None, timeout=60) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(size.seconds)
                other.execute("ROLLBACK")
            other.close()
        return _kept(site, ledger, senders)


def _postgresql(folder: Path, size: Size, ledger: Ledger) -> Kept:
    cluster, dice = Cluster(), random.Random(1)
    try:
        cluster.execute("CREATE DATABASE ward")
        with Site(folder, None, inside=True, database=cluster.url("ward")) as site:
            site.start(role="listener")
            senders = _send(site, ledger, size.stores)
            modes = ["fast"] * size.restarts + ["immediate"] * size.kills
            dice.shuffle(modes)
            for number, mode in enumerate(modes):
                _reach(ledger, size.stores * (number + 1) // (len(modes) + 1))
                cluster.stop(mode)
                cluster.start()
            return _kept(site, ledger, senders)
    finally:
        cluster.close()


def _send(site: Site, ledger: Ledger, stores: int) -> list[Sending]:
    films = [film(number) for number in range(stores)]
    senders = [
        Sending("dicom", films[start::_SENDERS], ledger, site.ports, pause=0.02) for start in range(_SENDERS)
    ]
    for sender in senders:
        sender.start()
    return senders


def _reach(ledger: Ledger, count: int) -> None:
    until(lambda: len(ledger) >= count, f"{count} films are acknowledged", 600, 0.005)


def _kept(site: Site, ledger: Ledger, senders: list[Sending]) -> Kept:
    for sender in senders:
        sender.join(1200)
    kept = check_kept(ledger, site.database, site.data / "archive")
    site.stop()
    return kept
