"""Is disease missed more often than was promised? Followed case by case, with an alarm that may be believed.

*The sequential test.* Every diseased study whose truth becomes known is a miss (not flagged) or a hit.
Under the promise a miss has a probability of at most q0 = 1 - sensitivity. For an alternative q > q0 the
likelihood ratio (q/q0)^miss · ((1-q)/(1-q0))^hit has an expectation of at most 1 under every miss rate up to
q0, so its product is a supermartingale (Wald 1945, Ann. Math. Statist. 16:117), and so is a mixture of such
products over alternatives (Robbins 1970, Ann. Math. Statist. 41:1397) and over the case at which things
began to go wrong (weights 1/(t(t+1)), which sum to 1). By Ville's inequality (1939) the mixture ever reaches
1/α with a probability of at most α, however long and however often one looks. This is an e-process: Ramdas,
Grünwald, Vovk & Shafer 2023, Statist. Sci. 38:576.

*Which cases count.* Readers look at flagged studies, so a miss comes to light less often than a hit. Two
streams are followed and their evidence averaged, which is an e-process again. (1) All known truth, taken as
if hits and misses came to light alike: where misses come to light less often this is on the safe side of a
false alarm. (2) Flagged studies that a reader judged, all of them being read, and the random share s of
unflagged ones marked for a second reading: a miss is then seen with probability s, so the promise allows it
s·q0 / (s·q0 + 1 - q0) of the cases seen.

Studies are counted as independent; a patient who comes every day with the same disease counts every day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving.schema import Feedback, Model, Report, Study
from carina.serving.settings import Settings

ODDS = (1.5, 2.0, 3.0, 5.0, 10.0)  # alternatives: the odds of a miss, times so much
INTERVAL = 0.95
_HUGE = 1e300


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one study, and since when. ``reported``: by a report; else a reader said so."""

    study: int
    at: datetime
    diseased: bool
    flagged: bool
    reported: bool
    drawn: bool  # marked for a second reading
    institution: str | None


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the test stands. ``evidence`` is the e-value now, ``peak`` its highest; alarm at ``limit``."""

    promised: float | None  # sensitivity; None where nobody has promised one
    cases: int  # diseased studies of known truth that were analysed
    missed: int
    evidence: float
    peak: float
    limit: float
    unflagged: int  # studies that were not flagged and whose truth is known

    @property
    def alarm(self) -> str | None:
        """A sentence where disease is missed more often than was promised."""
        if self.promised is None or self.peak < self.limit:
            return None
        return (
            f"{self.missed:,} of {self.cases:,} diseased studies were not flagged; a sensitivity of "
            f"{self.promised:.1%} was promised, and so many by luck have a chance below {1 / self.limit:.1%}"
        )

    def lines(self) -> list[str]:
        """What a terminal shows."""
        if self.promised is None:
            return [
                "No sensitivity was promised: no operating point; set roll_out.sensitivity to follow one."
            ]
        seen = f"{self.cases:,} diseased studies of known truth, {self.missed:,} not flagged"
        lines = [
            f"Promised {self.promised:.1%}: {seen}",
            f"Evidence against it {self.evidence:.3g} (highest {self.peak:.3g}); alarm from {self.limit:g}",
        ]
        if not self.unflagged:
            lines.append("No unflagged study has been read twice or reported: misses cannot be seen yet.")
        return [*lines, f"ALARM: {self.alarm}"] if self.alarm else lines


@dataclass(frozen=True, slots=True)
class Npv:
    """Of ``read`` unflagged studies, ``clear`` had no disease; two-sided exact interval (Clopper-Pearson)."""

    place: str | None  # institution; None: all
    read: int
    clear: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share; None where nobody looked."""
        return self.clear / self.read if self.read else None


class Evidence:
    """The e-process of one stream: ``see`` each case in turn, ``value`` is the evidence so far."""

    def __init__(self, promised: float, ratio: float = 1.0) -> None:
        """``ratio``: how much less often a miss is seen than a hit, in (0, 1]."""
        odds = ratio * (1 - promised) / promised
        null = odds / (1 + odds)
        rates = [odds * each / (1 + odds * each) for each in ODDS]
        self._miss = [rate / null for rate in rates]
        self._hit = [(1 - rate) / (1 - null) for rate in rates]
        self._sums = [0.0] * len(ODDS)
        self._cases = 0

    def see(self, missed: bool) -> None:
        """One more diseased study."""
        self._cases += 1
        begin = 1 / (self._cases * (self._cases + 1))
        factors = self._miss if missed else self._hit
        self._sums = [
            min(_HUGE, (each + begin) * factor) for each, factor in zip(self._sums, factors, strict=True)
        ]

    @property
    def value(self) -> float:
        """The mixture over alternatives and beginnings; what has not begun yet counts as 1."""
        return sum(self._sums) / len(self._sums) + 1 / (self._cases + 1)


def follow(truths: Iterable[Truth], promised: float, share: float) -> tuple[float, float]:
    """The evidence after the last case, and the highest on the way. ``share``: of unflagged read twice.

    The first peak at or above 1/α is an alarm, whatever comes after.
    """
    everything = Evidence(promised)
    sampled = Evidence(promised, share) if share > 0 else None
    value = peak = 1.0
    for truth in truths:
        if not truth.diseased:
            continue
        everything.see(not truth.flagged)
        if sampled is not None and not truth.reported and (truth.flagged or truth.drawn):
            sampled.see(not truth.flagged)
        value = everything.value if sampled is None else (everything.value + sampled.value) / 2
        peak = max(peak, value)
    return value, peak


def watch(session: Session, settings: Settings) -> Watch:
    """The test of the model on duty, from all that is known since its first day."""
    model = on_duty(session)
    promise = promised(model, settings)
    found = truths(session, None if model is None else model.first_on_duty)
    ill = [each for each in found if each.diseased]
    alpha = settings.roll_out.false_alarm
    value, peak = (1.0, 1.0)
    if promise is not None:
        value, peak = follow(ill, promise, settings.waits.second_reading)
    return Watch(
        promised=promise,
        cases=len(ill),
        missed=sum(not each.flagged for each in ill),
        evidence=value,
        peak=peak,
        limit=1 / alpha,
        unflagged=sum(not each.flagged for each in found),
    )


def npv(session: Session) -> list[Npv]:
    """Of unflagged studies: all together first, then each institution by name.

    Only studies whose truth came to light without regard to what it is: those drawn for a second reading and
    those with a report. A miss that somebody happened on is counted by the test above, not here.
    """
    fair = [each for each in truths(session) if not each.flagged and (each.reported or each.drawn)]
    places = sorted({each.institution for each in fair if each.institution})
    rows = [_npv(None, fair)]
    return rows + [_npv(place, [each for each in fair if each.institution == place]) for place in places]


def one_sided(found: Npv, confidence: float) -> float:
    """The one-sided lower limit of an NPV; 0 where nobody looked."""
    from carina.evaluation.planner import lower_limit

    return lower_limit(found.clear, found.read, confidence) if found.read else 0.0


def truths(session: Session, since: datetime | None = None) -> list[Truth]:
    """All analysed studies whose truth is known, in the order in which it became known.

    A report goes before a reader, and the newest of each before older ones.
    """
    analysed = Study.outcome.is_not(None) & (Study.outcome != str(Outcome.NOT_ANALYSED))
    known: dict[int, Truth] = {}
    for kind in (Feedback, Report):
        said = Feedback.outcome if kind is Feedback else Study.outcome
        for row in session.execute(_truth(kind, said, analysed, since)):
            at, diseased, outcome, study, drawn, institution = row
            if outcome is None or outcome == str(Outcome.NOT_ANALYSED):
                continue
            flagged = outcome == str(Outcome.FLAGGED)
            known[study] = Truth(study, at, diseased, flagged, kind is Report, drawn, institution)
    return sorted(known.values(), key=lambda each: (each.at, each.study))


def on_duty(session: Session) -> Model | None:
    """The model that decided last; before anything was decided, the newest one."""
    last = (
        select(Study.model_id).where(Study.model_id.is_not(None)).order_by(Study.decided_at.desc()).limit(1)
    )
    number = session.scalar(last)
    if number is not None:
        return session.get(Model, number)
    return session.scalar(select(Model).order_by(Model.first_on_duty.desc(), Model.id.desc()).limit(1))


def point(model: Model, settings: Settings) -> Mapping[str, Any] | None:
    """The operating point the site works at, as the model's manifest has it; None where there is none."""
    sites: Mapping[str, Any] = model.manifest.get("sections", {}).get("operating_points", {})
    points = sites.get(settings.site or "default", {}).get("points", [])
    wanted = settings.target_sensitivity
    chosen = [each for each in points if wanted is None or abs(each["target"] - wanted) < 1e-9]
    return max(chosen, key=lambda each: each["target"], default=None)


def promised(model: Model | None, settings: Settings) -> float | None:
    """The sensitivity that is followed: the setting, or what the operating point was shown to keep."""
    if settings.roll_out.sensitivity is not None:
        return settings.roll_out.sensitivity
    found = None if model is None else point(model, settings)
    return None if found is None else float(found["sensitivity"]["limit"])


def _truth(
    kind: type[Feedback] | type[Report], said: Any, analysed: ColumnElement[bool], since: datetime | None
) -> Select[Any]:
    rows = (
        select(kind.at, kind.disease, said, Study.id, Study.second_reading, Study.institution)
        .join(Study, kind.study_id == Study.id)
        .where(analysed, kind.disease.is_not(None))
        .order_by(kind.id)
    )
    return rows if since is None else rows.where(Study.decided_at >= since)


def _npv(place: str | None, rows: list[Truth]) -> Npv:
    from carina.evaluation.planner import lower_limit, upper_limit

    read, clear = len(rows), sum(not each.diseased for each in rows)
    if not read:
        return Npv(place, 0, 0, 0.0, 1.0)
    one_sided = (1 + INTERVAL) / 2
    return Npv(place, read, clear, lower_limit(clear, read, one_sided), upper_limit(clear, read, one_sided))
