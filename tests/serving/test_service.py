"""The whole service in one process: from a sender to the worklist, stopped at any moment, open to nobody."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import IO

import httpx2 as httpx
import numpy as np
import pytest
from sqlalchemy import func, select

from carina.errors import ListenerError, ServiceError
from carina.serving import health
from carina.serving.database import Database
from carina.serving.logs import JsonLines, start_logging
from carina.serving.schema import Health, Instance, Job, JobState, PredictionRow, Study, StudyState
from carina.serving.service import Service
from carina.serving.settings import Role, Settings
from tests.serving.instances import instance
from tests.serving.programs import program


@pytest.fixture
def logs() -> Iterator[None]:
    """What starts logging here stops it again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    quick = settings.model_copy(update={"quiet_seconds": 0.5})
    found = Service(quick)
    found.start()
    yield found
    found.stop()


def until(said: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def write(folder: Path, number: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number}.dcm"
    path.write_bytes(instance(number, study=number))
    return path


def send(port: int, *paths: Path) -> None:
    line = [program("storescu", "dcmtk"), "-aec", "CARINA", "127.0.0.1", str(port), *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def decided(database: Database, films: int) -> Callable[[], bool]:
    """Whether so many studies have been decided."""

    def asked() -> bool:
        with database.read() as session:
            return session.scalar(select(func.count()).where(Study.decided_at.is_not(None))) == films

    return asked


def test_a_film_that_storescu_sends_is_decided_within_five_seconds(service: Service, tmp_path: Path) -> None:
    assert service.database is not None
    database, folder = service.database, tmp_path / "films"
    for number in range(1, 5):  # the first ones find processes that still load what they need
        send(service.dicom_port, write(folder, number))
    until(decided(database, 4))
    for number in range(5, 25):
        send(service.dicom_port, write(folder, number))
    until(decided(database, 24))
    with database.read() as session:
        asked = select(Instance.received_at, PredictionRow.at).join(PredictionRow).order_by(Instance.id)
        waits = [(at - received).total_seconds() for received, at in session.execute(asked)]
    median, p95 = np.quantile(waits[4:], (0.5, 0.95))
    print(f"film received → decision: median {median:.2f} s, p95 {p95:.2f} s (20 films, one after the other)")
    assert len(waits) == 24
    assert p95 < 5

    def all_complete() -> bool:
        with database.read() as session:
            return set(session.scalars(select(Study.state))) == {StudyState.COMPLETE}

    until(all_complete)


def test_the_page_answers_and_says_when_it_is_ready(service: Service) -> None:
    base = f"http://127.0.0.1:{service.web_port}"
    with httpx.Client(base_url=base, timeout=30) as client:
        assert client.get("/health").status_code == 200
        until(lambda: client.get("/ready").status_code == 200)


def test_without_a_model_the_page_works_and_every_film_needs_a_reader(
    settings: Settings, tmp_path: Path
) -> None:
    service = Service(settings.model_copy(update={"model": tmp_path / "nowhere"}))
    service.start()
    try:
        send(service.dicom_port, write(tmp_path / "films", 1))
        assert service.database is not None
        database = service.database

        def said() -> bool:
            with database.read() as session:
                return session.scalar(select(Study.code)) == "no_model"

        until(said)
        with httpx.Client(base_url=f"http://127.0.0.1:{service.web_port}", timeout=30) as client:
            answer = client.get("/ready")
            assert (answer.status_code, "model" in answer.text) == (503, True)
            assert client.get("/health").status_code == 200
    finally:
        service.stop()


def test_nobody_else_is_listened_to_without_tls_a_password_and_a_list(settings: Settings) -> None:
    def refused(expected: type[Exception], part: str, **changes: object) -> str:
        changed = settings.model_copy(update={part: getattr(settings, part).model_copy(update=changes)})
        service = Service(changed)
        with pytest.raises(expected) as fault:
            service.start()
        assert (service.web_port, service.dicom_port) == (0, 0)
        return str(fault.value)

    assert "without TLS" in refused(ServiceError, "web", host="0.0.0.0")
    assert "no sender is listed" in refused(ListenerError, "dicom", host="0.0.0.0")


def test_files_of_the_service_are_for_its_user_alone(service: Service) -> None:
    data = service.settings.data
    open_to_others = [path for path in data.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []


_SERVE = [sys.executable, "-m", "carina", "serve", "--port", "0", "--dicom-port", "0"]


def serve(bundle: Path, data: Path, *more: str) -> tuple[subprocess.Popen[str], int]:
    """``carina serve`` in a process of its own, and its DICOM port."""
    line = [*_SERVE, "--model", str(bundle), "--data", str(data), *more]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith("DICOM"):
            return process, int(said.partition(",")[0].rpartition(":")[2])
    raise AssertionError(_rest(process.stderr))


def _rest(stream: IO[str] | None) -> str:
    return stream.read() if stream is not None else ""


def test_what_was_acknowledged_is_scored_once_when_the_service_is_asked_to_end(
    bundle: Path, tmp_path: Path
) -> None:  # killed: tests/reliability/crashes.py
    data = tmp_path / "data"
    films = [write(tmp_path / "films", number) for number in range(1, 41)]
    process, port = serve(bundle, data)
    send(port, *films)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=40)[1]
    assert process.returncode == 0, said
    process, _ = serve(bundle, data)
    database = Database(f"sqlite:///{data / 'carina.sqlite'}")
    try:

        def all_done() -> bool:
            with database.read() as session:
                return session.scalar(select(func.count()).where(Job.state == JobState.DONE)) == 40

        until(all_done)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
    with database.read() as session:
        seen = list(session.scalars(select(PredictionRow.instance_id)))
        assert (len(seen), len(set(seen))) == (40, 40)
        assert session.scalar(select(func.count()).select_from(Study)) == 40
    database.close()


def test_the_command_line_refuses_to_be_open_to_anybody_in_one_sentence(bundle: Path, tmp_path: Path) -> None:
    line = [*_SERVE, "--model", str(bundle), "--data", str(tmp_path / "data"), "--host", "0.0.0.0"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert sentence.startswith("carina: ")
    assert "reached from other machines" in sentence


def test_words_of_a_process_go_with_it(settings: Settings, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    host, broken = socket.gethostname(), settings.model_copy(update={"model": tmp_path / "nowhere"})
    service = Service(broken)
    service.start()
    try:
        assert service.database is not None
        database = service.database

        def parts() -> set[str]:
            with database.read() as session:
                return {row.part for row in session.scalars(select(Health))}

        until(lambda: f"model {host}:{os.getpid()}" in parts())
        with database.write() as session:
            for who in (f"{host}:{ended.pid}", "elsewhere:1"):
                health.say(session, f"model {who}", False, "it was removed", datetime.now(UTC))
            health.without_the_dead(session)
        assert f"model {host}:{ended.pid}" not in parts()
        assert "model elsewhere:1" in parts()
    finally:
        service.stop()
    again = Database(broken.database_url)
    with again.read() as session:
        left = set(session.scalars(select(Health.part)))
    again.close()
    assert left & {f"{kind} {host}:{os.getpid()}" for kind in ("model", "worker", "store")} == set()
    assert "model elsewhere:1" in left


def test_a_taken_port_is_said_in_a_sentence(service: Service, settings: Settings, tmp_path: Path) -> None:
    web = settings.web.model_copy(update={"port": service.web_port})
    other = Service(settings.model_copy(update={"web": web, "data": tmp_path / "other"}), Role.WEB)
    with pytest.raises(ServiceError, match="the page's port cannot be opened"):
        other.start()


def test_a_log_line_is_json_without_what_an_error_quotes(logs: None) -> None:
    stream = StringIO()
    start_logging(stream)
    try:
        raise ValueError("patient Doe^Jane")
    except ValueError:
        logging.getLogger("carina.serving.x").exception("it\nfailed", extra={"films": 3})
    (text,) = stream.getvalue().splitlines()
    line = json.loads(text)
    assert "Doe" not in text
    assert (line["part"], line["says"], line["fault"], line["films"]) == ("x", "it\nfailed", "ValueError", 3)
    assert line["where"][0].startswith("test_service.py:")
    assert isinstance(logging.getLogger().handlers[0].formatter, JsonLines)
