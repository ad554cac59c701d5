"""A long day in short: films at a steady rate, some of them bad, and what the service holds on to.

Memory and descriptors of the service and of its decoding processes are read from /proc; the slope is that
of the line of least squares through what came after the first quarter.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from carina.scoring.triage import Outcome
from carina.serving.schema import PredictionRow
from tests.reliability.sender import Association, Film, Ledger, film
from tests.reliability.site import Kept, Site, check_kept, children, until

_BAD = 100  # one film of so many has lost half of its pixels
_GROWTH = 5.0  # MB an hour that memory may grow
_DESCRIPTORS = 8  # that their number may move within


@dataclass(frozen=True, slots=True)
class Size:
    """``seconds`` at ``rate`` films a second; ``apart``: 1 for a service in a process of its own."""

    seconds: int
    rate: int
    apart: int

    def __str__(self) -> str:
        how_long = f"{self.seconds / 60:g} min" if self.seconds >= 60 else f"{self.seconds} s"
        return f"{how_long} at {self.rate} films/s, 1 % bad"


QUICK, FULL = Size(30, 4, 0), Size(3600, 10, 1)


@dataclass(slots=True)
class Found:
    """``memory`` in MB and ``descriptors`` over ``times`` in seconds; ``slowest``: the longest answer."""

    acknowledged: int = 0
    bad: int = 0
    unanalysed: int = 0
    kept: Kept = field(default_factory=lambda: Kept(0, 0, 0))
    times: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0

    @property
    def slope(self) -> float:
        """MB an hour, after the first quarter."""
        times, memory = np.array(self.times), np.array(self.memory)
        late = times >= times[-1] / 4
        return float(np.polyfit(times[late], memory[late], 1)[0] * 3600)

    @property
    def moved(self) -> int:
        """Between the least and the most descriptors, after the first quarter."""
        late = self.descriptors[len(self.descriptors) // 4 :]
        return max(late) - min(late)

    @property
    def met(self) -> bool:
        return self.kept.well and self.slope < _GROWTH and self.moved <= _DESCRIPTORS

    def __str__(self) -> str:
        late = self.memory[len(self.memory) // 4 :]
        pace = f"{self.acknowledged:,} films in {self.seconds / 60:.1f} min"
        return (
            f"{pace} ({self.acknowledged / self.seconds:.1f}/s), {self.kept}; "
            f"{self.unanalysed} of {self.bad} bad ones not analysed; memory {min(late):.0f} to "
            f"{max(late):.0f} MB, slope {self.slope:+.1f} MB/h after the first quarter; descriptors within "
            f"{self.moved}; longest answer {self.slowest:.2f} s"
        )


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Send at the rate as long as it takes, then let everything be looked at."""
    found, ledger = Found(), Ledger()
    with Site(folder, bundle, inside=not size.apart) as site:
        site.start()
        ended = threading.Event()
        watching = threading.Thread(target=_watch, args=(site.pid, found, ended), daemon=True)
        watching.start()
        begin = time.monotonic()
        _send(site, ledger, found, size, begin)
        found.seconds = time.monotonic() - begin
        ended.set()
        watching.join()
        until(lambda: site.unscored() == 0, "everything is looked at", 1800, 0.5)
        site.stop()
        found.acknowledged = len(ledger)
        found.kept = check_kept(ledger, site.database, site.data / "archive")
        found.unanalysed = site.count(PredictionRow, PredictionRow.outcome == Outcome.NOT_ANALYSED)
    return found


def _send(site: Site, ledger: Ledger, found: Found, size: Size, begin: float) -> None:
    """One film after the other, each at its time, over associations of a hundred films."""
    link = None
    for number in count():
        at = begin + number / size.rate
        if at - begin > size.seconds:
            break
        time.sleep(max(0.0, at - time.monotonic()))
        each = _cut(film(number)) if number % _BAD == _BAD // 2 else film(number)
        found.bad += number % _BAD == _BAD // 2
        link = link or Association(site.dicom)
        asked = time.monotonic()
        assert link.store(each) == 0
        found.slowest = max(found.slowest, time.monotonic() - asked)
        ledger.acknowledge("dicom", each)
        if number % 100 == 99:
            link.close()
            link = None
    if link is not None:
        link.close()


def _cut(whole: Film) -> Film:
    """A film whose data set ends in the middle of its pixels."""
    return Film(whole.uid, whole.content[: -len(whole.content) // 3], whole.data_set)


def _watch(pid: int, found: Found, ended: threading.Event) -> None:
    """Read memory and descriptors every second, or every ten in a long run."""
    begin = time.monotonic()
    while not ended.wait(1.0 if time.monotonic() - begin < 60 else 10.0):
        memory = sum(_resident(each) for each in (pid, *children(pid)))
        found.times.append(time.monotonic() - begin)
        found.memory.append(memory)
        found.descriptors.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


def _resident(pid: int) -> float:
    """MB of a process that are its own: resident, less what it shares."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:  # it ended meanwhile
        return 0.0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20
