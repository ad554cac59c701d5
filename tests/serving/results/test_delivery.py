"""Every planned result is sent until the other side has it: once, as the same bytes, whatever happens."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from carina.errors import DeliveryError, Rejected, Unreachable
from carina.serving.database import Database
from carina.serving.results import plan
from carina.serving.results.delivery import Delivery
from carina.serving.results.senders import Parcel, connect
from carina.serving.schema import Delivery as Row
from carina.serving.schema import Health, Step, Study
from carina.serving.settings import Destination, Settings
from tests.serving.programs import program
from tests.serving.results.ward import NOW, Shelf, admit, model

PACS = {"name": "pacs", "kind": "dicom", "host": "127.0.0.1", "port": 104, "ae_title": "PACS", "tries": 3}
OTHER = {**PACS, "name": "archive"}
RIS = {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": 2575, "tries": 3}


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Post:
    """Other sides, all of them: what came, and what they do next (``None``: take it)."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Parcel]] = []
        self.does: list[Exception | None] = []
        self.closed = threading.Event()  # set: nobody there

    def __call__(self, destination: Destination, _settings: Settings) -> Post._Link:
        if self.closed.is_set():
            raise Unreachable(f"{destination.name}: no connection; it is tried again later")
        return Post._Link(self, destination.name)

    class _Link:
        def __init__(self, post: Post, name: str) -> None:
            self.post, self.name = post, name

        def send(self, parcel: Parcel) -> str:
            does = self.post.does.pop(0) if self.post.does else None
            if isinstance(does, Unreachable):  # it was taken; the answer got lost
                self.post.got.append((self.name, parcel))
            if does is not None:
                raise does
            self.post.got.append((self.name, parcel))
            return ""

        def close(self) -> None:
            return


def site(settings: Settings, *destinations: dict[str, Any]) -> Settings:
    chosen = tuple(Destination.model_validate({"since": "audit", **each}) for each in destinations)
    return settings.model_copy(update={"destinations": chosen})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def post() -> Post:
    return Post()


def planned(database: Database, shelf: Shelf, chosen: Settings, *outcomes: str) -> list[int]:
    with database.write() as session:
        duty = model(session)
        rows = [admit(session, shelf, each, duty=duty) for each in outcomes]
        for row in rows:
            plan.enqueue(session, row, chosen, NOW)
        return [row.id for row in rows]


def rows(database: Database) -> list[Row]:
    with database.read() as session:
        return list(session.scalars(select(Row).order_by(Row.id)))


def test_planning_twice_plans_once_and_an_object_has_one_uid_everywhere(
    database: Database, settings: Settings, shelf: Shelf
) -> None:
    chosen = site(settings, PACS, OTHER, RIS)
    (study,) = planned(database, shelf, chosen, "now")
    with database.write() as session:
        assert plan.enqueue(session, session.get_one(Study, study), chosen, NOW) == 0
    found = rows(database)
    assert [(each.destination, each.kind) for each in found] == [
        ("pacs", "sr"), ("pacs", "sc"), ("archive", "sr"), ("archive", "sc"), ("ris", "hl7"),
    ]  # fmt: skip
    assert found[0].uid == found[2].uid
    assert found[1].uid == found[3].uid
    assert len({each.uid for each in found}) == 3


def test_a_late_film_plans_a_new_version_and_drops_the_old(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, PACS)
    (study,) = planned(database, shelf, chosen, "now")
    with database.write() as session:
        row = session.get_one(Study, study)
        row.version = 2
        assert plan.enqueue(session, row, chosen, NOW) == 2
    assert Delivery(chosen, database, shelf, connect=post, clock=clock).step() == 2
    assert [str(each.state) for each in rows(database)] == ["done"] * 4
    assert [each.sent_at is not None for each in rows(database)] == [False, False, True, True]
    assert "version 2" in str(rows(database)[0].error)


def test_nothing_leaves_before_its_step_of_the_roll_out(
    database: Database, settings: Settings, shelf: Shelf
) -> None:
    chosen = site(settings, {**PACS, "since": "prioritise"}, {**RIS, "since": "silent"})
    (study,) = planned(database, shelf, chosen, "now")
    assert rows(database) == []
    with database.write() as session:
        session.add(Step(at=NOW, by="test", step="silent", evidence={}))
        session.flush()
        assert plan.enqueue(session, session.get_one(Study, study), chosen, NOW) == 1
    assert [each.kind for each in rows(database)] == ["hl7"]


def test_a_study_that_came_as_a_picture_goes_to_webhooks_only(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    chosen = site(
        settings, PACS, RIS, {"name": "pager", "kind": "webhook", "url": "http://localhost/", "secret": "s"}
    )
    with sqlite.write() as session:
        row = admit(session, shelf, "now", duty=model(session))
        row.series[0].instances[0].media_type = "image/png"
        session.flush()
        assert plan.enqueue(session, row, chosen, NOW) == 1


def test_what_is_sent_is_done_and_its_bytes_are_forgotten(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, PACS, RIS)
    planned(database, shelf, chosen, "now", "unread")
    delivery = Delivery(chosen, database, shelf, connect=post, clock=clock)
    assert delivery.step() == 6
    assert delivery.step() == 0
    assert sorted((name, parcel.kind) for name, parcel in post.got) == [
        ("pacs", "sc"), ("pacs", "sc"), ("pacs", "sr"), ("pacs", "sr"), ("ris", "hl7"), ("ris", "hl7"),
    ]  # fmt: skip
    for row in rows(database):
        assert (str(row.state), row.payload, row.sent_at, row.attempts) == ("done", None, NOW, 1)
    with database.read() as session:
        assert session.get_one(Health, "delivery pacs").well


def test_a_lost_answer_is_sent_again_as_the_same_bytes_under_the_same_uid(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**PACS, "sends": ("sr",)})
    planned(database, shelf, chosen, "now")
    post.does = [Unreachable("pacs: no answer")]
    assert Delivery(chosen, database, shelf, connect=post, clock=clock).step() == 0
    shelf.films.clear()  # what was built is kept: nothing is read again
    clock.now += timedelta(seconds=10)
    assert Delivery(chosen, database, shelf, connect=post, clock=clock).step() == 1
    (_, first), (_, second) = post.got
    assert first == second


def test_one_who_dies_while_sending_is_followed_by_another_when_its_lease_ends(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**PACS, "sends": ("sr",)})
    planned(database, shelf, chosen, "now")
    post.does = [KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        Delivery(chosen, database, shelf, connect=post, clock=clock).step()
    (row,) = rows(database)
    assert (str(row.state), row.uid in str(row.payload)) == ("taken", True)
    other = Delivery(chosen, database, shelf, connect=post, clock=clock)
    assert other.step() == 0
    clock.now += timedelta(minutes=3, seconds=1)
    assert other.step() == 1
    assert post.got[0][1] == Parcel("sr", row.uid, row.payload or b"")


def test_refusals_end_as_a_dead_letter_that_a_person_can_send_again(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, RIS)
    planned(database, shelf, chosen, "now")
    delivery = Delivery(chosen, database, shelf, connect=post, clock=clock, draw=lambda: 0.5)
    post.does = [Rejected("ris: AE no such order")] * 3
    for wait in (5, 10):
        assert delivery.step() == 0
        (row,) = rows(database)
        assert row.not_before == clock.now + timedelta(seconds=wait)
        clock.now = row.not_before
    assert delivery.step() == 0
    (row,) = rows(database)
    assert (str(row.state), row.attempts, row.error) == ("dead", 3, "ris: AE no such order")
    clock.now += timedelta(days=1)
    assert delivery.step() == 0
    with database.write() as session:
        assert plan.counts(session) == {"ris": {"dead": 1}}
        with pytest.raises(DeliveryError, match="no dead letter"):
            plan.again(session, clock.now, [row.id + 1])
        assert plan.again(session, clock.now) == 1
    assert delivery.step() == 1
    assert post.got[0][1].uid == row.uid


def test_a_place_where_nobody_is_costs_one_call_and_gives_up_when_patience_ends(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**PACS, "patience_hours": 24})
    planned(database, shelf, chosen, "now", "soon", "unread")
    delivery = Delivery(chosen, database, shelf, connect=post, clock=clock)
    post.closed.set()
    calls = 0
    while clock.now < NOW + timedelta(hours=23):
        delivery.step()
        calls += 1
        clock.now += timedelta(minutes=15)
    assert {str(each.state) for each in rows(database)} == {"waiting"}
    assert sum(each.attempts for each in rows(database)) <= calls  # not one for each result
    with database.read() as session:
        assert not session.get_one(Health, "delivery pacs").well
    post.closed.clear()
    clock.now += timedelta(minutes=30)
    assert delivery.step() == 6
    planned_later = rows(database)
    assert {str(each.state) for each in planned_later} == {"done"}
    assert len({parcel.uid for _, parcel in post.got}) == len(post.got) == 6


def test_a_place_that_stays_away_makes_dead_letters(
    sqlite: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**RIS, "patience_hours": 1})
    planned(sqlite, shelf, chosen, "now")
    post.closed.set()
    delivery = Delivery(chosen, sqlite, shelf, connect=post, clock=clock)
    delivery.step()
    clock.now += timedelta(hours=2)
    delivery.step()
    assert [str(each.state) for each in rows(sqlite)] == ["dead"]


def test_all_that_waited_longer_than_its_patience_is_given_up_at_once(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    """One dead letter for each pause let a PACS that was gone for good hide hundreds for days."""
    chosen = site(settings, {**RIS, "patience_hours": 1})
    planned(database, shelf, chosen, "now", "soon", "unread")
    post.closed.set()
    delivery = Delivery(chosen, database, shelf, connect=post, clock=clock)
    clock.now += timedelta(minutes=50)
    with database.write() as session:
        plan.enqueue(session, admit(session, shelf, "now"), chosen, clock.now)
    clock.now += timedelta(minutes=20)
    delivery.step()
    assert [str(each.state) for each in rows(database)] == ["dead", "dead", "dead", "waiting"]
    assert all("no connection" in str(each.error) for each in rows(database)[:3])
    with database.write() as session:
        assert plan.again(session, clock.now) == 3
    post.closed.clear()
    clock.now += timedelta(minutes=5)
    assert delivery.step() == 4


def test_a_clock_that_was_set_back_holds_up_no_result(
    database: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, RIS, {**RIS, "name": "other"})
    clock.now += timedelta(days=1)
    with database.write() as session:
        plan.enqueue(session, admit(session, shelf, "now", duty=model(session)), chosen, clock.now)
    delivery = Delivery(chosen, database, shelf, connect=post, clock=clock)
    post.closed.set()
    delivery.step()
    with database.write() as session:  # a process that died over it, a day ahead as well
        lease = clock.now + timedelta(minutes=3)
        session.execute(
            update(Row).where(Row.destination == "other").values(
                state="taken", worker="gone", attempts=1, lease_until=lease
            )
        )  # fmt: skip
    post.closed.clear()
    clock.now -= timedelta(days=1)
    assert delivery.step() == 2


def test_what_a_person_asks_for_again_waits_for_no_pause(
    sqlite: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**RIS, "patience_hours": 1})
    planned(sqlite, shelf, chosen, "now")
    post.closed.set()
    delivery = Delivery(chosen, sqlite, shelf, connect=post, clock=clock)
    delivery.step()
    clock.now += timedelta(hours=2)
    delivery.step()
    post.closed.clear()
    with sqlite.write() as session:
        assert plan.again(session, clock.now) == 1
    assert delivery.step() == 1


def test_waits_double_and_stay_within_a_quarter_of_an_hour_and_a_half_more(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    even = Delivery(settings, sqlite, shelf, draw=lambda: 0.5)
    assert [even.wait(each) for each in (1, 2, 3, 8, 50)] == [5, 10, 20, 640, 900]
    late = Delivery(settings, sqlite, shelf, draw=lambda: 1.0)
    assert late.wait(50) == 1350


def test_what_cannot_be_built_is_a_dead_letter_and_stops_nobody(
    sqlite: Database, settings: Settings, shelf: Shelf, post: Post, clock: Clock
) -> None:
    chosen = site(settings, {**PACS, "sends": ("sr",)})
    first, _ = planned(sqlite, shelf, chosen, "now", "soon")
    with sqlite.write() as session:
        session.execute(
            update(Study).where(Study.id == first).values(outcome="no such outcome", urgency=None)
        )
    assert Delivery(chosen, sqlite, shelf, connect=post, clock=clock).step() == 1
    bad, good = rows(sqlite)
    assert (str(bad.state), str(good.state)) == ("dead", "done")
    assert "cannot be built (KeyError)" in str(bad.error)


def test_one_destination_that_hangs_holds_up_no_other(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    chosen = site(settings, {**PACS, "sends": ("sr",)}, RIS)
    planned(sqlite, shelf, chosen, "now")
    hangs, arrived, stop = threading.Event(), threading.Event(), threading.Event()

    class Link:
        def __init__(self, destination: Destination) -> None:
            self.name = destination.name

        def send(self, _parcel: Parcel) -> str:
            if self.name == "pacs":
                hangs.wait(120)
            else:
                arrived.set()
            return ""

        def close(self) -> None:
            return

    delivery = Delivery(chosen, sqlite, shelf, connect=lambda destination, _: Link(destination))
    running = threading.Thread(target=delivery.run, args=(stop,))
    running.start()
    assert arrived.wait(60)
    hangs.set()
    stop.set()
    running.join(60)
    assert not running.is_alive()


@contextmanager
def scp(answer: Callable[[Any], int], tls: Any = None) -> Iterator[int]:
    """A PACS of pynetdicom's making that answers C-STORE with what ``answer`` says."""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import (  # type: ignore[attr-defined]
        ComprehensiveSRStorage,
        SecondaryCaptureImageStorage,
    )

    ae = AE(ae_title="PACS")
    for each in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(each)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)], ssl_context=tls
    )
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "sent"), [(0x0000, 2), (0xB000, 2), (0x0111, 2), (0xA700, 0), (0xC000, 0), (0x0110, 0)]
)
def test_c_store_counts_as_its_status_says(
    sqlite: Database, settings: Settings, shelf: Shelf, status: int, sent: int
) -> None:
    got = []

    def answer(event: Any) -> int:
        got.append((event.request.AffectedSOPInstanceUID, event.assoc.requestor.ae_title))
        return status

    with scp(answer) as port:
        chosen = site(settings, {**PACS, "port": port})
        planned(sqlite, shelf, chosen, "now")
        assert Delivery(chosen, sqlite, shelf, connect=connect).step() == sent
    assert got == [(each.uid, "CARINA") for each in rows(sqlite)]


def test_a_pacs_that_hangs_up_before_its_answer_gets_the_same_object_again(
    sqlite: Database, settings: Settings, shelf: Shelf, clock: Clock
) -> None:
    got: list[bytes] = []

    def answer(event: Any) -> int:
        got.append(event.request.DataSet.getvalue())
        if len(got) == 1:
            event.assoc.abort()
        return 0x0000

    with scp(answer) as port:
        chosen = site(settings, {**PACS, "port": port, "sends": ("sr",)})
        planned(sqlite, shelf, chosen, "now")
        delivery = Delivery(chosen, sqlite, shelf, clock=clock)
        assert delivery.step() == 0
        clock.now += timedelta(seconds=10)
        assert delivery.step() == 1
    assert got[0] == got[1]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    line = [program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=pacs", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(line, check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_with_tls_must_be_the_one_that_the_site_trusts(
    sqlite: Database,
    settings: Settings,
    shelf: Shelf,
    clock: Clock,
    certificates: tuple[Path, Path],
    trusted: bool,
) -> None:
    certificate, key = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    got = []

    def answer(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with scp(answer, context) as port:
        trust = {"ca": certificate} if trusted else {}
        chosen = site(settings, {**PACS, "port": port, "tls": trust})
        planned(sqlite, shelf, chosen, "now")
        assert Delivery(chosen, sqlite, shelf, clock=clock).step() == (2 if trusted else 0)
    assert len(got) == (2 if trusted else 0)
    assert {str(each.state) for each in rows(sqlite)} == {"done" if trusted else "waiting"}


CHILD = """
import sys
from carina.serving.database import Database
from carina.serving.results.delivery import Delivery
from carina.serving.settings import Settings
from tests.serving.results.ward import Shelf
Delivery(Settings.model_validate_json(sys.argv[1]), Database(sys.argv[2]), Shelf()).step()
"""


def test_a_process_killed_while_sending_is_followed_by_one_that_sends_the_same_object(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    got: list[bytes] = []
    arrived, killed = threading.Event(), threading.Event()

    def answer(event: Any) -> int:
        got.append(event.request.DataSet.getvalue())
        arrived.set()
        killed.wait(30)
        return 0x0000

    with scp(answer) as port:
        chosen = site(settings, {**PACS, "port": port, "sends": ("sr",)})
        planned(sqlite, shelf, chosen, "now")
        line = [sys.executable, "-c", CHILD, chosen.model_dump_json(), str(sqlite.url)]
        with subprocess.Popen(line, cwd=Path(__file__).parents[3]) as child:
            assert arrived.wait(90)
            child.kill()
        killed.set()
        assert [str(each.state) for each in rows(sqlite)] == ["taken"]
        later = Delivery(chosen, sqlite, shelf, clock=lambda: datetime.now(UTC) + timedelta(minutes=4))
        assert later.step() == 1
    assert got[0] == got[1]
    assert [str(each.state) for each in rows(sqlite)] == ["done"]
