"""Acknowledged means kept: through ``kill -9``, and by the order in which the system is asked."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation
from sqlalchemy import select, text

from carina.serving.database import Database
from carina.serving.header import read_header
from carina.serving.schema import Instance, Job
from tests.serving.instances import instance, uid_of
from tests.serving.programs import program

LISTENING = Path(__file__).with_name("listening.py")


@contextmanager
def listening(folder: Path, *before: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A listener's process and its port; killed at the end unless it ended by itself."""
    process = subprocess.Popen(
        [*before, sys.executable, str(LISTENING), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def send(port: int, films: list[tuple[str, bytes]], acknowledged: set[str]) -> None:
    """Send what was not acknowledged yet, until all is or the other side is gone."""
    entity = AE(ae_title="SENDER")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    association = entity.associate("127.0.0.1", port, ae_title="CARINA")
    if not association.is_established:
        return
    for uid, content in films:
        if uid in acknowledged:
            continue
        try:
            status = association.send_c_store(pydicom.dcmread(io.BytesIO(content)))
        except RuntimeError:  # the association ended
            return
        if "Status" not in status:
            return
        if status.Status == 0:
            acknowledged.add(uid)
    association.release()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the sender's sockets
def test_what_was_acknowledged_is_there_once_after_every_kill(tmp_path: Path) -> None:
    films = [(uid_of(number), instance(number, side=200)) for number in range(60)]
    acknowledged: set[str] = set()
    folder, moments = tmp_path / "site", random.Random(7)
    kills = 0
    while len(acknowledged) < len(films) and kills < 40:
        with listening(folder) as (process, port):
            senders = [
                threading.Thread(target=send, args=(port, films[number::4], acknowledged))
                for number in range(4)
            ]
            before = len(acknowledged)
            for sender in senders:
                sender.start()
            wanted = before + moments.randint(1, 15)
            end = time.monotonic() + 20
            while len(acknowledged) < min(wanted, len(films)) and time.monotonic() < end:
                time.sleep(0.005)
            if len(acknowledged) < len(films):
                process.kill()
                kills += 1
            for sender in senders:
                sender.join()
    assert kills >= 3
    assert acknowledged == {uid for uid, _ in films}
    database = Database(f"sqlite:///{folder / 'carina.sqlite'}")
    with database.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        kept = session.scalars(select(Instance)).all()
        assert len(session.scalars(select(Job)).all()) == len(kept)
    database.close()
    assert sorted(film.uid for film in kept) == sorted(uid for uid, _ in films)
    sent = dict(films)
    for film in kept:
        assert data_set((folder / "archive" / film.path).read_bytes()) == data_set(sent[film.uid])


def data_set(content: bytes) -> bytes:
    return content[read_header(io.BytesIO(content), "").content_at :]


CALL = re.compile(r"^\d+ +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")


def calls(trace: str) -> Iterator[tuple[str, str]]:
    """(what, "begins" or "ends") of the calls that the promise is about, in the order of the trace."""
    open_calls: dict[str, str] = {}
    for line in trace.splitlines():
        found = CALL.match(line)
        if not found:
            continue
        thread = line.split()[0]
        resumed, name, rest = found.groups()
        if resumed:
            if thread in open_calls:
                yield open_calls.pop(thread), "ends"
            continue
        what = {
            "fsync": "commit" if "-wal" in rest else "file" if ".part" in rest else "folder",
            "fdatasync": "commit" if "-wal" in rest else "other",
            "rename": "rename",
            "sendto": "answer",
        }.get(name, "other")
        yield what, "begins"
        if "<unfinished" in rest:
            open_calls[thread] = what
        else:
            yield what, "ends"


def test_file_then_name_then_folder_then_database_then_answer(tmp_path: Path) -> None:
    films = [(uid_of(number), instance(number, side=100)) for number in range(6)]
    folder, trace = tmp_path / "site", tmp_path / "trace"
    which = "trace=fsync,fdatasync,rename,sendto"
    acknowledged: set[str] = set()
    with listening(folder, program("strace", "strace"), "-f", "-y", "-e", which, "-o", str(trace)) as (
        _,
        port,
    ):
        start = trace.stat().st_size
        send(port, films, acknowledged)
    assert len(acknowledged) == len(films)
    text_ = trace.read_bytes()[start:].decode("utf-8", "replace")
    events = [event for event in calls(text_) if event[0] != "other"]
    renames = [number for number, event in enumerate(events) if event == ("rename", "begins")]
    assert len(renames) == len(films)
    for at in renames:
        assert [e for e in events[:at] if e[0] == "file"][-1] == ("file", "ends")
        after = events[at:]
        order = [
            after.index(("rename", "ends")),
            after.index(("folder", "begins")),
            after.index(("folder", "ends")),
            after.index(("commit", "begins")),
            after.index(("commit", "ends")),
            after.index(("answer", "begins")),
        ]
        assert order == sorted(order)
