"""Acknowledged = kept, through power cuts: the disk under a running service is shut down without a flush.

Everything lies on an ext4 of its own, which ``EXT4_IOC_SHUTDOWN`` cuts off with nothing flushed, neither
data nor journal: what only the page cache knew is gone, as when the plug is pulled (the disk's own cache
is not simulated). The service is stopped at that moment, its calls to the disk in work: a kernel that lives
on may call an fsync done whose journal was just given up, and a machine without power answers nobody. Then
the journal is replayed, and every film acknowledged so far must be there.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.reliability.sender import Film, Ledger, Sending, film
from tests.reliability.site import Kept, Site, check_kept, until
from tests.reliability.volume import Volume

_SENDERS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """So many power cuts, ``films`` acknowledged before each at most."""

    rounds: int
    films: int

    def __str__(self) -> str:
        return (
            f"{self.rounds} power cuts of a loop-mounted ext4 (shutdown without flush), each amid stores "
            f"over {_SENDERS} associations"
        )


QUICK, FULL = Size(rounds=1, films=12), Size(rounds=30, films=60)


@dataclass(slots=True)
class Found:
    """``kept`` after each round."""

    acknowledged: int = 0
    kept: list[Kept] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return bool(self.kept) and all(each.well for each in self.kept)

    def __str__(self) -> str:
        lost, twice, changed = (
            sum(getattr(each, name) for each in self.kept) for name in ("lost", "twice", "changed")
        )
        whole = sum(each.integrity == "ok" for each in self.kept)
        return (
            f"{self.acknowledged:,} acknowledged: {lost} lost, {twice} twice, {changed} with other bytes; "
            f"database integrity ok {whole}/{len(self.kept)}"
        )


def load(folder: Path, bundle: Path, size: Size, seed: int = 3) -> Found:
    """Cut the power amid stores, mount again, look, and go on."""
    found, ledger, dice = Found(), Ledger(), random.Random(seed)
    films = (film(number) for number in count())
    with Volume(folder / "disk", 96) as volume, Site(folder, None, data=volume.path / "data") as site:
        for _ in range(size.rounds):
            site.start(role="listener")
            stop, before = threading.Event(), len(ledger)
            senders = [
                Sending("dicom", _shared(films), ledger, site.ports, stop=stop) for _ in range(_SENDERS)
            ]
            for sender in senders:
                sender.start()
            wanted = before + dice.randint(1, size.films)
            until(lambda wanted=wanted: len(ledger) >= wanted, "films come in", 120, 0.002)  # type: ignore[misc]
            time.sleep(dice.uniform(0, 0.02))
            site.freeze()  # nobody answers any more once there is no power
            volume.cut()
            site.kill()
            stop.set()
            for sender in senders:
                sender.join(60)
            site.database.close()
            volume.unmount()
            volume.mount()
            found.kept.append(check_kept(ledger, site.database, site.data / "archive"))
            site.database.close()
        found.acknowledged = len(ledger)
        site.close()
    return found


_turn = threading.Lock()


class _shared:  # noqa: N801 - reads as a function
    """An iterator that several threads take from."""

    def __init__(self, films: object) -> None:
        self._films = iter(films)  # type: ignore[call-overload]

    def __iter__(self) -> _shared:
        return self

    def __next__(self) -> Film:
        with _turn:
            taken: Film = next(self._films)
            return taken
