"""A site on several machines, as its administrator starts it: listener, worker and page, one PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import select

from carina.serving.database import Database
from carina.serving.schema import PredictionRow, Study
from tests.serving.postgres import Cluster
from tests.serving.test_service import decided, send, until, write


@contextmanager
def role(name: str, config: Path, begins: str) -> Iterator[str]:
    """``carina serve --role NAME`` in a process of its own; the line of its greeting that ``begins`` so."""
    line = [sys.executable, "-m", "carina", "serve", "--role", name, "--config", str(config)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next((said for said in process.stdout if said.startswith(begins)), "")
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said


def test_a_film_goes_from_a_listener_over_a_worker_to_a_page_in_three_processes(
    cluster: Cluster, bundle: Path, tmp_path: Path
) -> None:
    cluster.execute("CREATE DATABASE roles")
    config = tmp_path / "carina.toml"
    config.write_text(
        f'data = "{tmp_path / "site"}"\nmodel = "{bundle}"\ndatabase = "{cluster.url("roles")}"\n'
        "quiet_seconds = 0.5\nfree_bytes = 0\n[dicom]\nport = 0\n[web]\nport = 0\nsign_in = false\n"
    )
    database = Database(cluster.url("roles"))
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(role("listener", config, "DICOM"))
            page = stack.enter_context(role("web", config, "page"))
            worker = stack.enter_context(role("worker", config, "Research use"))
            assert all((listener, page, worker))
            send(int(listener.partition(",")[0].rpartition(":")[2]), write(tmp_path / "films", 7))
            until(decided(database, 1), 120)
            with urllib.request.urlopen(f"{page.split()[1]}api/v1/worklist", timeout=60) as answer:
                assert b'"total":1' in answer.read()
        with database.read() as session:
            said, study = session.scalars(select(PredictionRow)).one(), session.scalars(select(Study)).one()
        assert said.model_id is not None  # the tiny model refuses noise, and says so
        assert (study.outcome, study.because) == (said.outcome, said.because)
    finally:
        database.close()
        cluster.execute("DROP DATABASE roles WITH (FORCE)")
