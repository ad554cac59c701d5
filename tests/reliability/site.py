"""A site under load: ``carina serve`` in a process of its own, which a harness starts, kills and asks.

What is never killed may also run inside this process, which costs no start of an interpreter. Its ports
and its folder stay the same through all restarts. What it must hold in the end is in :func:`check_kept`.
Knows nothing of what a harness does to it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from carina.serving import people
from carina.serving.database import Database
from carina.serving.header import read_header
from carina.serving.schema import Instance, Job, JobState, PredictionRow, Study
from carina.serving.service import Service
from carina.serving.settings import Role, read_settings
from carina.serving.upgrades import upgrade
from carina.serving.worklist import Filter, total
from tests.reliability.sender import Association, Film, Ledger, get

STARTED = 600.0  # seconds that a start may take on a machine that is busy with other work


def until(said: Callable[[], bool], what: str, seconds: float = 240.0, every: float = 0.05) -> float:
    """Wait for ``said``; the seconds it took. ``AssertionError`` names ``what`` did not happen."""
    begin = time.monotonic()
    while not said():
        assert time.monotonic() - begin < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(every)
    return time.monotonic() - begin


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Start:
    """How long a start took until "ready": by the clock, and of the processor (its children's included)."""

    seconds: float
    processor: float


def longest(starts: list[Start]) -> str:
    """The longest start in words: on a machine that is busy with other work, the clock says little."""
    worst = max(starts, key=lambda each: each.seconds)
    busiest = max(each.processor for each in starts)
    return f"ready after at most {worst.seconds:.1f} s by the clock, {busiest:.1f} s of the processor"


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of its living children, from /proc."""
    total_ = 0.0
    for each in (pid, *children(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        total_ += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total_


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


class Site:
    """``carina serve`` over ``folder``; ``settings`` are those of the TOML file beside the defaults here.

    ``inside``: within this process. ``environment`` is put over that of this process.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path | None,
        *,
        inside: bool = False,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.folder, self.data = folder, Path(settings.get("data", folder / "data"))
        self.dicom, self.web = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        chosen: dict[str, Any] = {
            "data": self.data, "free_bytes": 0, "quiet_seconds": 1.0,
            "dicom": {"port": self.dicom, "associations": 40, "per_address": 40},
            "web": {"port": self.web},
        }  # fmt: skip
        if bundle is not None:
            chosen["model"] = bundle
        for name, value in settings.items():
            known = chosen.get(name)
            chosen[name] = {**known, **value} if isinstance(known, dict) else value
        self.config = folder / "carina.toml"
        self.config.write_text(_toml(chosen))
        self.database = Database(str(chosen.get("database") or f"sqlite:///{self.data / 'carina.sqlite'}"))
        upgrade(self.database)
        with self.database.write() as session:
            self.key = people.add_key(session, "harness", people.Role.ADMIN, datetime.now(UTC))
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.service: Service | None = None
        self._inside, self._environment = inside, {**os.environ, **(environment or {})}
        self.starts: list[Start] = []

    @property
    def pid(self) -> int:
        """Of the process that serves."""
        return os.getpid() if self.process is None else self.process.pid

    def ports(self) -> tuple[int, int]:
        """Of DICOM and of the page."""
        return self.dicom, self.web

    def start(self, *before: str, role: str = "all", ready: bool = True) -> float:
        """Start it; the seconds until it says that it is ready (or, without ``ready``, until it answers).

        A listener alone is ready when it takes associations. ``before`` is put before the command.
        """
        begin = time.monotonic()
        answers = self.takes if role == "listener" else lambda: self.answers(200 if ready else None)
        if self._inside:
            self.service = Service(read_settings(self.config), Role(role))
            self.service.start()
            return until(answers, "a start", STARTED, 0.05)
        serve = [sys.executable, "-m", "carina", "serve", "--config", str(self.config), "--role", role]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, *serve], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: self._ended() or answers(), "a start", STARTED, 0.1)
        assert not self._ended(), self.said()[-2000:]
        assert self.process is not None
        self.starts.append(Start(time.monotonic() - begin, processor_seconds(self.process.pid)))
        return self.starts[-1].seconds

    def page(self, path: str = "/worklist") -> str:
        """The text of a page. ``AssertionError`` where it is not served."""
        status, text_ = get(self.web, path, self.key, seconds=30)
        assert status == 200, (status, text_[:500])
        return text_

    def answers(self, wanted: int | None = 200) -> bool:
        """Whether /ready answers with ``wanted`` (None: with anything)."""
        try:
            status, _ = get(self.web, "/ready", seconds=5)
        except OSError:
            return False
        return wanted is None or status == wanted

    def takes(self) -> bool:
        """Whether an association can be had."""
        try:
            Association(self.dicom).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """``kill -9`` of the whole service: its process and those it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Let the process, and those it started, do nothing more; calls in work go on in the kernel."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def stop(self, seconds: float = 60.0) -> int:
        """Ask it to end; its exit code."""
        if self.service is not None:
            self.service.stop()
            self.service = None
            return 0
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it if it still runs, and let the database go."""
        if self.service is not None:
            self.service.stop()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.database.close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def said(self) -> str:
        """Everything it ever wrote."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def faults(self) -> list[str]:
        """Log lines that hold a traceback."""
        lines = [line for line in self.said().splitlines() if line.startswith("{")]
        return [line for line in lines if "where" in json.loads(line)] + [
            line for line in self.said().splitlines() if line.startswith("Traceback")
        ]

    def count(self, *wanted: Any) -> int:
        """How many rows: ``count(Study)``, ``count(Job, Job.state == JobState.DONE)``."""
        with self.database.read() as session:
            found = session.scalar(select(func.count()).select_from(wanted[0]).where(*wanted[1:]))
        return int(found or 0)

    def unscored(self) -> int:
        """Films that wait, or are looked at just now."""
        return self.count(Job, Job.state.in_((JobState.WAITING, JobState.TAKEN)))

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the acknowledged films: all three must be nought."""

    lost: int
    twice: int
    changed: int  # bytes that are not those that were sent
    scored_twice: int = 0
    integrity: str = "ok"

    @property
    def well(self) -> bool:
        return (self.lost, self.twice, self.changed, self.scored_twice, self.integrity) == (0, 0, 0, 0, "ok")

    def __str__(self) -> str:
        said = f"{self.lost} lost, {self.twice} twice, {self.changed} with other bytes"
        return said + ("" if self.integrity == "ok" else f", database: {self.integrity}")


def check_kept(ledger: Ledger, database: Database, archive: Path) -> Kept:
    """Look for every acknowledged film: in the tables and on the list once, in the archive byte for byte."""
    with database.read() as session:
        rows = list(session.execute(select(Instance.uid, Instance.sha256, Instance.path, Instance.study_id)))
        integrity = session.scalar(text("PRAGMA integrity_check")) if database.is_sqlite else "ok"
        studies, listed = session.scalar(select(func.count(Study.id))) or 0, total(session, Filter())
        looked = Counter(session.scalars(select(PredictionRow.instance_id)))
    assert listed == studies, f"{listed} of {studies} studies are on the list"
    by_uid, by_hash = Counter(row.uid for row in rows), Counter(row.sha256 for row in rows)
    paths = {row.uid: row.path for row in rows} | {row.sha256: row.path for row in rows}
    lost = twice = changed = 0
    for uid, (way, film) in ledger.films.items():
        found = by_hash[film.sha256] if way == "upload" else by_uid[uid]
        lost += found == 0
        twice += found > 1
        changed += found == 1 and not _same(archive / paths[uid], film, whole=way != "dicom")
    assert len({row.study_id for row in rows}) == studies
    scored_twice = sum(times > 1 for times in looked.values())
    return Kept(lost, twice, changed, scored_twice, str(integrity))


def _same(path: Path, film: Film, *, whole: bool) -> bool:
    """Whether the stored file holds what was sent; by C-STORE there is no file meta information to send."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    if whole:
        return content == film.content
    from io import BytesIO

    return content[read_header(BytesIO(content), "").content_at :] == film.content[film.data_set :]


def _toml(settings: dict[str, Any]) -> str:
    """The settings as TOML: plain values first, then tables, then lists of tables."""
    plain, tables, lists = [], [], []
    for name, value in settings.items():
        if isinstance(value, dict):
            tables.append(f"[{name}]\n" + "".join(f"{key} = {_value(each)}\n" for key, each in value.items()))
        elif isinstance(value, list):
            for row in value:
                lists.append(
                    f"[[{name}]]\n" + "".join(f"{key} = {_value(each)}\n" for key, each in row.items())
                )
        else:
            plain.append(f"{name} = {_value(value)}\n")
    return "".join([*plain, *tables, *lists])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(str(value))
