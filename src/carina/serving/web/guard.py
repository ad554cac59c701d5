"""What every request must be before anything looks at it, and what every answer carries.

An ASGI middleware of its own, outermost. It knows nothing of users: only which host was asked for, where a
change comes from, and how many bytes a body may have. Bytes are counted as they come; what a header claims
is never believed alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
BODY = 64 * 2**10  # bytes that a request may bring where nothing else is said
LONGEST_URL = 8 * 2**10
STALL = 30.0  # seconds between two pieces of a body, and what a body may be behind LEAST_RATE
LEAST_RATE = 4 * 2**10  # bytes a second that a body comes with at least
LINGER, LINGER_BYTES = 5.0, 2**26  # seconds, and bytes, of a body that are let come after its answer

CONTENT_SECURITY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": CONTENT_SECURITY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """Why a request is not passed on."""

    status: int
    says: str


@dataclass(frozen=True)
class Guard:
    """``hosts`` are the names that are answered to; ``caps`` are (path, bytes), the first that fits holds.

    ``secure`` where this service itself speaks TLS.
    """

    app: App
    hosts: frozenset[str]
    caps: tuple[tuple[re.Pattern[str], int], ...] = ()
    secure: bool = False
    stall: float = STALL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is well-formed; answer the rest here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here

        body = _Body(receive, self.stall)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(self._headers(message.get("headers", ()), scope["path"]))
            elif scope["method"] not in SAFE and not body.complete and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            body.cap = self._checked(scope)
            await self.app(scope, body.receive, answer)
        except Refused as refused:
            await _refuse(answer, refused.status, refused.says)

    def _checked(self, scope: Scope) -> int:
        """The cap of this request's body. Raises ``Refused``."""
        headers = _grouped(scope["headers"])
        method, path = scope["method"], scope["path"]
        if method not in METHODS:
            raise Refused(405, "this method is not answered")
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > LONGEST_URL:
            raise Refused(414, "the address is too long")
        self._check_host(headers.get(b"host", []))
        coding = b", ".join(headers.get(b"content-encoding", [])).strip().lower()
        if coding not in (b"", b"identity"):
            raise Refused(415, "a compressed request is not taken: send it as it is")
        cap = next((most for where, most in self.caps if where.fullmatch(path)), BODY)
        _check_length(headers.get(b"content-length", []), cap)
        if method not in SAFE and b"authorization" not in headers:
            self._check_origin(scope, headers)
        return cap

    def _check_host(self, found: list[bytes]) -> None:
        match = _HOST.fullmatch(found[0].decode("latin-1")) if len(found) == 1 else None
        if match is None or host_name(match["name"]) not in self.hosts:
            raise Refused(400, "no host of this name is here; a site lists its names under web.hosts")

    def _check_origin(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> None:
        """A change comes from a page of this very origin. Programs send a key and need no origin."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        here = [scope["scheme"].encode() + b"://" + headers[b"host"][0].lower()]
        if site is not None and site != [b"same-origin"]:
            raise Refused(403, "a change must come from a page of this service")
        if origin is not None and [each.lower() for each in origin] != here:
            raise Refused(403, "a change must come from a page of this service")
        if site is None and origin is None:
            raise Refused(403, "a change must say where it comes from (Origin), or bring an API key")

    def _headers(self, given: Iterable[tuple[bytes, bytes]], path: str) -> Iterable[tuple[bytes, bytes]]:
        names = set()
        for name, value in given:
            names.add(name.lower())
            if name.lower() not in _HEADERS:
                yield name, value
        yield from _HEADERS.items()
        if b"cache-control" not in names:
            yield b"cache-control", b"no-store"
        if self.secure:
            yield b"strict-transport-security", b"max-age=31536000"


def host_name(name: str) -> str:
    """A host's name as it is compared: small letters, without a last dot; addresses in their short form."""
    plain = name.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        return plain


class _Body:
    """A request's body: its bytes counted, with limits on pauses and on slowness while it comes.

    Time in which nobody asks for the next piece, as while a disk is slow, does not count.
    """

    def __init__(self, receive: Receive, stall: float) -> None:
        self._receive, self._stall = receive, stall
        self._count, self._waited = 0, 0.0
        self.cap = 0
        self.complete = False

    async def receive(self) -> Message:
        """The next piece. Raises ``HTTPException`` where there are too many, or they come too slowly."""
        if self.complete:
            return await self._receive()  # waits for the other side to go, however long that takes
        begin = time.monotonic()
        left = min(self._stall, self._stall + self._count / LEAST_RATE - self._waited)
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except TimeoutError:
            raise HTTPException(408, "the request stopped coming, or comes too slowly") from None
        self._waited += time.monotonic() - begin
        self._seen(message)
        if self._count > self.cap:
            raise HTTPException(413, f"at most {self.cap:,} bytes are taken here")
        return message

    async def drain(self) -> None:
        """Throw away what still comes, for a while.

        Whoever closes on a sender resets the connection, and the answer is lost on its way (RFC 9112,
        section 9.6): a refusal would look like a fault of the network.
        """
        most = self._count + LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER):
                while not self.complete and self._count < most:
                    self._seen(await self._receive())
        except TimeoutError:
            return

    def _seen(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        else:
            self.complete = True


def _grouped(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    grouped: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        grouped.setdefault(name.lower(), []).append(value.strip())
    return grouped


def _check_length(found: list[bytes], cap: int) -> None:
    if not found:
        return
    if len(found) != 1 or not re.fullmatch(rb"[0-9]{1,19}", found[0]):
        raise Refused(400, "Content-Length is no number")
    if int(found[0]) > cap:
        raise Refused(413, f"at most {cap:,} bytes are taken here")


async def _refuse(send: Send, status: int, says: str) -> None:
    body = says.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
