"""Delivery: every planned result is sent until the other side has it, or a person must look.

One thread for each destination, so that one that hangs holds up nobody else. A result is built once and kept
with its row before the first byte is sent: whatever dies in between, the next try sends the same bytes
under the same UID, and a PACS that has them already knows them. Nobody there: later, for as long as the
destination's patience. An answer that refuses: as many tries as the settings allow. After that it is a dead
letter, which is shown and can be tried again. What no program can build is a dead letter at once.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from carina.errors import CarinaError, DeliveryError, Rejected, Unreachable
from carina.serving import jobs
from carina.serving.database import Database
from carina.serving.results import senders
from carina.serving.results.result import Films, gather
from carina.serving.results.senders import Parcel, Sender
from carina.serving.schema import Delivery as Row
from carina.serving.schema import Event, Health, JobState, Study
from carina.serving.settings import Destination, Settings

LEASE = timedelta(minutes=3)  # longer than any single send may take
FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0  # seconds before the second try, and between late ones
_AHEAD = timedelta(hours=1)  # further ahead than that is a time of a clock that has been set back since
POLL = 1.0  # seconds between looks at an empty list
_AT_ONCE = 500  # dead letters in one transaction
_PULSE = timedelta(seconds=30)  # between two words of a destination that has nothing new to say

_log = logging.getLogger(__name__)


class Delivery:
    """Sends what is planned. ``films`` is the archive; ``clock`` and ``draw`` (in [0, 1)) are for tests."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        films: Films,
        *,
        connect: Callable[[Destination, Settings], Sender] = senders.connect,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._database, self._films = settings, database, films
        self._connect, self._clock, self._draw = connect, clock, draw
        self._me = jobs.worker_name()
        self._paused = dict[str, datetime]()  # destination → until when nobody is called there
        self._failed = dict[str, int]()  # destination → how often in a row nobody was there
        self._said = dict[str, tuple[bool, str, datetime]]()  # destination → what was last said, and when

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop`` is set, then end after what is being sent."""
        threads = [
            threading.Thread(target=self._serve, args=(each, stop), name=f"delivery {each.name}", daemon=True)
            for each in self._settings.destinations
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join()

    def step(self) -> int:
        """Send everything that is due now, one destination after another; how many were sent."""
        return sum(self._drain(each, threading.Event()) for each in self._settings.destinations)

    def _serve(self, destination: Destination, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._drain(destination, stop)
                well, says, _ = self._said.get(destination.name, (True, "nothing to deliver yet", None))
                self._say(destination, well=well, says=says)
            except SQLAlchemyError as error:  # a database that restarts; what is planned stays planned
                _log.warning(
                    "delivery to %s waits for the database: %s", destination.name, type(error).__name__
                )
            except Exception:
                _log.exception("delivery to %s", destination.name)
            stop.wait(POLL)

    def _drain(self, destination: Destination, stop: threading.Event) -> int:
        """Send what is due for one destination over one connection."""
        now = self._clock()
        paused = now < self._paused.get(destination.name, now) < now + _AHEAD
        if paused and not self._asked_for(destination):
            return 0
        link, sent = None, 0
        try:
            while not stop.is_set() and (number := self._claim(destination)) is not None:
                try:
                    parcel = self._parcel(number)
                    link = link or self._connect(destination, self._settings)
                    remark = link.send(parcel)
                except Unreachable as error:
                    self._nobody(destination, number, error)
                    break
                except Rejected as error:
                    self._fail(destination, number, error)
                    _close(link)  # whatever state it is in: the next gets a new one
                    link = None
                except _Superseded as error:
                    self._settle(number, state=JobState.DONE, error=str(error), payload=None)
                except CarinaError as error:
                    self._bury(destination, number, error)
                else:
                    sent += 1
                    self._finish(destination, number, remark)
        finally:
            _close(link)
        return sent

    def _asked_for(self, destination: Destination) -> bool:
        """Whether a person wants a dead letter tried again, and nobody has: that waits for no pause."""
        again = (Row.state == JobState.WAITING) & (Row.attempts == 0) & Row.error.is_not(None)
        with self._database.read() as session:
            asked = select(Row.id).where(Row.destination == destination.name, again).limit(1)
            return session.scalar(asked) is not None

    def _claim(self, destination: Destination) -> int | None:
        now = self._clock()
        waiting = (Row.state == JobState.WAITING) & (
            (Row.attempts == 0) | jobs.past(Row.not_before, now, _AHEAD)
        )
        left = (Row.state == JobState.TAKEN) & jobs.past(Row.lease_until, now, _AHEAD)  # its worker is dead
        due = select(Row).where(Row.destination == destination.name, or_(waiting, left))
        due = due.order_by(Row.not_before, Row.id).limit(1)
        with self._database.read() as session:
            if session.scalar(due.with_only_columns(Row.id)) is None:
                return None
        with self._database.write() as session:
            row = session.scalar(due.with_for_update(skip_locked=True))
            if row is None:
                return None
            row.state, row.worker, row.lease_until = JobState.TAKEN, self._me, now + LEASE
            row.attempts += 1
            return row.id

    def _parcel(self, number: int) -> Parcel:
        """What is sent for a row: what was kept with it, or what is built and kept now."""
        with self._database.read() as session:
            row = session.get_one(Row, number)
            newest = session.scalar(select(Study.version).where(Study.id == row.study_id))
            if newest != row.version:
                raise _Superseded(f"not sent: version {newest} of study {row.study_id} has taken its place")
            content = _kept(session, row)
            parcel = Parcel(row.kind, row.uid, content or self._build(session, row))
        if content is None:
            with self._database.write() as session:
                session.execute(update(Row).where(Row.id == number).values(payload=parcel.content))
        return parcel

    def _build(self, session: Session, row: Row) -> bytes:
        from carina.serving.results.heat import heat
        from carina.serving.results.hl7 import build_oru
        from carina.serving.results.sc import build_sc
        from carina.serving.results.sr import build_sr
        from carina.serving.results.webhook import build_event

        result = gather(session, row.study_id, self._films, self._clock())
        try:
            if row.kind == "sr":
                return build_sr(result, self._settings, row.uid)
            if row.kind == "sc":
                picture = heat(session, result, self._films) if self._settings.heat_maps else None
                return build_sc(result, self._settings, row.uid, picture)
            if row.kind == "hl7":
                return build_oru(result, self._settings, row.uid, row.destination)
            return build_event(result, row.uid)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _log.exception("study %d: its %s cannot be built", row.study_id, row.kind)
            fault = type(error).__name__  # never the text: it may quote the header
            raise DeliveryError(f"study {row.study_id}: its {row.kind} cannot be built ({fault})") from error

    def _finish(self, destination: Destination, number: int, remark: str) -> None:
        self._paused.pop(destination.name, None)
        self._failed.pop(destination.name, None)
        now = self._clock()
        self._settle(number, state=JobState.DONE, sent_at=now, error=remark or None)
        with self._database.write() as session:
            _drop_payload(session, number)
        self._say(destination, well=True, says="delivers")

    def _nobody(self, destination: Destination, number: int, error: CarinaError) -> None:
        """Nobody is there: this one waits, and so does everything else for the same place; what has waited
        longer than its patience is given up, all of it at once."""
        now = self._clock()
        failed = self._failed[destination.name] = self._failed.get(destination.name, 0) + 1
        pause = timedelta(seconds=self.wait(failed))
        self._paused[destination.name] = now + pause
        self._say(destination, well=False, says=str(error))
        patience = timedelta(hours=destination.patience_hours)
        with self._database.read() as session:
            mine = session.get_one(Row, number).created_at < now - patience
            old = select(Row.id).where(
                Row.destination == destination.name,
                Row.state == JobState.WAITING,
                Row.created_at < now - patience,
            )
            others = list(session.scalars(old.order_by(Row.id)))
        if mine:
            self._bury(destination, number, error)
        else:
            self._settle(number, state=JobState.WAITING, not_before=now + pause, error=str(error))
        for at in range(0, len(others), _AT_ONCE):
            self._bury_waiting(destination, others[at : at + _AT_ONCE], error)

    def _fail(self, destination: Destination, number: int, error: CarinaError) -> None:
        """Somebody answered and refused: this one waits, the others are tried."""
        with self._database.read() as session:
            tries = session.get_one(Row, number).attempts
        if tries >= destination.tries:
            self._bury(destination, number, error)
            return
        pause = timedelta(seconds=self.wait(tries))
        self._settle(number, state=JobState.WAITING, not_before=self._clock() + pause, error=str(error))

    def _bury(self, destination: Destination, number: int, error: CarinaError) -> None:
        _log.warning("delivery %d to %s is a dead letter: %s", number, destination.name, error)
        self._settle(number, state=JobState.DEAD, error=str(error))

    def _bury_waiting(self, destination: Destination, numbers: list[int], error: CarinaError) -> None:
        """Give up rows that nobody has taken since they were looked for."""
        with self._database.write() as session:
            waiting = update(Row).where(Row.id.in_(numbers), Row.state == JobState.WAITING)
            given = cast(
                "CursorResult[Any]", session.execute(waiting.values(state=JobState.DEAD, error=str(error)))
            )
            session.add(Event(at=self._clock(), kind="delivery", study_id=None))
        _log.warning("%d deliveries to %s are dead letters: %s", given.rowcount, destination.name, error)

    def wait(self, failed: int) -> float:
        """Seconds after so many failures: doubling up to a quarter hour, a half more or less by chance."""
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failed - 1, 20)) * (0.5 + self._draw())

    def _settle(self, number: int, **values: object) -> None:
        """Write how a try ended, unless somebody else has taken the row in the meantime."""
        with self._database.write() as session:
            ours = update(Row).where(Row.id == number, Row.worker == self._me, Row.state == JobState.TAKEN)
            session.execute(ours.values(lease_until=None, worker=None, **values))
            study = session.scalar(select(Row.study_id).where(Row.id == number))
            session.add(Event(at=self._clock(), kind="delivery", study_id=study))

    def _say(self, destination: Destination, *, well: bool, says: str) -> None:
        now = self._clock()
        _, last, at = self._said.get(destination.name, (well, "", now))
        if last == says and now - at < _PULSE:
            return
        self._said[destination.name] = well, says, now
        with self._database.write() as session:
            session.merge(Health(part=f"delivery {destination.name}", at=now, well=well, says=says))


class _Superseded(DeliveryError):
    """A late film reopened the study; what is said of it now is another row."""


def _kept(session: Session, row: Row) -> bytes | None:
    """The bytes that were built for this row, or for the same object on its way to another destination."""
    same = select(Row.payload).where(
        Row.study_id == row.study_id, Row.uid == row.uid, Row.payload.is_not(None)
    )
    return row.payload or session.scalar(same.limit(1))


def _drop_payload(session: Session, number: int) -> None:
    """Forget the bytes of an object that every destination has."""
    row = session.get_one(Row, number)
    same = (Row.study_id == row.study_id) & (Row.uid == row.uid)
    unsent = select(Row.id).where(same, Row.state != JobState.DONE).limit(1)
    if session.scalar(unsent) is None:
        session.execute(update(Row).where(same).values(payload=None))


def _close(link: Sender | None) -> None:
    if link is not None:
        with suppress(Exception):  # it has nothing more to say
            link.close()
