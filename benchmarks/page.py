"""How long the worklist page takes with 100,000 studies while ten browsers watch.

    python benchmarks/page.py --studies 100000 --browsers 10 --rounds 200

Serves the page from SQLite on this machine, holds open the event streams of the browsers, lets a study change
four times a second (each watching browser fetches its list anew, as the page does), and asks for lists as a
reader would: the first page, a later one, each urgency, a search. Prints p50, p95 and the slowest of each, in
milliseconds, over HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import random
import socket
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.schema import Base, Event, Health, Study, StudyState
from carina.serving.settings import Settings
from carina.serving.web.app import create_app

NAMES = ("Müller", "Lange", "Haddad", "Novák")
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
        stop = threading.Event()
        others = [threading.Thread(target=watch, args=(port, stop)) for _ in range(wanted.browsers)]
        others.append(threading.Thread(target=change, args=(database, wanted.studies, stop)))
        for each in others:
            each.start()
        print(
            f"{wanted.studies:,} studies, {wanted.browsers} browsers watching, {wanted.rounds} times each\n"
        )
        print(f"{'milliseconds':<26}{'p50':>8}{'p95':>8}{'slowest':>9}")
        for name, path in ASKED.items():
            took = [ask(port, path) for _ in range(wanted.rounds)]
            rank = statistics.quantiles(took, n=20)
            print(f"{name:<26}{statistics.median(took):>8.0f}{rank[18]:>8.0f}{max(took):>9.0f}", flush=True)
        stop.set()
        for each in others:
            each.join()
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


def watch(port: int, stop: threading.Event) -> None:
    """One browser: the event stream, and the list anew after each message."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    while not stop.is_set():
        try:
            line = answer.readline()
        except TimeoutError:
            continue
        if line.startswith(b"data:") and not stop.wait(0.4):  # as the page waits: a burst is one change
            ask(port, "/worklist/rows")
    connection.close()


def change(database: Database, count: int, stop: threading.Event) -> None:
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
