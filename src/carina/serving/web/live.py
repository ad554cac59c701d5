"""What changes, told to every open page: server-sent events out of the table ``events``.

One poller for all browsers, and only while somebody watches. A browser that reads too slowly is told once
to load everything anew, and costs no memory meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from carina.serving.database import Database
from carina.serving.schema import Event

POLL = 0.5  # seconds
ALIVE = 15.0  # seconds after which a quiet connection gets a comment, and is asked whether it still may
MOST_WATCHERS = 200
_LATE = 200  # numbers: in PostgreSQL a transaction may commit after one that took a higher number
_MOST_STUDIES = 500  # in one message; more is "everything"


@dataclass(eq=False)
class Watcher:
    """One open page. ``studies`` and ``kinds`` gather until it reads them."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    studies: set[int] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    newest: int = 0

    def take(self) -> str | None:
        """One message with everything since the last, or None where there is nothing."""
        self.wake.clear()
        if not self.kinds:
            return None
        everything = len(self.studies) > _MOST_STUDIES
        content = {
            "kinds": sorted(self.kinds),
            "studies": None if everything else sorted(self.studies),
        }
        self.studies, self.kinds = set(), set()
        return f"id: {self.newest}\nevent: changed\ndata: {json.dumps(content)}\n\n"


class Feed:
    """Reads the events once for all watchers."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.watchers: set[Watcher] = set()
        self._newest: int | None = None
        self._told: set[int] = set()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def watch(self, since: int | None, still: Callable[[], bool]) -> AsyncIterator[str]:
        """Messages for one page, from event ``since`` on, while ``still`` says that it may."""
        watcher = Watcher()
        self.watchers.add(watcher)
        try:
            if self._poller is None or self._poller.done():
                self._newest = await run_in_threadpool(self._last)
                self._told = set(range(max(0, self._newest - _LATE), self._newest + 1))
                self._poller = asyncio.create_task(self._poll())
            yield "retry: 2000\n\n"
            if since is not None and since < (self._newest or 0):
                for number, kind, study in await run_in_threadpool(self._after, since):
                    _note(watcher, number, kind, study)
            while not self._closed:
                message = watcher.take()
                if message is not None:
                    yield message
                with suppress(TimeoutError):
                    await asyncio.wait_for(watcher.wake.wait(), ALIVE)
                    continue
                if not await run_in_threadpool(still):
                    return
                yield ": still here\n\n"
        finally:
            self.watchers.discard(watcher)

    async def close(self) -> None:
        """End all pages' connections and the poller."""
        self._closed = True
        for watcher in self.watchers:
            watcher.wake.set()
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller

    async def _poll(self) -> None:
        while self.watchers and not self._closed:
            await asyncio.sleep(POLL)
            try:
                events = await run_in_threadpool(self._after, (self._newest or 0) - _LATE)
            except Exception:  # the database is away: the page says so when it asks  # nosec B112
                continue
            for number, kind, study in events:
                if number in self._told:
                    continue
                self._told.add(number)
                self._newest = max(self._newest or 0, number)
                for watcher in self.watchers:
                    _note(watcher, number, kind, study)
            self._told = {number for number in self._told if number > (self._newest or 0) - _LATE}

    def _last(self) -> int:
        with self.database.read() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def _after(self, number: int) -> list[tuple[int, str, int | None]]:
        newer = select(Event.id, Event.kind, Event.study_id).where(Event.id > number).order_by(Event.id)
        with self.database.read() as session:
            return [(row[0], row[1], row[2]) for row in session.execute(newer.limit(5000))]


def _note(watcher: Watcher, number: int, kind: str, study: int | None) -> None:
    watcher.newest = max(watcher.newest, number)
    watcher.kinds.add(kind)
    if study is not None and len(watcher.studies) <= _MOST_STUDIES:
        watcher.studies.add(study)
    watcher.wake.set()
