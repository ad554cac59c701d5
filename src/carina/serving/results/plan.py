"""What goes where: one row for each result and destination, made once, with its UID in it.

A row is the promise that something will be sent; who sends it is :mod:`carina.serving.results.delivery`. The
same document for two destinations is the same object and has the same UID. What is told here of rows is for
pages and the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from carina.errors import DeliveryError
from carina.serving import ladder
from carina.serving.results.device import new_uid
from carina.serving.results.hl7 import control_id
from carina.serving.results.result import DICOM
from carina.serving.schema import Delivery, Event, Instance, JobState, Study
from carina.serving.settings import Destination, Settings

_OBJECTS = ("dicom", "stow")  # kinds of destination that take SR and SC
_ABOUT_DICOM = ("sr", "sc", "hl7")  # what makes sense only where the hospital knows the study


def enqueue(session: Session, study: Study, settings: Settings, now: datetime) -> int:
    """Plan the results of a complete study; how many rows are new.

    May be called any number of times for one version of a study. Nothing is planned for a destination whose
    step of the roll-out is not reached, and nothing but webhooks for a study that came as a picture.
    """
    step = ladder.current(session)
    wanted = [
        (destination, kind)
        for destination in settings.destinations
        if ladder.reached(step, destination.since)
        for kind in kinds(destination)
    ]
    if not wanted:
        return 0
    if any(kind in _ABOUT_DICOM for _, kind in wanted) and not _came_as_dicom(session, study):
        wanted = [(destination, kind) for destination, kind in wanted if kind not in _ABOUT_DICOM]
    uids = _uids(session, study)
    rows = [
        {
            "study_id": study.id,
            "version": study.version,
            "destination": destination.name,
            "kind": kind,
            "uid": uids.setdefault(kind, _new(kind)) if kind in ("sr", "sc") else _new(kind),
            "state": JobState.WAITING,
            "attempts": 0,
            "created_at": now,
            "not_before": now,
        }
        for destination, kind in wanted
    ]
    return _insert(session, rows)


def kinds(destination: Destination) -> tuple[str, ...]:
    """The results that go to a destination."""
    return destination.sends if destination.kind in _OBJECTS else (destination.kind,)


def counts(session: Session) -> dict[str, dict[str, int]]:
    """Destination → state → rows."""
    found: dict[str, dict[str, int]] = {}
    rows = select(Delivery.destination, Delivery.state, func.count()).group_by(
        Delivery.destination, Delivery.state
    )
    for destination, state, count in session.execute(rows):
        found.setdefault(destination, {})[str(state)] = count
    return found


def listed(
    session: Session, states: Iterable[str] = (), *, limit: int = 200, offset: int = 0
) -> Sequence[Delivery]:
    """Deliveries, newest first; all of them, or those in these states."""
    rows = select(Delivery).order_by(Delivery.id.desc()).limit(limit).offset(offset)
    if chosen := [JobState(state) for state in states]:
        rows = rows.where(Delivery.state.in_(chosen))
    return session.scalars(rows).all()


def again(session: Session, now: datetime, numbers: Iterable[int] | None = None) -> int:
    """Try dead letters once more, all of them or those named, as if they were new; how many there are.

    Raises DeliveryError for a number that is no dead letter.
    """
    dead = select(Delivery.id).where(Delivery.state == JobState.DEAD)
    chosen = set(session.scalars(dead).all())
    if numbers is not None:
        strange = sorted(set(numbers) - chosen)
        if strange:
            raise DeliveryError(
                f"delivery {strange[0]}: is no dead letter; see: carina deliveries --state dead"
            )
        chosen = set(numbers)
    fresh = {"state": JobState.WAITING, "attempts": 0, "created_at": now, "not_before": now}
    for number in chosen:
        session.execute(update(Delivery).where(Delivery.id == number).values(**fresh))
    if chosen:
        session.add(Event(at=now, kind="delivery", study_id=None))
    return len(chosen)


def _came_as_dicom(session: Session, study: Study) -> bool:
    films = select(Instance.id).where(
        Instance.study_id == study.id, Instance.media_type == DICOM, Instance.sop_class.is_not(None)
    )
    return session.scalar(films.limit(1)) is not None


def _uids(session: Session, study: Study) -> dict[str, str]:
    """Kind → UID of what was planned before for this version: a later destination gets the same object."""
    rows = select(Delivery.kind, Delivery.uid).where(
        Delivery.study_id == study.id, Delivery.version == study.version, Delivery.kind.in_(("sr", "sc"))
    )
    return {kind: uid for kind, uid in session.execute(rows.order_by(Delivery.id.desc()))}  # noqa: C416


def _new(kind: str) -> str:
    return control_id(new_uid()) if kind == "hl7" else new_uid()


def _insert(session: Session, rows: list[dict[str, Any]]) -> int:
    if not rows:
        return 0
    session.flush()
    into = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    made = session.execute(into(Delivery).on_conflict_do_nothing().returning(Delivery.id), rows)
    return len(made.all())
