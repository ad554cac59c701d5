"""Work that is done once: taken under a lease, finished by the one who took it, given up after its tries.

Knows the table of jobs and the clock it is given, nothing of films. Every function works in the writing
transaction of its caller, so that a job is finished in the same moment as its result is kept. Several
workers take jobs at the same time: PostgreSQL passes over rows that another has locked (``FOR UPDATE SKIP
LOCKED``), SQLite lets one writer in after the other (``BEGIN IMMEDIATE``).

A worker that dies takes its jobs with it until their leases end. One of them may be what killed it, so jobs
that were begun before are taken alone: then a job that kills has no company, and after its last try it is
dead and killed nobody else.

A clock that was set back must not keep work waiting for the time it had shown: a job that was never begun
waits for nothing, and a time further ahead than :data:`AHEAD` counts as past.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count as counting
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, Update, or_, select, update
from sqlalchemy.orm import Session

from carina.serving.schema import Delivery, Instance, Job, JobState

LEASE = timedelta(seconds=60)
AHEAD = timedelta(minutes=10)  # further ahead than that is a time of a clock that has been set back since
SCORE = "score"
PRESSING = -1  # the priority of films that go before others

_PROCESS = secrets.token_hex(3)  # a process identifier comes again, in a container nearly always
_numbers = counting(1)


def worker_name() -> str:
    """A name for one worker of this process: ``host:pid:process:number``."""
    return f"{socket.gethostname()}:{os.getpid()}:{_PROCESS}:{next(_numbers)}"


def claim(
    session: Session, worker: str, kind: str, lease: timedelta, now: datetime, count: int = 1
) -> list[Job]:
    """Take up to ``count`` waiting jobs, the most pressing first; a job that was begun before comes alone.

    The order: ``priority``, then how long they wait. Empty where nothing is to be done.
    """
    waiting = (
        select(Job)
        .where(Job.state == JobState.WAITING, Job.kind == kind, _due(now))
        .order_by(Job.priority, Job.not_before, Job.id)
    )
    jobs = _locked(session, waiting, count)
    again = next((place for place, job in enumerate(jobs) if job.attempts), None)
    if again is not None:
        jobs = jobs[: max(again, 1)]
    for job in jobs:
        job.state, job.worker, job.error = JobState.TAKEN, worker, None
        job.attempts += 1
        job.lease_until = now + lease
    session.flush()
    return jobs


def waiting(session: Session, kind: str, now: datetime) -> bool:
    """Whether anything is to be done; asked without a lock."""
    any_job = select(Job.id).where(Job.state == JobState.WAITING, Job.kind == kind, _due(now))
    return session.scalar(any_job.limit(1)) is not None


def overdue(session: Session, kind: str, now: datetime) -> bool:
    """Whether a lease has ended; asked without a lock."""
    over = select(Job.id).where(Job.state == JobState.TAKEN, Job.kind == kind, _ended(now))
    return session.scalar(over.limit(1)) is not None


def finish(session: Session, job: Job, worker: str) -> bool:
    """Mark a job as done. False where it is no longer this worker's: then its result must not be kept."""
    done = update(Job).where(Job.id == job.id, Job.worker == worker, Job.state == JobState.TAKEN)
    return _changed(session, done.values(state=JobState.DONE, lease_until=None)) == 1


def fail(
    session: Session, job: Job, worker: str, error: str, now: datetime, tries: int, pause: timedelta
) -> JobState | None:
    """Give a job back after a fault: it waits for ``pause``, or is dead after its last try.

    None where it is no longer this worker's.
    """
    state = JobState.DEAD if job.attempts >= tries else JobState.WAITING
    mine = update(Job).where(Job.id == job.id, Job.worker == worker, Job.state == JobState.TAKEN)
    given = mine.values(state=state, lease_until=None, error=error, not_before=now + pause)
    return state if _changed(session, given) == 1 else None


def renew(session: Session, jobs: Iterable[int], worker: str, until: datetime) -> int:
    """Prolong the leases of jobs (by number) that are still being worked on; how many there are."""
    mine = update(Job).where(Job.id.in_(list(jobs)), Job.worker == worker, Job.state == JobState.TAKEN)
    return _changed(session, mine.values(lease_until=until))


def release(session: Session, worker: str) -> int:
    """Give back all jobs of this worker as if they had never been taken; how many there are.

    For a clean stop, and after a fault that was none of theirs.
    """
    mine = update(Job).where(Job.worker == worker, Job.state == JobState.TAKEN)
    back = mine.values(state=JobState.WAITING, lease_until=None, worker=None, attempts=Job.attempts - 1)
    return _changed(session, back)


def recover(session: Session, kind: str, tries: int, now: datetime) -> list[Job]:
    """Take jobs away from workers whose leases ended. Answers with those that are dead now.

    The others wait again. Who calls this says of the dead what became of them.
    """
    over = select(Job).where(Job.state == JobState.TAKEN, Job.kind == kind, _ended(now))
    jobs = _locked(session, over.order_by(Job.id), None)
    for job in jobs:
        dead = job.attempts >= tries
        job.state = JobState.DEAD if dead else JobState.WAITING
        job.lease_until = None
        job.error = f"its worker ended during the work, {job.attempts} of {tries} tries"
    session.flush()
    return [job for job in jobs if job.state == JobState.DEAD]


def orphaned(session: Session, now: datetime) -> int:
    """End the leases of processes of this machine that are no more, so that nobody waits for them: over
    films, and over results on their way."""
    return sum(_orphaned(session, table, now) for table in (Job, Delivery))


def _orphaned(session: Session, table: type[Job] | type[Delivery], now: datetime) -> int:
    ours = table.worker.startswith(f"{socket.gethostname()}:", autoescape=True)
    names = session.scalars(select(table.worker).where(table.state == JobState.TAKEN, ours).distinct())
    gone = [name for name in names if name is not None and not lives(name)]
    if not gone:
        return 0
    ended = update(table).where(table.state == JobState.TAKEN, table.worker.in_(gone))
    return _changed(session, ended.values(lease_until=now - timedelta(seconds=1)))


def again(session: Session, instances: Iterable[int], now: datetime) -> int:
    """Let instances (by number) be scored once more, with all their tries; how many there are."""
    over = update(Job).where(
        Job.instance_id.in_(list(instances)), Job.state.in_((JobState.DONE, JobState.DEAD))
    )
    return _changed(
        session, over.values(state=JobState.WAITING, attempts=0, not_before=now, worker=None, error=None)
    )


def hurry(session: Session, study: int, priority: int = PRESSING) -> int:
    """Let the waiting films of a study (by number) be scored before others; how many there are."""
    its = select(Instance.id).where(Instance.study_id == study)
    waiting = update(Job).where(Job.instance_id.in_(its), Job.state == JobState.WAITING)
    return _changed(session, waiting.values(priority=priority))


def past(moment: Any, now: datetime, ahead: timedelta = AHEAD) -> ColumnElement[bool]:
    """Whether the time in a column has come, or lies further ahead than any time that is written."""
    return or_(moment <= now, moment > now + ahead)


def _due(now: datetime) -> ColumnElement[bool]:
    return or_(Job.attempts == 0, past(Job.not_before, now))


def _ended(now: datetime) -> ColumnElement[bool]:
    return or_(Job.lease_until < now, Job.lease_until > now + AHEAD)


def _locked(session: Session, jobs: Select[Job], count: int | None) -> list[Job]:
    """Rows that nobody else works on, locked until the transaction ends, as they are in the database now."""
    mine = jobs.limit(count).with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return list(session.scalars(mine))


def _changed(session: Session, statement: Update) -> int:
    """Run an UPDATE; how many rows it changed."""
    done = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", done).rowcount


def lives(name: str) -> bool:
    """Whether the process of this machine that gave a worker this name still runs."""
    _, _, rest = name.partition(":")
    number, _, process = rest.partition(":")
    if not number.isdigit():
        return False
    if int(number) == os.getpid():
        return process.partition(":")[0] == _PROCESS
    with suppress(PermissionError):  # it runs, as somebody else
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return False
    return True
