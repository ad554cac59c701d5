"""How long the worklist page takes with 100,000 studies while ten browsers watch.

    python benchmarks/page.py --studies 100000 --browsers 10 --rounds 200

Serves the page from SQLite on this machine, holds open the event streams of the browsers (in a process of
their own), lets a study change four times a second (each watching browser fetches its list anew, as the page
does), and asks for lists as a reader would: the first page, a later one, each urgency, a search. Prints p50,
p95 and the slowest of each, in milliseconds, over HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import random
import socket
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.schema import Base, Event, Health, Study, StudyState
from carina.serving.settings import Settings
from carina.serving.web.app import create_app

ASKED = {
    "first page": "/worklist",
    "page 1,000": "/worklist?offset=50000",
    "one urgency": "/worklist?urgency=soon",
    "search, a number": "/worklist?q=P0077123",
    "search, a name of 100": "/worklist?q=okafor",
    "rows alone": "/worklist/rows",
    "REST": "/api/v1/worklist?limit=50",
}
NAMES = ("Müller", "Lange", "Haddad", "Novák")


def main() -> None:
    """Fill a database, serve it, ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--browsers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=200)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate({"data": Path(folder), "free_bytes": 0, "web": {"sign_in": False}})
        database = Database(settings.database_url)
        Base.metadata.create_all(database.engine)
        fill(database, wanted.studies)
        app = create_app(settings, database, Archive(settings.archive, settings))
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        context = multiprocessing.get_context("spawn")
        stop, asked = context.Event(), context.Queue()
        people = context.Process(target=browse, args=(port, wanted.browsers, wanted.rounds, stop, asked))
        changes = threading.Thread(target=change, args=(database, wanted.studies, stop))
        people.start()
        changes.start()
        print(
            f"{wanted.studies:,} studies, {wanted.browsers} browsers watching, {wanted.rounds} times each\n"
        )
        print(f"{'milliseconds':<26}{'p50':>8}{'p95':>8}{'slowest':>9}")
        for name in ASKED:
            took = asked.get()
            rank = statistics.quantiles(took, n=20)
            print(f"{name:<26}{statistics.median(took):>8.0f}{rank[18]:>8.0f}{max(took):>9.0f}", flush=True)
        stop.set()
        people.join()
        changes.join()
        server.should_exit = True
        thread.join()
        database.close()


def fill(database: Database, count: int) -> None:
    """Open studies in the shares of a department; names so that a search finds a few."""
    rng, now = random.Random(0), datetime.now(UTC)
    with database.write() as session:
        for part in ("model", "worker bench:1", "store bench"):
            session.add(Health(part=part, at=now + timedelta(hours=1), well=True, says="well"))
        rows = []
        for number in range(count):
            rank = rng.choices([0, 1, 2, 3], [2, 12, 4, 82])[0]
            at = now - timedelta(minutes=rng.uniform(0, 60 * 24 * 30))
            flagged, score = rank < 2, rng.random()
            rows.append(
                {
                    "uid": f"1.2.826.{number}",
                    "patient_id": f"P{number:07}",
                    "patient_name": f"{'Okafor' if number % 1000 == 0 else rng.choice(NAMES)}^N{number}",
                    "accession": f"A{number}",
                    "description": "Chest PA",
                    "origin": "dicom",
                    "state": StudyState.COMPLETE,
                    "received_at": at,
                    "last_received_at": at,
                    "rank": rank,
                    "weight": 0.0 if rank == 2 else -score,
                    "p_disease": None if rank == 2 else score,
                    "outcome": "flagged" if flagged else "not analysed: needs a reader" if rank == 2 else
                    "not flagged: read as usual",
                    "urgency": ("now", "soon")[rank] if flagged else None,
                    "finding": "TB" if flagged else None,
                    "because": "p_disease against the threshold",
                    "threshold": None if rank == 2 else 0.31,
                    "version": 1,
                    "second_reading": False,
                    "conflict": False,
                }
            )  # fmt: skip
        session.bulk_insert_mappings(Study.__mapper__, rows)


def browse(port: int, browsers: int, rounds: int, stop: Any, asked: Any) -> None:
    """The process of the browsers: so many watch, and one asks for each list ``rounds`` times."""
    for _ in range(browsers):
        threading.Thread(target=watch, args=(port,), daemon=True).start()
    for path in ASKED.values():
        asked.put([ask(port, path) for _ in range(rounds)])
    stop.wait()


def watch(port: int) -> None:
    """One browser: the event stream, and the list anew after each message."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    while True:
        if answer.readline().startswith(b"data:"):
            time.sleep(0.4 + 0.4 * random.random())  # as the page waits: a burst is one change
            ask(port, "/worklist/rows")


def change(database: Database, count: int, stop: Any) -> None:
    """A study changes four times a second."""
    number = 0
    while not stop.wait(0.25):
        number += 1
        with database.write() as session:
            session.add(Event(at=datetime.now(UTC), kind="study", study_id=number % count + 1))


def ask(port: int, path: str) -> float:
    """Milliseconds until the whole answer was there."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, (path, answer.status)
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
