"""The last word of each part of the service on itself, where every page and every machine can read it."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from carina.serving.jobs import lives
from carina.serving.schema import Health

SILENT = timedelta(seconds=30)  # after which a part that said it was well is not believed any more
_FORGOTTEN = timedelta(days=1)
_NAME = 64  # characters


def say(session: Session, part: str, well: bool, says: str, now: datetime) -> None:
    """What ``part`` ("worker ward-3:4711") says of itself: a sentence without patients."""
    session.merge(Health(part=part[:_NAME], at=now, well=well, says=says))


def heard(session: Session, kind: str) -> list[Health]:
    """What all parts of one kind ("worker", "model") said last, the latest first."""
    words = select(Health).where(Health.part.startswith(kind, autoescape=True))
    return list(session.scalars(words.order_by(Health.at.desc())))


def forget(session: Session, now: datetime) -> None:
    """Drop parts that nobody has heard of for a day: a machine that is no more."""
    session.execute(delete(Health).where(Health.at < now - _FORGOTTEN))


def leave(session: Session, process: str) -> None:
    """Take the words of ``process`` ("ward-3:4711") away: it ends, and what it said is true no more."""
    session.execute(delete(Health).where(Health.part.endswith(f" {process}"[-_NAME:], autoescape=True)))


def without_the_dead(session: Session) -> None:
    """Take the words of processes of this machine away that are no more."""
    for row in session.scalars(select(Health)):
        process = row.part.partition(" ")[2]
        if process.startswith(f"{socket.gethostname()}:") and not lives(process):
            session.delete(row)
