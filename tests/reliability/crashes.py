"""Acknowledged = kept, through ``kill -9`` of the whole service at random moments.

Senders of all three ways (C-STORE, STOW-RS, uploads) retry until they are told of success; meanwhile the
service is killed and started again. In the end every film that was acknowledged is there once, with its
bytes.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from carina.serving.schema import Job, JobState
from tests.reliability.sender import Film, Ledger, Sending, Way, film, picture
from tests.reliability.site import Kept, Site, Start, check_kept, longest, until


@dataclass(frozen=True, slots=True)
class Size:
    """``films`` by C-STORE over ``associations``, ``stow`` and ``uploads`` beside them, and ``kills``."""

    films: int
    associations: int
    stow: int
    uploads: int
    kills: int

    def __str__(self) -> str:
        return (
            f"{self.films:,} C-STOREs over {self.associations} associations, {self.stow:,} STOW, "
            f"{self.uploads:,} uploads, {self.kills} kills"
        )


QUICK = Size(films=90, associations=4, stow=12, uploads=6, kills=1)
FULL = Size(films=10_000, associations=20, stow=2_000, uploads=500, kills=40)


@dataclass(frozen=True, slots=True)
class Found:
    """What was acknowledged and is kept; ``tries`` are requests that were sent, ``seconds`` by the clock.

    ``given_up``: films over which the service was killed twice, so that they were left to a reader.
    """

    acknowledged: int
    kept: Kept
    kills: int
    starts: list[Start]
    tries: int
    given_up: int
    seconds: float

    @property
    def met(self) -> bool:
        return self.kept.well and max(start.seconds for start in self.starts) <= 5

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged through {self.kills} kills: {self.kept}; "
            f"{longest(self.starts)}; {self.given_up} left to a reader because two kills met them at work; "
            f"{self.tries:,} requests in {self.seconds:.0f} s"
        )


def load(folder: Path, bundle: Path, size: Size, seed: int = 7) -> Found:
    """Send everything through all the kills, then look for it."""
    dice, ledger, begin = random.Random(seed), Ledger(), time.monotonic()
    everything = size.films + size.stow + size.uploads
    with Site(folder, bundle) as site:
        site.start()
        senders = _senders(site, ledger, size)
        for sender in senders:
            sender.start()
        moments = sorted(dice.sample(range(1, everything), size.kills))
        kills = 0
        for moment in moments:
            until(lambda wanted=moment: len(ledger) >= wanted, "the next kill", 600, 0.002)  # type: ignore[misc]
            if len(ledger) == everything:
                break
            time.sleep(dice.uniform(0, 0.03))
            site.kill()
            kills += 1
            site.start()
        for sender in senders:
            sender.join(900)
        until(lambda: site.unscored() == 0, "everything is looked at", 1800, 0.5)
        site.stop()
        kept = check_kept(ledger, site.database, site.data / "archive")
        assert site.faults() == []
        given_up = site.count(Job, Job.state == JobState.DEAD)
        seconds = time.monotonic() - begin
        return Found(len(ledger), kept, kills, site.starts, ledger.tries, given_up, seconds)


def _senders(site: Site, ledger: Ledger, size: Size) -> list[Sending]:
    """``associations`` senders of C-STORE, two of STOW-RS and one of uploads."""
    films = [film(number) for number in range(size.films + size.stow)]
    ways: list[tuple[Way, list[Film]]] = [
        ("dicom", films[start : size.films : size.associations]) for start in range(size.associations)
    ]
    ways += [("stow", films[size.films + start :: 2]) for start in range(2)]
    ways += [("upload", [picture(number) for number in range(size.uploads)])]
    return [Sending(way, some, ledger, site.ports, site.key) for way, some in ways]
