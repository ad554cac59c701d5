"""The roll-out ladder: audit → silent → prioritise → rule-out suggestion, each step by its evidence.

* *audit*: the model is held against films the hospital has already read; its results go nowhere.
* *silent*: it looks at what comes in; its results go nowhere, and it is measured what it would have done.
* *prioritise*: studies are ordered by it, and results go out. Every study is read.
* *rule-out suggestion*: some unflagged studies are marked "likely clear". Every study is read all the same.

One step up at a time, and only when everything it asks for is there; down at any time, by anybody who may,
with a reason. What a step was reached by is kept with it, and in the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from carina.errors import StepError
from carina.scoring.policy import LEAST_TO_CLEAR
from carina.scoring.triage import Outcome
from carina.serving import auditlog, drift, monitoring
from carina.serving.schema import Event, Health, Step, Study
from carina.serving.settings import Ladder, RollOut, Settings

STEPS = tuple(Ladder)
WATCH = "watch"  # the part of the service that speaks of alarms (``carina.serving.schema.Health``)
CONFIDENCE = 0.95  # of every lower limit that is asked for, one-sided


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing a step asks for: what, whether it is there, and what was found.

    ``states`` are the names under which a person states it; what has none is measured.
    """

    asks: str
    met: bool
    found: str
    states: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What is asked for, and how it is stated on the command line."""
        return ": ".join((self.asks, *([] if not self.states else [self._options])))

    @property
    def _options(self) -> str:
        return " ".join(f"--evidence {name}=…" for name in self.states)


def current(session: Session) -> Ladder:
    """The step the site is on; *audit* until another one was taken."""
    newest = session.scalar(select(Step.step).order_by(Step.id.desc()).limit(1))
    return Ladder.AUDIT if newest is None else Ladder(newest)


def reached(step: Ladder, since: Ladder) -> bool:
    """Whether ``step`` is ``since`` or one above it."""
    return STEPS.index(step) >= STEPS.index(since)


def alarms(session: Session, settings: Settings, now: datetime) -> list[str]:
    """What is wrong at present, a sentence each: cases missed, films or scores that have changed."""
    missed = monitoring.watch(session, settings).alarm
    shifted = [each.says for each in drift.measure(session, settings, now) if each.alarm]
    return [*([] if missed is None else [missed]), *shifted]


def deciding(session: Session) -> Ladder:
    """The step films are decided by: the site's, but no suggestion while an alarm stands.

    What stands is what housekeeping found last (``WATCH``); where nothing has been watched, nothing is
    suggested.
    """
    step = current(session)
    if step != Ladder.RULE_OUT:
        return step
    watched = session.get(Health, WATCH)
    return step if watched is not None and watched.well else Ladder.PRIORITISE


def demands(
    session: Session, settings: Settings, step: Ladder, evidence: Mapping[str, str], now: datetime
) -> list[Demand]:
    """All that ``step`` asks for, met or not. ``evidence`` is what a person states: name → value."""
    asked = settings.roll_out
    if step == Ladder.AUDIT:
        return []
    if step == Ladder.SILENT:
        return [*_audited(evidence, asked), _signed(evidence)]
    if step == Ladder.PRIORITISE:
        return [
            *_served(session, Ladder.SILENT, asked.silent_days, asked.silent_studies, now),
            _readable(session, asked.most_not_analysed, now - timedelta(days=asked.silent_days or 1)),
            *_quiet(session, settings, now),
            _signed(evidence),
        ]
    return [
        _shown(session, settings),
        *_served(session, Ladder.PRIORITISE, asked.prioritise_days, asked.prioritise_studies, now),
        _unflagged_read(session, asked),
        *_quiet(session, settings, now),
        _signed(evidence),
    ]


def take(
    session: Session, settings: Settings, step: Ladder, by: str, evidence: Mapping[str, str], now: datetime
) -> Step:
    """Go to ``step``.

    Raises StepError where it is no neighbour upwards, or asks for what is not there, or where a way down
    has no ``reason`` in ``evidence``.
    """
    here = current(session)
    up = STEPS.index(step) - STEPS.index(here)
    if up == 0:
        raise StepError(f"the site is on the step {step} already")
    if up > 1:
        raise StepError(
            f"{step}: comes after {STEPS[STEPS.index(step) - 1]}, and the site is on {here}; one by one"
        )
    if up < 0 and not evidence.get("reason", "").strip():
        raise StepError(f"{step}: is a way down, which is always open; say why: --evidence reason=…")
    found = demands(session, settings, step, evidence, now) if up > 0 else []
    missing = [each for each in found if not each.met]
    if missing:
        listed = "; ".join(f"{each.line} ({each.found})" for each in missing)
        raise StepError(f"{step}: not yet. It asks for: {listed}")
    model = monitoring.on_duty(session)
    kept = {
        "from": str(here),
        "stated": dict(evidence),
        "demands": [asdict(each) for each in found],
        "model": None if model is None else model.fingerprint,
    }
    row = Step(at=now, by=by, step=str(step), evidence=kept)
    session.add(row)
    session.flush()
    auditlog.append(session, by, "step taken", str(step), kept, now=now)
    session.add(Event(at=now, kind="service", study_id=None))
    return row


def _audited(evidence: Mapping[str, str], asked: RollOut) -> list[Demand]:
    from carina.evaluation.planner import lower_limit

    diseased, found = _count(evidence, "diseased"), _count(evidence, "found")
    known = diseased is not None and found is not None and 0 <= found <= diseased
    limit = lower_limit(found or 0, diseased or 0, CONFIDENCE) if known else 0.0
    least = asked.audit_sensitivity
    report = evidence.get("report", "").strip()
    return [
        Demand(
            f"a sensitivity of at least {least:.0%} shown on films read here (people with disease, and how "
            "many of them were found; lower limit at 95 %)",
            known and limit >= least,
            f"{found} of {diseased} found: at least {_down(limit)}" if known else "not stated",
            ("diseased", "found"),
        ),
        Demand(
            "where the audit is written down (a file's name, or its SHA-256)",
            bool(report),
            report or "not stated",
            ("report",),
        ),
    ]


def _served(session: Session, step: Ladder, days: float, studies: int, now: datetime) -> list[Demand]:
    since = session.scalar(select(Step.at).where(Step.step == str(step)).order_by(Step.id.desc()).limit(1))
    past = 0.0 if since is None else (now - since) / timedelta(days=1)
    count = 0
    if since is not None:
        analysed = select(func.count()).select_from(Study).where(Study.decided_at >= since)
        count = session.scalar(analysed.where(Study.outcome != str(Outcome.NOT_ANALYSED))) or 0
    return [
        Demand(f"{days:g} days on the step {step}", past >= days, f"{past:.1f} days"),
        Demand(f"{studies:,} studies analysed on it", count >= studies, f"{count:,} studies"),
    ]


def _readable(session: Session, most: float, since: datetime) -> Demand:
    rows = select(Study.outcome, func.count()).where(Study.decided_at >= since).group_by(Study.outcome)
    counts: dict[str | None, int] = {outcome: count for outcome, count in session.execute(rows)}  # noqa: C416
    total = sum(counts.values())
    share = counts.get(str(Outcome.NOT_ANALYSED), 0) / total if total else 1.0
    found = f"{share:.1%} of {total:,} studies" if total else "no study was decided"
    return Demand(f"at most {most:.0%} of studies not analysed", total > 0 and share <= most, found)


def _quiet(session: Session, settings: Settings, now: datetime) -> list[Demand]:
    missed = monitoring.watch(session, settings).alarm
    shifted = [each.says for each in drift.measure(session, settings, now) if each.alarm]
    return [
        Demand("no alarm of missed cases", missed is None, missed or "none"),
        Demand("no alarm of drift", not shifted, shifted[0] if shifted else "none"),
    ]


def _shown(session: Session, settings: Settings) -> Demand:
    """An operating point of the model on duty, for this very site, that carries the suggestion."""
    asks = f"an operating point shown for this site with a sensitivity of at least {LEAST_TO_CLEAR:.0%}"
    model = monitoring.on_duty(session)
    if model is None or settings.site is None:
        return Demand(asks, False, "no model on duty" if model is None else "the settings name no site")
    point = monitoring.point(model, settings)
    if point is None:
        return Demand(asks, False, f"none for {settings.site!r}; run: carina calibrate")
    limit = float(point["sensitivity"]["limit"])
    people = int(point["sensitivity"]["people"])
    return Demand(asks, limit >= LEAST_TO_CLEAR, f"at least {_down(limit)}, shown on {people:,} people")


def _unflagged_read(session: Session, asked: RollOut) -> Demand:
    everywhere = monitoring.npv(session)[0]
    asks = (
        f"at least {asked.least_npv:.1%} of unflagged studies without disease, shown on second readings or "
        "reports (lower limit at 95 %)"
    )
    limit = monitoring.one_sided(everywhere, CONFIDENCE)
    found = f"{everywhere.clear:,} of {everywhere.read:,}: at least {_down(limit)}"
    return Demand(asks, limit >= asked.least_npv, found)


def _signed(evidence: Mapping[str, str]) -> Demand:
    who = evidence.get("approved_by", "").strip()
    return Demand("who answers for it", bool(who), who or "nobody", ("approved_by",))


def _count(evidence: Mapping[str, str], name: str) -> int | None:
    text = evidence.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _down(share: float) -> str:
    return f"{int(1000 * share) / 10:.1f} %"


def as_dict(step: Step) -> dict[str, Any]:
    """A step for pages and the API."""
    return {"step": step.step, "at": step.at.isoformat(), "by": step.by, "evidence": step.evidence}
