"""How the department does over some days: arrivals, waits, shares, agreement with readers, drift.

Reads, and counts. A wait runs from the first film of a study until somebody read it; studies that nobody has
read yet are counted apart with the time they have waited so far, or the slowest would be missing. All times
are those of this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query
from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving import drift, monitoring
from carina.serving.drift import Drift
from carina.serving.monitoring import Npv, Watch
from carina.serving.schema import Feedback, Rank, Study
from carina.serving.settings import Settings
from carina.serving.web.plots import Series, bars, beside
from carina.serving.web.words import RANK_WORDS

RANGES = (1, 7, 30, 90)
Days = Annotated[int, Query(ge=1, le=366)]
_KINDS = ("now", "soon", "not analysed", "not flagged")


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits of one urgency, in seconds. ``open_`` are not read yet, ``oldest`` the longest of them so far."""

    urgency: str
    read: int
    mean: float | None
    p95: float | None
    most: float | None
    open_: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What readers said of the studies of one outcome."""

    outcome: str
    agreed: int
    disagreed: int
    priority: int

    @property
    def share(self) -> float | None:
        """Agreed of all who agreed or disagreed."""
        said = self.agreed + self.disagreed
        return self.agreed / said if said else None


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures from ``since`` until ``until``; ``labels`` name the bars of the plots."""

    since: datetime
    until: datetime
    studies: int
    labels: Sequence[str]
    arrivals: Sequence[Sequence[int]]  # for each kind, for each label
    waits: Sequence[Waits]
    agreement: Sequence[Agreement]
    drift: Sequence[Drift]
    watch: Watch
    npv: Sequence[Npv]

    @property
    def alarms(self) -> list[str]:
        """What must not be overlooked: missed cases, and films or scores that have moved."""
        missed = [self.watch.alarm] if self.watch.alarm else []
        return missed + [each.says.removesuffix("  << ALARM") for each in self.drift if each.alarm]

    @property
    def measured(self) -> list[Drift]:
        """Numbers of which enough films are known to tell, those that alarm first."""
        return sorted(
            (each for each in self.drift if each.index is not None), key=lambda each: not each.alarm
        )

    @property
    def unmeasured(self) -> list[Drift]:
        """The others."""
        return [each for each in self.drift if each.index is None]

    @property
    def kinds(self) -> Sequence[str]:
        """The rows of ``arrivals``."""
        return _KINDS

    @property
    def totals(self) -> dict[str, int]:
        """Studies of each kind."""
        return {kind: sum(row) for kind, row in zip(_KINDS, self.arrivals, strict=True)}

    def arrivals_plot(self) -> Markup:
        """Studies over time, by what was said of them."""
        return bars("Studies that came, over time, by urgency", self.labels, self._layers())

    def shares_plot(self) -> Markup:
        """The same, each bar stretched to 100 %."""
        return bars("Shares of the urgencies over time", self.labels, self._layers(), share=True)

    def _layers(self) -> list[Series]:
        return [
            Series(kind, kind.replace(" ", "-"), row) for kind, row in zip(_KINDS, self.arrivals, strict=True)
        ]


def drift_plot(moved: Drift) -> Markup:
    """The shares of the films of then and of now between the same borders."""
    ends = [f"< {border:.3g}" for border in moved.borders] + ["above"]
    layers = [Series("then", "then", moved.then), Series("now", "recent", moved.now)]
    return beside(f"{moved.name}: {moved.reference}, and the last days", ends, layers)


def figures(session: Session, settings: Settings, now: datetime, days: int) -> Figures:
    """All figures of the last ``days`` days: by the hour for one day, else by the day."""
    since = now - timedelta(days=days)
    width = timedelta(hours=1) if days == 1 else timedelta(days=1)
    count = 24 if days == 1 else days
    begin = now - count * width
    labels = [
        f"{begin + (i + 1) * width:%H:00}" if days == 1 else f"{begin + (i + 1) * width:%d %b}"
        for i in range(count)
    ]
    arrivals = [[0] * count for _ in _KINDS]
    waited: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    waiting: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    rows = session.execute(
        select(Study.received_at, Study.read_at, Study.outcome, Study.urgency).where(
            Study.received_at > since
        )
    )
    studies = 0
    for received_at, read_at, outcome, urgency in rows:
        studies += 1
        kind = _kind(outcome, urgency)
        place = min(count - 1, max(0, int((received_at - begin) / width)))
        arrivals[_KINDS.index(kind)][place] += 1
        (waited if read_at else waiting)[kind].append(((read_at or now) - received_at).total_seconds())
    return Figures(
        since=since,
        until=now,
        studies=studies,
        labels=labels,
        arrivals=arrivals,
        waits=[_waits(kind, waited[kind], waiting[kind]) for kind in _KINDS],
        agreement=_agreement(session, since),
        drift=drift.measure(session, settings, now, timedelta(days=days)),
        watch=monitoring.watch(session, settings),
        npv=monitoring.npv(session),
    )


def _kind(outcome: str | None, urgency: str | None) -> str:
    """What was said of a study, not where it stands: one that was raised for its wait stays what it is."""
    if outcome == Outcome.FLAGGED:
        return "now" if urgency == "now" else "soon"
    return RANK_WORDS[Rank.NOT_FLAGGED if outcome == Outcome.NOT_FLAGGED else Rank.NOT_ANALYSED]


def _waits(kind: str, read: list[float], unread: list[float]) -> Waits:
    read.sort()
    return Waits(
        urgency=kind,
        read=len(read),
        mean=sum(read) / len(read) if read else None,
        p95=_rank(read, 0.95),
        most=read[-1] if read else None,
        open_=len(unread),
        oldest=max(unread, default=None),
    )


def _rank(ordered: Sequence[float], share: float) -> float | None:
    """The least value that at least ``share`` of all do not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _agreement(session: Session, since: datetime) -> list[Agreement]:
    rows: Iterable[tuple[str | None, str, int]] = (
        (row[0], row[1], row[2])
        for row in session.execute(
            select(Feedback.outcome, Feedback.kind, func.count())
            .where(Feedback.at > since)
            .group_by(Feedback.outcome, Feedback.kind)
        )
    )
    counts: dict[tuple[str, str], int] = {}
    for outcome, kind, number in rows:
        counts[(outcome or Outcome.NOT_ANALYSED, kind)] = number
    return [
        Agreement(
            str(outcome),
            counts.get((outcome, "agree"), 0),
            counts.get((outcome, "disagree"), 0),
            counts.get((outcome, "priority"), 0),
        )
        for outcome in (Outcome.FLAGGED, Outcome.NOT_FLAGGED, Outcome.NOT_ANALYSED)
    ]
