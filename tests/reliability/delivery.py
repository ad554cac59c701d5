"""Every result arrives, whatever the other side does: away, refusing, hanging up before its answer.

A PACS of our own takes results and misbehaves on purpose; the service is killed while one is on its way.
A second one stays away until its results are dead letters, which must be seen on the page and arrive once
somebody asks.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
)
from sqlalchemy import select

from carina.serving.schema import Delivery, JobState
from tests.reliability.sender import Association, film
from tests.reliability.site import Site, free_port, get, until

_REFUSED = 0xA700


@dataclass(frozen=True, slots=True)
class Size:
    """``studies`` whose results go out; the PACS refuses and drops so many; ``kills`` amid a transfer."""

    studies: int
    refusals: int
    drops: int
    kills: int

    def __str__(self) -> str:
        return (
            f"results of {self.studies} studies: PACS down at first, {self.refusals} refusals, "
            f"{self.drops} connections dropped before the answer, {self.kills} kills mid-send; "
            "a second PACS away until its results were dead letters"
        )


QUICK = Size(studies=4, refusals=1, drops=2, kills=0)
FULL = Size(studies=40, refusals=10, drops=10, kills=5)


@dataclass(frozen=True, slots=True)
class Found:
    """``arrived`` of ``planned`` at the first PACS; ``changed``: not the same at each try."""

    planned: int
    arrived: int
    changed: int
    strangers: int  # objects that nobody planned
    tries: int
    letters: int  # dead letters of the second PACS
    seen: int  # … that the page and the interface showed
    late: int  # … that arrived when they were asked for again

    @property
    def met(self) -> bool:
        whole = self.arrived == self.planned and not self.changed and not self.strangers
        return whole and self.letters == self.seen == self.late > 0

    def __str__(self) -> str:
        return (
            f"{self.arrived} of {self.planned} results arrived in {self.tries} tries, {self.changed} with "
            f"another UID or other bytes on a retry; {self.seen} of {self.letters} dead letters visible, "
            f"{self.late} arrived when asked for again"
        )


class Pacs:
    """A PACS that takes results, and does what ``does`` says first: refuse, drop, or hold the answer back."""

    def __init__(self, title: str) -> None:
        self.title, self.port = title, free_port()
        self.got: dict[str, list[bytes]] = defaultdict(list)  # SOP Instance UID → what came, at each try
        self.kept = set[str]()  # UIDs that were answered with success
        self.does = list[str]()
        self.holding, self.go_on = threading.Event(), threading.Event()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listen within the block."""
        ae = AE(ae_title=self.title)
        for each in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            ae.add_supported_context(each)
        handlers: Any = [(evt.EVT_C_STORE, self._take)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            self.go_on.set()
            server.shutdown()

    def _take(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.got[uid].append(event.request.DataSet.getvalue())
        does = self.does.pop(0) if self.does else "take"
        if does == "refuse":
            return _REFUSED
        if does == "drop":
            event.assoc.abort()
            return 0x0000
        if does == "hold":
            self.holding.set()
            self.go_on.wait(60)
        self.kept.add(uid)
        return 0x0000


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Send films, let both PACS misbehave, and see what has arrived in the end."""
    pacs, away = Pacs("PACS"), Pacs("AWAY")
    destinations = [
        {"name": "pacs", "kind": "dicom", "host": "127.0.0.1", "port": pacs.port, "ae_title": "PACS",
         "since": "audit", "sends": ["sr"]},
        {"name": "away", "kind": "dicom", "host": "127.0.0.1", "port": away.port, "ae_title": "AWAY",
         "since": "audit", "sends": ["sr"], "patience_hours": 0.0003},
    ]  # fmt: skip
    with Site(folder, bundle, inside=not size.kills, destinations=destinations) as site:
        site.start()
        link = Association(site.dicom)
        assert [link.store(film(number)) for number in range(size.studies)] == [0] * size.studies
        link.close()
        until(lambda: site.count(Delivery) == 2 * size.studies, "results are planned", 300)
        until(lambda: _in_state(site, "pacs", JobState.WAITING) > 0, "nobody is there yet", 240)
        pacs.does = _moods(size)
        with pacs.open():
            for _ in range(size.kills):
                _kill_mid_send(site, pacs)
            until(lambda: _in_state(site, "pacs", JobState.DONE) == size.studies, "all arrive", 900, 0.2)
        until(lambda: _in_state(site, "away", JobState.DEAD) == size.studies, "patience ends", 900, 0.2)
        letters = json.loads(get(site.web, "/api/v1/deliveries?state=dead", site.key)[1])
        page = site.page("/deliveries")
        seen = sum(str(each["destination"]) == "away" and "away" in page for each in letters)
        with away.open():
            for each in letters:
                _ask_again(site, int(each["id"]))
            until(lambda: _in_state(site, "away", JobState.DONE) == size.studies, "letters arrive", 900, 0.2)
        site.stop()
        with site.database.read() as session:
            planned = set(session.scalars(select(Delivery.uid)))
        changed = sum(len(set(tries)) > 1 for each in (pacs, away) for tries in each.got.values())
        strangers = len((set(pacs.got) | set(away.got)) - planned)
        tries = sum(len(each) for each in pacs.got.values())
        return Found(
            size.studies, len(pacs.kept), changed, strangers, tries, len(letters), seen, len(away.kept)
        )  # fmt: skip


def _moods(size: Size) -> list[str]:
    """What the PACS does first: refusals and drops, each drop after an object that it took.

    Each drop in a row doubles the pause, as it should: ten in a row are three quarters of an hour.
    """
    moods = [each for _ in range(size.drops) for each in ("drop", "take")]
    for number in range(size.refusals):
        moods.insert(3 * number, "refuse")
    return moods


def _kill_mid_send(site: Site, pacs: Pacs) -> None:
    """Kill the service while the PACS has an object and has not answered; then start it again."""
    pacs.holding.clear()
    pacs.go_on.clear()
    pacs.does.insert(0, "hold")
    if not pacs.holding.wait(300):
        pacs.does.clear()
        return  # everything has arrived already
    site.kill()
    pacs.go_on.set()
    site.start(ready=False)  # the second PACS is away, and /ready says so


def _in_state(site: Site, destination: str, state: JobState) -> int:
    return site.count(Delivery, Delivery.destination == destination, Delivery.state == state)


def _ask_again(site: Site, number: int) -> None:
    link = http.client.HTTPConnection("127.0.0.1", site.web, timeout=30)
    headers = {"Authorization": f"Bearer {site.key}"}
    link.request("POST", f"/api/v1/deliveries/{number}/retry", headers=headers)
    assert link.getresponse().status == 200
    link.close()
