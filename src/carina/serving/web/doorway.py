"""The page's connections: who asks is heard, who only holds the door open is put out.

uvicorn waits for ever for a request that comes a byte at a time, and answers 503 to everybody once so many
connections are open. Here a request's head has ``HEAD`` seconds, a TLS handshake as many; and where ``MOST``
connections are open, one gives way to each that comes: one that has never asked for anything before one that
rests, and that before one which is being answered; among those the oldest of the address that has most. Who
came a moment ago may be about to ask, and is spared unless half of all are such.

Knows connections, and nothing of what is asked for on them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0  # seconds for the head of a request, and for a TLS handshake
MOST = 400  # connections at once; beyond 500 uvicorn answers nobody
FRESH = 1.0  # seconds in which who came may still be about to ask
ROOM = 40  # connections that are closed at once where none of them ever asked for anything


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for the head of a request, and with an end to a crowd."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room where there is none, and begin to count the seconds."""
        self.since = self.loop.time()
        self.asked = False  # whether a whole head ever came
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.connections) >= MOST:
            crowd = [each for each in self.connections if isinstance(each, Connection)]
            for one in gives_way(crowd, self.since):
                self.connections.discard(one)
                one.transport.abort()
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that is not whole then has its deadline."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
            return
        self.asked = True
        self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._forget_deadline()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def address(self) -> str:
        """Where it comes from."""
        return self.client[0] if self.client else ""

    def _wait_for_head(self) -> None:
        if self._deadline is None and not self.busy:
            self._deadline = self.loop.call_later(HEAD, self._late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.busy:
            self.transport.abort()


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose TLS handshakes end in time."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """As asyncio's."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HEAD)
        return await super().create_server(*args, **options)


def gives_way(connections: Iterable[Connection], now: float) -> list[Connection]:
    """Which are closed for newcomers: one, or up to ``ROOM`` of those that never asked for anything.

    ``now`` is the loop's time.
    """
    silent, fresh, resting, busy = (
        list[Connection](),
        list[Connection](),
        list[Connection](),
        list[Connection](),
    )
    for each in connections:
        young = fresh if now - each.since < FRESH else silent
        (busy if each.busy else resting if each.asked else young).append(each)
    flood = fresh if len(fresh) >= MOST // 2 else []
    for tier in (silent, flood, resting, busy, fresh):
        if tier:
            ((crowded, _),) = Counter(each.address for each in tier).most_common(1)
            oldest = sorted((each for each in tier if each.address == crowded), key=lambda each: each.since)
            return oldest[: ROOM if tier in (silent, flood) else 1]
    return []
