"""A whole service in a process of its own, as ``carina serve`` starts it: what the attacks here meet."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
from sqlalchemy import func, select

from carina.serving import people
from carina.serving.database import Database
from carina.serving.people import Role
from carina.serving.schema import Instance, Job, JobState, PredictionRow
from carina.serving.settings import Settings
from carina.serving.upgrades import upgrade

SENDER = "MODALITY"  # the one AE title that is listed
PASSWORD = "three red herrings swim"
_STARTS = 120.0  # seconds; the machine may be busy


class House:
    """``changes`` are settings; a key and a user of each role are there before it starts."""

    def __init__(self, folder: Path, bundle: Path | None, **changes: Any) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.data, self.log = folder, folder / "data", folder / "log"
        dicom = {"port": 0, "peers": [{"ae_title": SENDER}]} | changes.pop("dicom", {})
        web = {"port": 0} | changes.pop("web", {})
        given = {"data": str(self.data), "free_bytes": 0, "quiet_seconds": 0.5, "dicom": dicom, "web": web}
        given |= {"model": str(bundle)} if bundle else {}
        self.settings = Settings.model_validate(given | changes)
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.database = Database(self.settings.database_url)
        upgrade(self.database)
        self.keys: dict[str, str] = {}
        with self.database.write() as session:
            for role in Role:
                self.keys[role] = people.add_key(session, f"program-{role}", role, datetime.now(UTC))
                people.add_user(session, role, PASSWORD, role, datetime.now(UTC))
        self._given = given | changes
        self.dicom_port = self.web_port = 0
        self._process: subprocess.Popen[str] | None = None
        self._reading: threading.Thread | None = None

    def __enter__(self) -> House:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.database.close()

    def start(self) -> None:
        """Start it, and wait until both ports are open."""
        config = {f"CARINA_{name.upper()}": _said(value) for name, value in self._given.items()}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **config}
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carina", "serve"], stdout=subprocess.PIPE, stderr=log, text=True,
                env=environment,
            )  # fmt: skip
        assert self._process.stdout is not None
        over = threading.Timer(_STARTS, self._process.kill)
        over.start()
        for line in self._process.stdout:
            found = re.search(r":(\d+)[/,]", line)
            if line.startswith("page") and found:
                self.web_port = int(found[1])
            elif line.startswith("DICOM") and found:
                self.dicom_port = int(found[1])
                break
        over.cancel()
        assert self.web_port, self.said()[-3000:]
        assert self.dicom_port, self.said()[-3000:]
        self._reading = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._reading.start()

    def stop(self) -> None:
        """End it as a system would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process is not None and self._process.stdout is not None:
            if self._reading is not None:
                self._reading.join()
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Of the service's own process, not of its children."""
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.web_port}"

    def said(self) -> str:
        """All it wrote to its log."""
        return self.log.read_text("utf-8", "replace")

    def client(self, role: str = "reader", **options: Any) -> httpx.Client:
        """A program with the key of ``role``."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        return httpx.Client(**{"base_url": self.address, "headers": headers, "timeout": 60.0} | options)

    def memory(self) -> int:
        """Resident bytes of the service's own process."""
        return _status(self.pid, "VmRSS")

    def peak(self) -> int:
        """The most of them since :meth:`forget_peak`."""
        return _status(self.pid, "VmHWM")

    def forget_peak(self) -> None:
        """Begin to measure the peak anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def at_rest(self) -> bool:
        """Whether no film waits to be looked at."""
        waiting = select(func.count()).where(Job.state.in_((JobState.WAITING, JobState.TAKEN)))
        with self.database.read() as session:
            return session.scalar(waiting) == 0

    def outcomes(self) -> dict[str, list[tuple[str, str | None]]]:
        """sha256 of each stored file → what was said of it: (outcome, code)."""
        asked = select(Instance.sha256, PredictionRow.outcome, PredictionRow.code).join(PredictionRow)
        found: dict[str, list[tuple[str, str | None]]] = {}
        with self.database.read() as session:
            for sha256, outcome, code in session.execute(asked):
                found.setdefault(sha256, []).append((outcome, code))
        return found


def until(said: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait until it is so; answers how long that took."""
    begin = time.monotonic()
    while not said():
        assert time.monotonic() - begin < seconds, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - begin


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
