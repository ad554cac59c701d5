"""What must be done again and again: studies completed, the overdue raised, the old let go.

One thread of it in every worker process; several do no harm, because rows are locked while they change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, exists, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import aliased

from carina.serving import feedback, health, jobs, ladder, studies
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.schema import Event, Instance, PredictionRow, Study, StudyState, WebSession
from carina.serving.settings import Settings

STALLED_AFTER = timedelta(minutes=10)  # without a look, a study says that nothing looked at it
KEEP_EVENTS = timedelta(days=2)
REMOVED = ""  # the path of a film whose pixels were let go
_OFTEN, _NOW_AND_THEN, _PULSE, _SELDOM = 0.5, 5.0, 30.0, 300.0  # seconds
_AT_ONCE = 200  # films let go in one transaction

_log = logging.getLogger(__name__)


class Housekeeping:
    """Keeps the house. ``clock`` is for tests."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        archive: Archive,
        enqueue: studies.Enqueue,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._database, self._archive = settings, database, archive
        self._enqueue, self._clock = enqueue, clock
        self._raised = self._tidied = self._pulsed = float("-inf")
        self._alarms: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Keep the house until ``stop`` is set."""
        while not stop.wait(_OFTEN):
            try:
                self.step()
            except SQLAlchemyError as fault:  # the database is away; the next round makes up for it
                _log.error("housekeeping cannot reach the database", extra={"fault": type(fault).__name__})
                stop.wait(1.0)

    def step(self) -> None:
        """What is due at this moment."""
        now = time.monotonic()
        self.settle()
        if now - self._raised >= _NOW_AND_THEN:
            self._raised = now
            self.raise_overdue()
        if now - self._tidied >= _SELDOM:
            self._tidied = now
            self.tidy()
            self.let_go()
            self.watch()
        if now - self._pulsed >= _PULSE:
            self._pulsed = now
            self._say_alarms()

    def settle(self) -> int:
        """Complete the studies of which nothing came for the quiet time; how many."""
        now, done = self._clock(), 0
        over = select(Study.id).where(Study.state == StudyState.RECEIVING, studies.quiet(now, self._settings))
        while self._any(over):
            with self._database.write() as session:
                found = studies.settle(session, now, self._settings, self._enqueue)
            done += found
            if not found:
                break
        return done

    def raise_overdue(self) -> int:
        """Let studies rise that waited too long, and say of what nothing looks at that it needs a reader."""
        now, done = self._clock(), 0
        late = select(Study.id).where(studies.overdue(now))
        if self._any(late):
            with self._database.write() as session:
                done = studies.raise_overdue(session, now, self._settings.waits)
        stalled = select(Study.id).where(
            Study.read_at.is_(None), Study.outcome.is_(None), Study.last_received_at < now - STALLED_AFTER
        )
        if self._any(stalled):
            with self._database.write() as session:
                done += studies.say_stalled(session, now, STALLED_AFTER)
        return done

    def tidy(self) -> None:
        """Drop what nobody asks for any more: old events, sessions that ended, parts long unheard of."""
        now = self._clock()
        with self._database.write() as session:
            session.execute(delete(Event).where(Event.at < now - KEEP_EVENTS))
            session.execute(delete(WebSession).where(WebSession.expires_at < now))
            health.forget(session, now)
            jobs.orphaned(session, now)

    def watch(self) -> None:
        """Match late reports; ask whether cases are missed or films have changed, and say so."""
        now = self._clock()
        with self._database.write() as session:
            feedback.match(session)
        with self._database.read() as session:
            self._alarms = ladder.alarms(session, self._settings, now)
        self._say_alarms()

    def _say_alarms(self) -> None:
        says = self._alarms[0] if self._alarms else "no alarm"
        with self._database.write() as session:
            health.say(session, ladder.WATCH, not self._alarms, says, self._clock())

    def let_go(self) -> int:
        """Remove the pixels of studies that were read longer ago than the site keeps them; how many films.

        First the files, then the rows that name them: what is interrupted between the two is done again.
        The findings, the readers' answers and the audit log stay.
        """
        if self._settings.keep_days is None:
            return 0
        before, done = self._clock() - timedelta(days=self._settings.keep_days), 0
        other = aliased(Instance)
        shared = exists().where(
            other.path == Instance.path, other.id != Instance.id, other.study_id != Instance.study_id
        )
        old = (
            select(Instance.id, Instance.path)
            .join(Study, Study.id == Instance.study_id)
            .where(
                Study.read_at < before, Study.state == StudyState.COMPLETE, Instance.path != REMOVED, ~shared
            )
            .limit(_AT_ONCE)
        )
        while True:
            with self._database.read() as session:
                films = [(row.id, row.path) for row in session.execute(old)]
            if not films:
                return done
            for _, path in films:
                self._archive.remove(path)
            numbers = [number for number, _ in films]
            with self._database.write() as session:
                session.execute(update(Instance).where(Instance.id.in_(numbers)).values(path=REMOVED))
                pictures = update(PredictionRow).where(PredictionRow.instance_id.in_(numbers))
                session.execute(pictures.values(thumbnail=None, cam=None))
            done += len(films)
            _log.info("pixels were let go", extra={"films": len(films)})

    def _any(self, wanted: object) -> bool:
        """Whether there is anything to do; asked without a lock, so that nobody waits for nothing."""
        with self._database.read() as session:
            return session.scalar(wanted.limit(1)) is not None  # type: ignore[attr-defined]
