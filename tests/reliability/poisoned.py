"""A poisoned film (one that kills, hangs or fills the decoder) costs nobody else anything.

It is "not analysed" within a minute and two tries, the others are scored. Where even the service dies
over a film, the next start tries it once more, and the one after that leaves it to a reader: no crash
loop.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from carina.scoring.triage import Outcome
from carina.serving.header import read_header
from carina.serving.schema import Instance, Job, JobState, PredictionRow, Study
from tests.reliability.sender import Association, Film, film
from tests.reliability.site import Site, until
from tests.serving.instances import instance, uid_of

POISON = Path(__file__).with_name("poison")
KINDS = ("KILLS", "HANGS", "FILLS")
_NUMBER = 77_000_000  # of the first poisoned film


@dataclass(frozen=True, slots=True)
class Size:
    """``good`` films around three poisoned ones; then ``kills`` of the service over a fourth."""

    good: int
    kills: int

    def __str__(self) -> str:
        kills = f", then {self.kills} kills of the service over one" if self.kills else ""
        return f"3 poisoned films (killing, hanging, filling) among {self.good} good ones{kills}"


QUICK, FULL = Size(good=20, kills=0), Size(good=100, kills=2)


@dataclass(frozen=True, slots=True)
class Found:
    """``waits``: seconds from receipt to "not analysed" of each poisoned film, its code, its tries."""

    good: int
    scored: int
    waits: dict[str, tuple[float, str, int]]
    starts_after: int  # starts until the film that kills the service was left to a reader
    said: str  # … and how

    @property
    def met(self) -> bool:
        quick = all(wait <= 60 and tries <= 2 for wait, _, tries in self.waits.values())
        return self.scored == self.good and quick and self.said in ("", "poisoned")

    def __str__(self) -> str:
        bad = ", ".join(
            f"{name.lower()}: {code} after {wait:.0f} s, {tries} {'try' if tries == 1 else 'tries'}"
            for name, (wait, code, tries) in self.waits.items()
        )
        loop = f"; killed over one, start {self.starts_after} left it to a reader ({self.said})"
        return f"{self.scored} of {self.good} scored; {bad}{loop if self.said else ''}"


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Send good and bad films, wait until nothing waits any more, and look at what was said of each."""
    with _poisonous() as environment, Site(
        folder, bundle, inside=not size.kills, environment=environment
    ) as site:  # fmt: skip
        site.start()
        films = [film(number) for number in range(size.good)]
        bad = {kind: poisoned(kind, place) for place, kind in enumerate(KINDS)}
        for place, each in enumerate(bad.values()):
            films.insert((place + 1) * size.good // 4, each)
        _send(site, films)
        until(lambda: site.unscored() == 0, "every film has its answer", 300)
        waits = {kind: _told(site, each) for kind, each in bad.items()}
        starts, said = _loop(site, size.kills) if size.kills else (0, "")
        site.stop()
        with site.database.read() as session:
            decided = select(PredictionRow.id).where(PredictionRow.p_disease.is_not(None))
            scored = len(session.scalars(decided).all())
        return Found(size.good + bool(size.kills), scored, waits, starts, said)


def poisoned(kind: str, place: int) -> Film:
    """A film that does ``kind`` to the process that reads it."""
    number = _NUMBER + place
    content = instance(number, PatientName=f"POISON-{kind}")
    from io import BytesIO

    return Film(uid_of(number), content, read_header(BytesIO(content), "").content_at)


def _loop(site: Site, kills: int) -> tuple[int, str]:
    """Kill the service each time it has the film in hand; the start that left it alone, and its words."""
    each = poisoned("HANGS", 3)
    _send(site, [each])
    for _ in range(kills):
        until(lambda: site.count(Job, Job.state == JobState.TAKEN) == 1, "the film is in hand", 240, 0.02)
        time.sleep(0.5)
        site.kill()
        site.start()
    until(lambda: site.unscored() == 0, "the film is left to a reader", 300)
    _send(site, [film(99_000)])
    until(lambda: site.unscored() == 0, "the next film is scored", 300)
    return kills + 1, _told(site, each)[1]


def _told(site: Site, each: Film) -> tuple[float, str, int]:
    """Seconds until a film was "not analysed", the code, and the tries."""
    with site.database.read() as session:
        asked = (
            select(Instance.received_at, PredictionRow.at, PredictionRow.code, Job.attempts, Study.outcome)
            .join(PredictionRow, PredictionRow.instance_id == Instance.id)
            .join(Job, Job.instance_id == Instance.id)
            .join(Study, Study.id == Instance.study_id)
            .where(Instance.uid == each.uid)
        )
        received, at, code, tries, outcome = session.execute(asked).one()
    assert outcome == Outcome.NOT_ANALYSED
    return (at - received).total_seconds(), str(code), int(tries)


def _send(site: Site, films: list[Film]) -> None:
    link = Association(site.dicom)
    assert [link.store(each) for each in films] == [0] * len(films), datetime.now(UTC)
    link.close()


@contextmanager
def _poisonous() -> Iterator[dict[str, str]]:
    """Decoding processes of this process, or of one with this environment, know poison."""
    import os

    sys.path.append(str(POISON))
    try:
        yield {"PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(POISON)])}
    finally:
        sys.path.remove(str(POISON))
