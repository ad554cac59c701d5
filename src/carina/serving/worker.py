"""The worker: takes films that wait, asks the model on duty, keeps what it says. One thread of it.

The films go through the scoring pipeline as those of a folder do: decoded in processes of their own, a few
ahead of the network, in the order in which they were taken. What is said of a film, the decision on its
study and the end of its job are one transaction, so that a kill at any moment leaves a film either looked at
or still to be looked at. Whatever fails, the film's study stands with "not analysed: needs a reader".
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from carina.errors import BundleError
from carina.records import Prediction, Refusal
from carina.scoring.inputs import Input
from carina.scoring.operating import SECTION
from carina.scoring.triage import Decision, Policy, decide
from carina.serving import health, jobs, ladder, studies
from carina.serving.database import Database
from carina.serving.duty import NOT_READY, Duty, OnDuty
from carina.serving.schema import Instance, Job, JobState, Model, PredictionRow, Study, StudyState
from carina.serving.settings import Settings

THUMBNAIL = 96  # pixels of a side
_TAKEN = 8  # films claimed at a time
_KEPT = 8  # answers in one transaction …
_KEPT_AFTER = 0.25  # … or what there is after so many seconds
_AT_MOST = 512  # films in one step
_POLL = 0.1  # seconds between two looks for work
_SPEAKS = 5.0  # seconds between two words on its health
_PAUSE = timedelta(seconds=5)  # before a film is tried again
_SPOKEN_OF = (SECTION, "intended_use")  # sections of the manifest
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

_log = logging.getLogger(__name__)


class Films(Protocol):
    """Where the stored films lie: ``carina.serving.archive.Archive``."""

    @property
    def root(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class _Taken:
    """A film that this worker holds."""

    job: Job
    study: int
    path: str
    sha256: str
    problem: str | None
    began: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class _Answered:
    taken: _Taken
    answer: Prediction | Refusal
    seconds: float


class Worker:
    """Scores what waits. ``enqueue`` puts the results of a complete study on their way."""

    def __init__(
        self, settings: Settings, database: Database, archive: Films, duty: Duty, enqueue: studies.Enqueue
    ) -> None:
        self.name = jobs.worker_name()
        self.films = 0  # looked at since the start
        self._settings, self._database, self._archive = settings, database, archive
        self._duty, self._enqueue = duty, enqueue
        self._stop = threading.Event()
        self._held: dict[int, _Taken] = {}
        self._models: dict[str, int] = {}  # fingerprint → number in the database
        self._was_ready = False
        self._spoke = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; films in hand are finished, the others given back."""
        self._stop = stop
        beat = threading.Thread(target=self._renew, name="carina-leases", daemon=True)
        beat.start()
        while not stop.is_set():
            try:
                if not self.step():
                    stop.wait(_POLL)
            except SQLAlchemyError as fault:  # the database is away: nothing is lost, the films wait in it
                _log.error("the worker cannot reach the database", extra={"fault": type(fault).__name__})
                stop.wait(1.0)
        self._give_back()

    def step(self) -> int:
        """Score what waits, as long as something does; how many films were looked at."""
        self._give_back()
        ready = self._duty.check()
        self._speak(ready)
        if ready and not self._was_ready:
            self._once_more()
        self._was_ready = ready
        model, before = self._duty.model, self.films
        self._bury_dead()
        with self._database.read() as session:
            if not jobs.waiting(session, jobs.SCORE, _now()):
                return self.films - before
        if model is None:
            self._say_not_ready()
            return self.films - before
        try:
            self._score(model)
        except BundleError as fault:
            self._duty.withdraw(str(fault))
            _log.error("the model on duty failed", extra={"fault": str(fault)})
        except (OperationalError, InterfaceError):  # the database is away: none of the films is to blame
            raise
        except (
            Exception
        ) as fault:  # a film, or a fault of ours, may be: after its tries it is left to a reader
            _log.exception("films could not be scored")
            self._give_up(fault)
        return self.films - before

    def _score(self, model: OnDuty) -> None:
        waiting: deque[_Taken] = deque()
        done: list[_Answered] = []
        last = time.monotonic()
        answers = model.scorer.answers(self._inputs(waiting), model.decoders)
        for answer in answers:
            taken, now = waiting.popleft(), time.monotonic()
            done.append(_Answered(taken, answer, now - taken.began))
            if len(done) >= _KEPT or now - last >= _KEPT_AFTER:
                self._keep(done, model)
                done, last = [], time.monotonic()
        self._keep(done, model)

    def _inputs(self, waiting: deque[_Taken]) -> Iterator[Input | Refusal]:
        """Films as the pipeline asks for them, claimed a few at a time, in order of need."""
        count = 0
        while count < _AT_MOST and not self._stop.is_set():
            taken = self._claim(_TAKEN)
            for each in taken:
                waiting.append(each)
                count += 1
                name = str(each.job.id)
                if each.problem is not None:
                    yield Refusal(name, "header", f"header: {each.problem}")
                else:
                    yield Input(name, path=self._archive.root / each.path)
            alone = any(each.job.attempts > 1 for each in taken)  # what may have killed a worker
            if not taken or alone or not self._duty.check():
                return

    def _claim(self, count: int) -> list[_Taken]:
        with self._database.write() as session:
            mine = jobs.claim(session, self.name, jobs.SCORE, jobs.LEASE, _now(), count)
            wanted = select(
                Instance.id, Instance.study_id, Instance.path, Instance.sha256, Instance.problem
            ).where(Instance.id.in_([job.instance_id for job in mine]))
            facts = {found.id: found for found in session.execute(wanted)}
        taken = [
            _Taken(job, it.study_id, it.path, it.sha256, it.problem, time.monotonic())
            for job in mine
            for it in (facts[job.instance_id],)
        ]
        self._held.update({each.job.id: each for each in taken})
        return taken

    def _keep(self, done: Sequence[_Answered], model: OnDuty) -> None:
        """What was said, the decisions on the studies and the end of the jobs, in one transaction."""
        if not done:
            return
        now = _now()
        with self._database.read() as session:
            step = ladder.deciding(session)
        rows = [(each.taken, _row(each, model, step, now)) for each in done]
        with self._database.write() as session:
            number = self._model_number(session, model, now)
            for _, row in rows:
                row.model_id = number
            self._write(session, rows, now)
        self._models[model.fingerprint] = number  # not before it is certain that the row is there
        self._let_go([each.taken.job.id for each in done])
        self._speak(True)

    def _write(self, session: Session, rows: Sequence[tuple[_Taken, PredictionRow]], now: datetime) -> None:
        touched = studies.locked(session, sorted({taken.study for taken, _ in rows}))
        mine = [(taken, row) for taken, row in rows if jobs.finish(session, taken.job, self.name)]
        session.add_all(row for _, row in mine)
        session.flush()
        self._decide(
            session, [each for each in touched if any(taken.study == each.id for taken, _ in mine)], now
        )

    def _decide(self, session: Session, touched: Sequence[Study], now: datetime) -> None:
        for study in touched:
            if studies.decide(session, study, now, self._settings):
                studies.deliver(session, study, now, self._settings, self._enqueue)

    def _let_go(self, done: Sequence[int]) -> None:
        for number in done:
            self._held.pop(number, None)
        self.films += len(done)

    def _say_not_ready(self) -> None:
        """No model: every film that waits is "not analysed", with the reason."""
        taken = self._claim(64)
        if not taken:
            return
        now, why = _now(), self._duty.why_not or "the model is not ready"
        rows = [
            (each, _said_of(each.job.instance_id, NOT_READY, f"no model looked at it: {why}", now))
            for each in taken
        ]
        with self._database.write() as session:
            self._write(session, rows, now)
        self._let_go([each.job.id for each in taken])

    def _bury_dead(self) -> None:
        """Films whose workers died over them to the last try: not analysed, and never tried again."""
        now = _now()
        with self._database.read() as session:
            if not jobs.overdue(session, jobs.SCORE, now):
                return
        with self._database.write() as session:
            dead = jobs.recover(session, jobs.SCORE, self._settings.tries, now)
            why = f"it ended the program that looked at it, {self._settings.tries} times"
            self._bury(session, dead, "poisoned", f"{why}; fetch the file again from its source", now)

    def _give_up(self, fault: BaseException) -> None:
        """A fault that is none of the model: the films in hand are tried once more, or not analysed."""
        now, held = _now(), list(self._held.values())
        text = (
            f"it could not be looked at ({type(fault).__name__}); see whether memory or processes are short"
        )
        with self._database.write() as session:
            tries = self._settings.tries
            dead = [
                each.job
                for each in held
                if jobs.fail(session, each.job, self.name, text, now, tries, _PAUSE) is JobState.DEAD
            ]
            self._bury(session, dead, "fault", text, now)
        self._held.clear()

    def _bury(self, session: Session, dead: Sequence[Job], code: str, why: str, now: datetime) -> None:
        if not dead:
            return
        numbers = [job.instance_id for job in dead]
        wanted = select(Instance.study_id).where(Instance.id.in_(numbers)).distinct()
        touched = studies.locked(session, sorted(session.scalars(wanted)))
        session.add_all(_said_of(number, code, why, now) for number in numbers)
        session.flush()
        self._decide(session, touched, now)
        _log.warning("films were given up", extra={"films": len(dead), "code": code})

    def _once_more(self) -> None:
        """The model is back: films of unread studies that no model looked at are looked at after all.

        Of a study that was complete others may have been told that nobody looked: it gets another version,
        so that its new result is sent as well.
        """
        row, newer = PredictionRow, aliased(PredictionRow)
        said_since = select(newer.id).where(newer.instance_id == row.instance_id, newer.id > row.id).exists()
        missed = (
            select(row.instance_id)
            .join(Instance, Instance.id == row.instance_id)
            .join(Study, Study.id == Instance.study_id)
            .where(row.code == NOT_READY, Study.read_at.is_(None), ~said_since)
        )
        with self._database.write() as session:
            numbers = list(session.scalars(missed))
            for at in range(0, len(numbers), 500):
                some = numbers[at : at + 500]
                jobs.again(session, some, _now())
                of = select(Instance.study_id).where(Instance.id.in_(some))
                told = update(Study).where(Study.id.in_(of), Study.state == StudyState.COMPLETE)
                session.execute(told.values(version=Study.version + 1))

    def _model_number(self, session: Session, model: OnDuty, now: datetime) -> int:
        """The row of the model; written once for each that ever was on duty."""
        known = self._models.get(model.fingerprint)
        if known is not None:
            return known
        row = session.scalar(select(Model).where(Model.fingerprint == model.fingerprint))
        if row is None:
            return _enrol(session, model, now)
        facts = _facts(model.bundle.manifest.model_dump(mode="json"))
        if row.manifest != facts:  # written by a version that kept less
            row.manifest = facts
        return row.id

    def _give_back(self) -> None:
        """What this worker holds and does not work on waits again, as if it had never been taken."""
        if self._held:
            with self._database.write() as session:
                jobs.release(session, self.name)
            self._held.clear()

    def _renew(self) -> None:
        """Keep the leases of films in hand while they are worked on."""
        while not self._stop.wait(jobs.LEASE.total_seconds() / 4):
            held = list(self._held)
            try:
                if held:
                    with self._database.write() as session:
                        jobs.renew(session, held, self.name, _now() + jobs.LEASE)
            except SQLAlchemyError as fault:
                _log.error("leases could not be renewed", extra={"fault": type(fault).__name__})

    def _speak(self, ready: bool) -> None:
        if ready == self._was_ready and time.monotonic() - self._spoke < _SPEAKS:
            return
        self._spoke = time.monotonic()
        who = self.name.rsplit(":", 2)[0]
        says = self._duty.why_not or f"{self._duty.status.name} is on duty"
        with self._database.write() as session:
            health.say(session, f"worker {who}", True, f"{self.films} films since the start", _now())
            health.say(session, f"model {who}", ready, says, _now())


def _row(done: _Answered, model: OnDuty, step: str | None, now: datetime) -> PredictionRow:
    """All that is kept of one answer. A fault of ours in here costs one film its analysis, no more."""
    taken, answer = done.taken, done.answer
    if isinstance(answer, Prediction) and answer.sha256 != taken.sha256:
        why = "changed: the stored file is not the one that was received; fetch it again from its source"
        answer = Refusal(answer.path, "changed", why)
    try:
        decision = model.decide(answer, step)
        row = _said(taken.job.instance_id, decision, now)
        row.seconds, row.threshold = done.seconds, model.policy.threshold
        if isinstance(answer, Prediction):
            _add_film(row, answer, decision, model)
    except Exception as fault:
        _log.exception("an answer could not be kept")
        why = f"Carina failed over it ({type(fault).__name__}); please report it"
        row = _said_of(taken.job.instance_id, "internal", why, now)
    return row


def _add_film(row: PredictionRow, film: Prediction, decision: Decision, model: OnDuty) -> None:
    if decision.p_disease is not None:
        shares = zip(film.classes, film.probabilities, strict=True)
        row.probabilities = {name: round(float(share), 6) for name, share in shares}
        cam = film.cam[_shown(film, decision)].astype(np.float16)
        row.cam, row.cam_shape = cam.tobytes(), list(cam.shape)
    row.inputs = inputs(film.prepared, film.embedding, model)
    row.thumbnail = thumbnail(film.prepared)


def _shown(film: Prediction, decision: Decision) -> int:
    """The class whose map is kept: the finding, else the likeliest disease, else the likeliest class."""
    ill = [place for place, name in enumerate(film.classes) if name not in film.healthy]
    if decision.finding in film.classes:
        return film.classes.index(decision.finding)
    return max(ill or range(len(film.classes)), key=lambda place: float(film.probabilities[place]))


def inputs(prepared: NDArray[np.uint8], embedding: NDArray[np.float32], model: OnDuty) -> dict[str, Any]:
    """Numbers of a prepared film (S, S) for drift: mean, sd, percentiles of gray, distance."""
    counts = np.bincount(prepared.ravel(), minlength=256)
    share, gray = np.cumsum(counts) / prepared.size, np.arange(256)
    mean = float((counts * gray).sum() / prepared.size)
    spread = float(np.sqrt((counts * (gray - mean) ** 2).sum() / prepared.size))
    found: dict[str, Any] = {"mean": round(mean, 3), "sd": round(spread, 3)}
    for each in _PERCENTILES:
        found[f"p{each}"] = int(np.searchsorted(share, each / 100))
    if model.gate.reference is not None:
        found["distance"] = round(model.gate.reference.distance(embedding), 5)
    return found


def thumbnail(prepared: NDArray[np.uint8]) -> bytes:
    """The film as the model saw it, (S, S) uint8, as a PNG of 96 pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    small = Image.fromarray(prepared).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    small.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _said(instance: int, decision: Decision, now: datetime) -> PredictionRow:
    return PredictionRow(
        instance_id=instance,
        at=now,
        p_disease=decision.p_disease,
        outcome=str(decision.outcome),
        urgency=str(decision.urgency) if decision.urgency is not None else None,
        finding=decision.finding,
        because=decision.because,
        code=decision.code,
        suggestion=decision.suggestion,
    )


def _said_of(instance: int, code: str, why: str, now: datetime) -> PredictionRow:
    """Why nothing was said of a film."""
    return _said(instance, decide(Refusal(str(instance), code, f"{code}: {why}"), Policy()), now)


def _enrol(session: Session, model: OnDuty, now: datetime) -> int:
    """Write the row of a model that is on duty for the first time; another worker may do it meanwhile."""
    bundle = model.bundle
    row = Model(
        fingerprint=model.fingerprint,
        name=bundle.manifest.name,
        classes=list(bundle.classes),
        healthy=sorted(bundle.healthy),
        manifest=_facts(bundle.manifest.model_dump(mode="json")),
        first_on_duty=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(select(Model.id).where(Model.fingerprint == model.fingerprint)).one()
    return row.id


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest, of its sections those that pages, results and monitoring speak of."""
    sections = {name: manifest["sections"][name] for name in _SPOKEN_OF if name in manifest["sections"]}
    points = {
        site: {name: value for name, value in facts.items() if name != "chosen_on"}
        for site, facts in sections.get(SECTION, {}).items()
    }
    return {**manifest, "sections": {**sections, **({SECTION: points} if points else {})}}


def _now() -> datetime:
    return datetime.now(UTC)
