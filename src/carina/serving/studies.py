"""A study on the worklist: what its films say together, when it is complete, and where it stands.

Knows predictions that are there and the clock it is given; scores nothing. The film that speaks loudest
decides: flagged over not analysed over not flagged, then the higher score. As long as a film has not been
looked at and no other is flagged, the study is not decided, and stands with what was not analysed.

Every function works in the writing transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from carina.scoring.triage import Outcome
from carina.serving import jobs, order
from carina.serving.schema import Event, Instance, PredictionRow, Rank, Study, StudyState
from carina.serving.settings import Settings, Waits

Enqueue = Callable[[Session, Study, Settings, datetime], None]
"""Puts the results of a study on their way: ``carina.serving.results.plan.enqueue``."""

OTHER_VIEW = "view"  # the header says that it is no frontal film: beside one, it says nothing of the study
CONFLICT = "conflict"
STALLED = "stalled"
_AT_ONCE = 500  # studies in one transaction


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of one film; ``prediction`` None: nothing yet."""

    instance: int
    conflict: bool
    prediction: int | None
    model: int | None = None
    outcome: str | None = None
    urgency: str | None = None
    finding: str | None = None
    because: str | None = None
    code: str | None = None
    p_disease: float | None = None
    threshold: float | None = None
    suggestion: str | None = None

    @property
    def rank(self) -> Rank:
        return order.rank(self.outcome, self.urgency, self.suggestion)


def locked(session: Session, numbers: Sequence[int]) -> list[Study]:
    """Studies in the order of their numbers, locked until the transaction ends, as they are now."""
    wanted = select(Study).where(Study.id.in_(numbers)).order_by(Study.id).with_for_update()
    return list(session.scalars(wanted.execution_options(populate_existing=True)))


def decide(session: Session, study: Study, now: datetime, settings: Settings) -> bool:
    """Let a study say what its films say, and stand where it belongs.

    True when all of its films have been looked at. Two workers that score films of one study must hold it
    (:func:`locked`), or each would see only its own film.
    """
    films = _films(session, study)
    waiting = sum(each.prediction is None for each in films)
    loudest = _loudest(films)
    if waiting and (loudest is None or loudest.outcome != Outcome.FLAGGED):
        count = f"{waiting} of {len(films)} films" if len(films) > 1 else "the film"
        loudest = _Said(0, False, None, because=f"{count} must still be looked at")
    if loudest is not None:
        _take(study, loudest, now)
    unflagged = study.outcome == Outcome.NOT_FLAGGED
    study.second_reading = unflagged and order.drawn(study.uid, settings.waits.second_reading)
    stand(study, settings.waits)
    session.add(Event(at=now, kind="study", study_id=study.id))
    return not waiting


def stand(study: Study, waits: Waits) -> None:
    """Put a study where it belongs; to be called after anything about it changed.

    It waits since its first film came, or since it was opened again.
    """
    rank = order.rank(study.outcome, study.urgency, study.suggestion)
    found = order.standing(
        rank,
        study.p_disease,
        study.received_at if study.version == 1 else study.last_received_at,
        waits,
        raised=study.raised_at is not None,
        asked_for=study.flagged_by is not None,
    )
    study.rank, study.weight, study.due_at = int(found.rank), found.weight, found.due_at


def quiet(now: datetime, settings: Settings) -> ColumnElement[bool]:
    """Whether nothing came for the quiet time, or the clock that said when has been set back since."""
    return jobs.past(Study.last_received_at, now - timedelta(seconds=settings.quiet_seconds))


def overdue(now: datetime) -> ColumnElement[bool]:
    """Whether a study that nobody has read waited longer than its cap.

    One that came at a time which has not been reached yet counts: nobody knows how long it has waited.
    """
    late = or_(Study.due_at < now, Study.received_at > now + jobs.AHEAD)
    return and_(Study.read_at.is_(None), Study.raised_at.is_(None), late)


def settle(session: Session, now: datetime, settings: Settings, enqueue: Enqueue) -> int:
    """Complete the studies of which nothing came for the quiet time; how many there are.

    Their results are put on their way where all films have been looked at; where not, who looks at the last
    one does that (:func:`deliver`).
    """
    over = select(Study).where(Study.state == StudyState.RECEIVING, quiet(now, settings))
    over = over.order_by(Study.last_received_at).limit(_AT_ONCE).with_for_update(skip_locked=True)
    found = list(session.scalars(over.execution_options(populate_existing=True)))
    for study in found:
        study.state = StudyState.COMPLETE
        session.add(Event(at=now, kind="study", study_id=study.id))
        deliver(session, study, now, settings, enqueue)
    return len(found)


def deliver(session: Session, study: Study, now: datetime, settings: Settings, enqueue: Enqueue) -> bool:
    """Put the results of a study on their way if it is complete and decided; whether it is."""
    if study.state != StudyState.COMPLETE or study.outcome is None or waiting_films(session, study):
        return False
    session.flush()
    enqueue(session, study, settings, now)
    return True


def raise_overdue(session: Session, now: datetime, waits: Waits) -> int:
    """Let studies rise that waited longer than their cap; how many there are."""
    late = select(Study).where(overdue(now))
    late = late.order_by(Study.due_at).limit(_AT_ONCE).with_for_update(skip_locked=True)
    found = list(session.scalars(late.execution_options(populate_existing=True)))
    for study in found:
        study.raised_at = now
        stand(study, waits)
        session.add(Event(at=now, kind="study", study_id=study.id))
    return len(found)


def say_stalled(session: Session, now: datetime, after: timedelta) -> int:
    """Say of studies that nothing looked at for so long that they need a reader; how many there are."""
    late = select(Study).where(
        Study.read_at.is_(None), Study.outcome.is_(None), Study.last_received_at < now - after
    )
    late = late.order_by(Study.last_received_at).limit(_AT_ONCE).with_for_update(skip_locked=True)
    found = list(session.scalars(late.execution_options(populate_existing=True)))
    for study in found:
        minutes = round((now - study.last_received_at).total_seconds() / 60)
        because = f"nothing has looked at it for {minutes} minutes; see whether a worker runs"
        _take(study, _Said(0, False, None, outcome=Outcome.NOT_ANALYSED, because=because, code=STALLED), now)
        session.add(Event(at=now, kind="study", study_id=study.id))
    return len(found)


def waiting_films(session: Session, study: Study) -> int:
    """How many films of a study have not been looked at."""
    seen = select(PredictionRow.id).where(PredictionRow.instance_id == Instance.id).exists()
    waiting = select(func.count()).select_from(Instance).where(Instance.study_id == study.id, ~seen)
    return session.scalar(waiting) or 0


def _films(session: Session, study: Study) -> list[_Said]:
    """What was said last of each film of a study."""
    row, later = PredictionRow, aliased(PredictionRow)
    newest = select(func.max(later.id)).where(later.instance_id == Instance.id).scalar_subquery()
    columns = (
        Instance.id, Instance.conflict, row.id, row.model_id, row.outcome, row.urgency, row.finding,
        row.because, row.code, row.p_disease, row.threshold, row.suggestion,
    )  # fmt: skip
    films = select(*columns).outerjoin(row, row.id == newest).where(Instance.study_id == study.id)
    return [_Said(*found) for found in session.execute(films.order_by(Instance.id))]


def _loudest(films: Sequence[_Said]) -> _Said | None:
    """The film that speaks for its study; None where nothing has looked at any of them.

    A lateral film beside a frontal one is no reason to say that nothing was analysed; but nobody looked at
    it, so nothing is likely clear, and the reason says that it is there.
    """
    said = [each for each in films if each.prediction is not None]
    if any(each.p_disease is not None for each in said):
        others = sum(each.code == OTHER_VIEW for each in said)
        said = [_beside(each, others) for each in said if each.code != OTHER_VIEW]
    for each in films:
        if each.conflict:
            because = "different files came under one SOP Instance UID; a reader must compare them"
            said.append(
                _Said(each.instance, True, 0, outcome=Outcome.NOT_ANALYSED, because=because, code=CONFLICT)
            )
    return min(said, key=lambda each: (each.rank, -(each.p_disease or 0.0)), default=None)


def _beside(said: _Said, others: int) -> _Said:
    """What is said of a film that is not flagged and has ``others`` of another view beside it."""
    if not others or said.outcome != Outcome.NOT_FLAGGED:
        return said
    count = "a film" if others == 1 else f"{others} films"
    because = f"{said.because}; {count} of another view beside it not analysed"
    return replace(said, because=because, suggestion=None)


def _take(study: Study, said: _Said, now: datetime | None) -> None:
    """Copy what was said to the study."""
    study.outcome, study.urgency, study.finding = said.outcome, said.urgency, said.finding
    study.because, study.code, study.p_disease = said.because, said.code, said.p_disease
    study.threshold, study.suggestion = said.threshold, said.suggestion
    study.model_id, study.instance_id = said.model, said.instance or None
    study.decided_at = now if said.outcome is not None else None
