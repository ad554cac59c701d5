"""A PostgreSQL of our own for one run of the tests: Debian's programs, a folder in /tmp, a socket in it.

PostgreSQL refuses to run as root, so root starts it as the user that Debian made for it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.serving.programs import program

_SETTINGS = "listen_addresses='' fsync=off full_page_writes=off max_connections=60"


class Cluster:
    """A running server. ``url(name)`` is SQLAlchemy's URL of one of its databases."""

    def __init__(self) -> None:
        self._initdb, self._pg_ctl = program("initdb", "postgresql"), program("pg_ctl", "postgresql")
        self.root = Path(tempfile.mkdtemp(prefix="carina-pg-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self.root, owner.pw_uid, owner.pw_gid)
        try:
            self._run(self._initdb, "-A", "trust", "-U", "carina", "-E", "UTF8", "--locale=C", "-N")
            self.start()
        except BaseException:
            shutil.rmtree(self.root, ignore_errors=True)
            raise

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = " ".join(f"-c {setting}" for setting in _SETTINGS.split())
        self._run(
            self._pg_ctl, "-w", "-l", str(self.root / "log"), "-o", f"-k {self.root} {options}", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is a crash."""
        self._run(self._pg_ctl, "-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop("immediate")
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://carina@/{name}?host={self.root}"

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction (``CREATE DATABASE`` and the like)."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def _run(self, *command: str) -> None:
        environment = {"PATH": os.environ["PATH"], "PGDATA": str(self.root / "data"), "LC_ALL": "C"}
        done = subprocess.run(
            command, user=self._user, env=environment, cwd=self.root, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr}")
