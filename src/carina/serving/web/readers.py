"""What a person does to a study: reads it, says what they saw, asks for it to be read now.

Works in the transaction it is given: the change, its entry in the audit log and the word to the open pages
stand or fall together.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from carina.serving import auditlog, feedback, jobs, studies
from carina.serving.people import Person
from carina.serving.schema import Event, Feedback, Study
from carina.serving.settings import Waits

_READS = ("agree", "disagree")  # whoever says one of these has read the study


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
    """Keep a reader's answer (:func:`carina.serving.feedback.record`); the first that reads a study takes it
    off the open list."""
    answer = feedback.record(
        session, study, person.name, kind, now, disease=disease, finding=finding, comment=comment
    )
    if kind in _READS and study.read_at is None:
        study.read_at, study.read_by = now, person.name
    detail = {"disease": answer.disease}
    auditlog.append(session, person.name, f"study {kind}", f"study {study.id}", detail, now=now)
    return answer


def unread(session: Session, study: Study, person: Person, now: datetime) -> None:
    """Put a study back on the open list: somebody pressed the wrong key."""
    study.read_at = study.read_by = None
    _told(session, study, person, "study unread", now, {})


def flag(session: Session, study: Study, person: Person, wanted: bool, waits: Waits, now: datetime) -> None:
    """Ask for a study to be read now, or take that back; its place on the list follows."""
    study.flagged_by = person.name if wanted else None
    studies.stand(study, waits)
    jobs.hurry(session, study.id, jobs.PRESSING if wanted else 0)  # what of it waits to be scored
    _told(session, study, person, "study flagged" if wanted else "study unflagged", now, {})


def _told(
    session: Session, study: Study, person: Person, action: str, now: datetime, detail: dict[str, object]
) -> None:
    session.add(Event(at=now, kind="study", study_id=study.id))
    auditlog.append(session, person.name, action, f"study {study.id}", detail, now=now)
