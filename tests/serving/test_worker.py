"""The worker: every film is looked at once, or is on the list with the reason why not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving import duty as duty_room
from carina.serving import jobs, monitoring
from carina.serving import worker as worker_room
from carina.serving.database import Database
from carina.serving.duty import Duty
from carina.serving.results import result
from carina.serving.schema import (
    Event,
    Health,
    Instance,
    Job,
    JobState,
    Model,
    PredictionRow,
    Rank,
    Study,
    StudyState,
)
from carina.serving.settings import Settings
from carina.serving.web.site import unproven
from carina.serving.worker import Worker
from tests.serving.films import Folder, copy_bundle, film, receive


def nothing(_session: Session, _study: Study, _settings: Settings, _now: datetime) -> None:
    """No results are sent in these tests."""


@pytest.fixture
def own(settings: Settings, bundle: Path, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"model": copy_bundle(bundle, tmp_path / "model")})


@pytest.fixture
def folder(own: Settings) -> Folder:
    return Folder(own)


@pytest.fixture
def duty(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Duty]:
    monkeypatch.setattr(duty_room, "TRY_EVERY", 0.0)
    with Duty.load(own) as found:
        yield found


Make = Callable[[Database], Worker]


@pytest.fixture
def hire(own: Settings, folder: Folder, duty: Duty) -> Make:
    return lambda database: Worker(own, database, folder, duty, nothing)


def outcomes(database: Database) -> Counter[str | None]:
    with database.read() as session:
        return Counter(session.scalars(select(Study.outcome)))


def test_a_film_is_scored_decided_and_kept_with_all_that_a_page_needs(
    database: Database, folder: Folder, hire: Make, duty: Duty
) -> None:
    with database.write() as session:
        study = receive(session, folder, film(1))
    assert hire(database).step() == 1
    with database.read() as session:
        row = session.scalars(select(PredictionRow)).one()
        kept = session.get_one(Study, study.id)
        assert sum((row.probabilities or {}).values()) == pytest.approx(1, abs=1e-5)
        assert (kept.outcome, kept.p_disease, kept.finding) == (row.outcome, row.p_disease, row.finding)
        assert kept.rank != Rank.NOT_ANALYSED
        assert kept.decided_at is not None
        assert row.thumbnail is not None
        assert row.thumbnail.startswith(b"\x89PNG")
        assert row.cam_shape == [8, 8]
        assert len(row.cam or b"") == 8 * 8 * 2
        assert 0 < (row.inputs or {})["mean"] < 255
        model = session.get_one(Model, row.model_id)
        assert (model.fingerprint, model.classes[-1]) == (duty.status.fingerprint, "Normal")
        assert session.scalars(select(Job.state)).one() == JobState.DONE
        assert session.scalars(select(Event.study_id)).all() == [study.id]
        assert {part.part.split()[0] for part in session.scalars(select(Health))} == {"worker", "model"}


def test_a_poisoned_film_among_good_ones_is_not_analysed_and_harms_no_other(
    database: Database, folder: Folder, hire: Make
) -> None:
    with database.write() as session:
        for number in range(9):
            receive(session, folder, film(number % 3))
        bad = receive(session, folder, film(0)[:5000])
        gone = receive(session, folder, film(1))
        session.scalars(
            update(Instance).where(Instance.study_id == gone.id).values(path="0").returning(Instance.id)
        )
    assert hire(database).step() == 11
    with database.read() as session:
        assert session.get_one(Study, bad.id).outcome == Outcome.NOT_ANALYSED
        assert session.get_one(Study, bad.id).code == "truncated"
        assert session.get_one(Study, gone.id).code == "unreadable"
        others = select(Study.p_disease).where(Study.id.not_in((bad.id, gone.id)))
        assert all(share is not None for share in session.scalars(others))
    assert hire(database).step() == 0  # and nobody tries again


def test_a_film_whose_bytes_changed_in_the_archive_is_not_analysed(
    sqlite: Database, folder: Folder, hire: Make
) -> None:
    with sqlite.write() as session:
        study = receive(session, folder, film(1))
    (only,) = folder.root.iterdir()
    only.write_bytes(film(2))
    hire(sqlite).step()
    with sqlite.read() as session:
        assert session.get_one(Study, study.id).code == "changed"


def test_a_header_that_nobody_understood_needs_a_reader(sqlite: Database, folder: Folder, hire: Make) -> None:
    with sqlite.write() as session:
        study = receive(session, folder, film(1))
        study.series[0].instances[0].problem = "the header ends in the middle of a value"
    hire(sqlite).step()
    with sqlite.read() as session:
        kept = session.get_one(Study, study.id)
        assert (kept.code, kept.because) == ("header", "the header ends in the middle of a value")


def test_films_are_looked_at_in_order_of_priority(sqlite: Database, folder: Folder, hire: Make) -> None:
    with sqlite.write() as session:
        numbers = [receive(session, folder, film(number % 3)).id for number in range(10)]
        jobs.hurry(session, numbers[7])
    hire(sqlite).step()
    with sqlite.read() as session:
        order = select(Instance.study_id).join(PredictionRow).order_by(PredictionRow.id)
        assert list(session.scalars(order)) == [numbers[7], *numbers[:7], *numbers[8:]]


def test_without_its_model_every_new_film_needs_a_reader_and_is_looked_at_when_it_is_back(
    database: Database, own: Settings, folder: Folder, hire: Make
) -> None:
    assert own.model is not None
    worker = hire(database)
    with database.write() as session:
        before = receive(session, folder, film(1))
    worker.step()
    aside = own.model.rename(own.model.with_name("aside"))
    with database.write() as session:
        study = receive(session, folder, film(2))
    assert worker.step() == 1
    with database.read() as session:
        kept = session.get_one(Study, study.id)
        assert (kept.outcome, kept.code, kept.rank) == (Outcome.NOT_ANALYSED, "no_model", Rank.NOT_ANALYSED)
        assert "is not there any more" in (kept.because or "")
        assert session.get_one(Study, before.id).p_disease is not None
        says = {part.part.split()[0]: part.well for part in session.scalars(select(Health))}
        assert says == {"worker": True, "model": False}
    aside.rename(own.model)
    assert worker.step() == 1
    with database.read() as session:
        assert session.get_one(Study, study.id).p_disease is not None
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 3


def test_a_complete_study_that_is_looked_at_after_all_is_told_once_more(
    database: Database, own: Settings, folder: Folder, duty: Duty
) -> None:
    assert own.model is not None
    told: list[tuple[int, str | None]] = []

    def tell(_session: Session, study: Study, _settings: Settings, _now: datetime) -> None:
        told.append((study.version, study.outcome))

    worker = Worker(own, database, folder, duty, tell)
    aside = own.model.rename(own.model.with_name("aside"))
    with database.write() as session:
        study = receive(session, folder, film(2))
        session.get_one(Study, study.id).state = StudyState.COMPLETE
    worker.step()
    aside.rename(own.model)
    worker.step()
    with database.read() as session:
        outcome = session.get_one(Study, study.id).outcome
    assert outcome != Outcome.NOT_ANALYSED
    assert told == [(1, Outcome.NOT_ANALYSED), (2, outcome)]
    worker.step()
    assert len(told) == 2


def test_what_was_shown_of_the_threshold_is_kept_where_pages_results_and_monitoring_look(
    database: Database, own: Settings, folder: Folder
) -> None:
    assert own.model is not None
    manifest = json.loads((own.model / "bundle.json").read_text())
    point = {
        "target": 0.95, "confidence": 0.95, "per_class": False, "threshold": 0.25, "classes": {},
        "films": 400,
        "sensitivity": {"found": 298, "people": 300, "limit": 0.9791}, "below": 82,
        "specificity": {"spared": 80, "people": 100, "low": 0.7, "high": 0.87},
    }  # fmt: skip
    manifest["sections"]["operating_points"] = {
        "ward 7": {
            "created": "2026-11-29T00:00:00+00:00", "carina": "0", "model": manifest["files"]["model.onnx"],
            "catalogue": "0" * 64, "split": "valid", "films": 400, "refused": 0, "sources": ["here"],
            "points": [point], "chosen_on": ["0" * 64] * 400,
        }
    }  # fmt: skip
    (own.model / "bundle.json").write_text(json.dumps(manifest))
    here = own.model_copy(update={"site": "ward 7"})
    with Duty.load(here) as duty:
        assert duty.why_not is None
        for _ in range(2):  # the second time over a row that an earlier version wrote
            with database.write() as session:
                study = receive(session, folder, film(1))
            assert Worker(here, database, folder, duty, nothing).step() == 1
            with database.write() as session:
                model = session.scalars(select(Model)).one()
                found = monitoring.point(model, here)
                assert found is not None
                assert found["sensitivity"]["limit"] == 0.9791
                assert monitoring.promised(model, here) == 0.9791
                assert "chosen_on" not in model.manifest["sections"]["operating_points"]["ward 7"]
                assert not unproven(session, here)
                decided = session.get_one(Study, study.id)
                said = result._model(session.get(Model, decided.model_id), decided.threshold)
                assert said is not None
                assert said.shown == "ward 7: at least 97.9 % of disease found, shown on 300 people"
                model.manifest = {key: value for key, value in model.manifest.items() if key != "sections"}


def test_a_worker_that_is_stopped_gives_back_what_it_has_not_begun(
    sqlite: Database, folder: Folder, hire: Make
) -> None:
    with sqlite.write() as session:
        for number in range(200):
            receive(session, folder, film(number % 3))
    stop, worker = threading.Event(), hire(sqlite)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while worker.films < 3:
        time.sleep(0.01)
    stop.set()
    thread.join(20)
    with sqlite.read() as session:
        found = Counter(session.scalars(select(Job.state)))
        assert set(session.scalars(select(Job.attempts).where(Job.state == JobState.WAITING))) <= {0}
    assert set(found) <= {JobState.DONE, JobState.WAITING}
    assert found[JobState.DONE] == worker.films < 200


def test_four_workers_over_postgresql_look_at_every_film_once(
    postgresql: Database, own: Settings, folder: Folder, duty: Duty
) -> None:
    with postgresql.write() as session:
        for number in range(60):
            receive(session, folder, film(number % 3), film((number + 1) % 3))
    stop = threading.Event()
    workers = [Worker(own, postgresql, folder, duty, nothing) for _ in range(4)]
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in workers]
    for each in threads:
        each.start()
    until = time.monotonic() + 90
    while time.monotonic() < until and sum(worker.films for worker in workers) < 120:
        time.sleep(0.05)
    stop.set()
    for each in threads:
        each.join(20)
    with postgresql.read() as session:
        seen = Counter(session.scalars(select(PredictionRow.instance_id)))
        assert len(seen) == 120
        assert set(seen.values()) == {1}
        assert session.scalar(select(func.count()).select_from(Study).where(Study.decided_at.is_(None))) == 0
        assert set(session.scalars(select(Job.state))) == {JobState.DONE}


_DIES = """
import os, sys, threading
from pathlib import Path
from carina.serving.database import Database
from carina.serving.duty import Duty
from carina.serving.settings import Settings
from carina.serving.worker import Worker

url, data, model = sys.argv[1:]
settings = Settings.model_validate({"data": data, "model": model, "free_bytes": 0})
class Folder: root = settings.archive
worker = Worker(settings, Database(url), Folder(), Duty.load(settings), lambda *_: None)
kept = worker._keep
def keep(done, model):  # killed with films in hand, some looked at, none kept
    print("holds", len(worker._held), flush=True)
    import time; time.sleep(60)
worker._keep = keep
worker.run(threading.Event())
"""


def test_films_of_a_killed_worker_are_looked_at_once_by_another(
    database: Database, own: Settings, folder: Folder, hire: Make
) -> None:
    with database.write() as session:
        for number in range(6):
            receive(session, folder, film(number % 3))
    url = database.url.render_as_string(hide_password=False)
    line = [sys.executable, "-c", _DIES, url, str(own.data), str(own.model)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline().startswith("holds")
        doomed.kill()
    with database.write() as session:
        assert jobs.orphaned(session, datetime.now(UTC)) > 0
    worker = hire(database)
    while worker.step():
        pass
    with database.read() as session:
        assert set(Counter(session.scalars(select(PredictionRow.instance_id))).values()) == {1}
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 6
    assert outcomes(database).keys().isdisjoint({None, str(Outcome.NOT_ANALYSED)})


def test_a_film_that_ends_its_workers_is_given_up_after_two_tries(
    database: Database, folder: Folder, hire: Make
) -> None:
    with database.write() as session:
        study = receive(session, folder, film(1))
        late = datetime.now(UTC) - timedelta(hours=1)
        for _ in range(2):  # two workers took it and were never heard of again
            jobs.recover(session, "score", 2, late + timedelta(minutes=9))
            session.execute(update(Job).values(not_before=late))
            assert jobs.claim(session, jobs.worker_name(), "score", jobs.LEASE, late)
            session.flush()
    hire(database).step()
    with database.read() as session:
        kept = session.get_one(Study, study.id)
        assert (kept.outcome, kept.code) == (Outcome.NOT_ANALYSED, "poisoned")
        assert "ended the program that looked at it, 2 times" in (kept.because or "")
    assert hire(database).step() == 0


def test_a_database_that_goes_away_stops_no_worker(
    sqlite: Database, own: Settings, folder: Folder, duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    with sqlite.write() as session:
        receive(session, folder, film(1))
    worker, stop = Worker(own, sqlite, folder, duty, nothing), threading.Event()
    keep, fails = worker._keep, [True]

    def away(*arguments: object) -> None:
        if fails.pop() if fails else False:
            raise OperationalError("COMMIT", {}, Exception("gone"))
        keep(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "_keep", away)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until = time.monotonic() + 20
    while time.monotonic() < until and not worker.films:
        time.sleep(0.02)
    stop.set()
    thread.join(20)
    with sqlite.read() as session:
        assert session.scalars(select(Job.attempts)).all() == [1]  # the film was not to blame
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 1


def test_a_fault_of_our_own_over_one_film_is_no_endless_loop(
    sqlite: Database, own: Settings, folder: Folder, duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite.write() as session:
        good, bad = (receive(session, folder, film(number)) for number in (1, 2))
    worker = Worker(own, sqlite, folder, duty, nothing)
    write = worker._write

    def fails_over_bad(session: Session, rows: Any, now: datetime) -> None:
        if any(taken.study == bad.id for taken, _ in rows):
            raise ValueError("a fault of ours")
        write(session, rows, now)

    monkeypatch.setattr(worker, "_write", fails_over_bad)
    monkeypatch.setattr(worker_room, "_PAUSE", timedelta(0))
    for _ in range(4):
        worker.step()
    with sqlite.read() as session:
        assert session.get_one(Study, good.id).p_disease is not None
        assert session.get_one(Study, bad.id).code == "fault"
        assert sorted(session.scalars(select(Job.state))) == [JobState.DEAD, JobState.DONE]
    assert worker.step() == 0


def children() -> set[int]:
    """The processes that this one started and that still run."""
    found = set[int]()
    for thread in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


def test_no_decoding_process_outlives_the_duty(own: Settings) -> None:
    before = children()
    with Duty.load(own):
        assert len(children() - before) >= 1
    until = time.monotonic() + 10
    while children() - before:
        assert time.monotonic() < until
        time.sleep(0.05)
