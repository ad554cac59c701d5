"""What a person does to a study: reads it, says what they saw, asks for it to be read now.

Works in the transaction it is given: the change, its entry in the audit log and the word to the open pages
stand or fall together.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving import auditlog, studies
from carina.serving.people import Person
from carina.serving.schema import Event, Feedback, Study
from carina.serving.settings import Waits

KINDS = ("read", "agree", "disagree", "priority")
_READS = ("read", "agree", "disagree")  # whoever says one of these has read the study


def say(
    session: Session,
    study: Study,
    person: Person,
    kind: str,
    now: datetime,
    *,
    disease: bool | None = None,
    finding: str | None = None,
    comment: str | None = None,
) -> Feedback:
    """Keep a reader's answer; the first that reads a study takes it off the open list.

    ``disease`` says whether the reader found any disease. Where it is left out it follows from ``kind``:
    whoever agrees with a flag found some, whoever disagrees with it found none, and the other way round.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is nothing a reader says")
    if disease is None and kind in ("agree", "disagree") and study.p_disease is not None:
        disease = (study.outcome == Outcome.FLAGGED) == (kind == "agree")
    answer = Feedback(
        study_id=study.id,
        at=now,
        reader=person.name,
        kind=kind,
        disease=disease,
        finding=finding,
        comment=comment,
        outcome=study.outcome,
        p_disease=study.p_disease,
        model_id=study.model_id,
    )
    session.add(answer)
    if kind in _READS and study.read_at is None:
        study.read_at, study.read_by = now, person.name
    _told(session, study, person, f"study {kind}", now, {"disease": disease})
    return answer


def unread(session: Session, study: Study, person: Person, now: datetime) -> None:
    """Put a study back on the open list: somebody pressed the wrong key."""
    study.read_at = study.read_by = None
    _told(session, study, person, "study unread", now, {})


def flag(session: Session, study: Study, person: Person, wanted: bool, waits: Waits, now: datetime) -> None:
    """Ask for a study to be read now, or take that back; its place on the list follows."""
    study.flagged_by = person.name if wanted else None
    studies.stand(study, waits)
    _told(session, study, person, "study flagged" if wanted else "study unflagged", now, {})


def _told(
    session: Session, study: Study, person: Person, action: str, now: datetime, detail: dict[str, object]
) -> None:
    session.add(Event(at=now, kind="study", study_id=study.id))
    auditlog.append(session, person.name, action, f"study {study.id}", detail, now=now)
