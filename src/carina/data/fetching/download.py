"""One file from the web, whole: resumed where it stopped, verified, and in its place only when it is right.

Beside a file that is under way (``NAME.part``) lies what the server said of it (``NAME.part.json``), so
that a later call goes on from there. A resumed request carries ``If-Range`` (RFC 9110 §13.1.5): a server
whose file has changed since answers with the whole new file, never with its tail. Knows nothing of sets.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carina.data.sources.way import Download
from carina.errors import FetchError, MissingExtra
from carina.records import Progress

if TYPE_CHECKING:
    import httpx2

Tell = Callable[[Progress], None] | None

TRIES = 5  # in a row without a byte; then the user may try again later
RESERVE = 200_000_000  # bytes that stay free on the disk
_MEGABYTE = 1_000_000
_PATIENCE = 60.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class _Stand:
    """What the server said of the file that lies in the part. ``size`` is of the whole, where known."""

    url: str
    validator: str | None  # a strong ETag, else Last-Modified; None: it cannot be resumed
    size: int | None


class _Cut(Exception):
    """The connection ended early; the part is kept."""


class _Changed(_Cut):
    """The part is of another file than the server has now; it is of no use."""


def download(
    wanted: Download,
    folder: Path,
    *,
    tell: Tell = None,
    client: httpx2.Client | None = None,
    pause: float = 1.0,
) -> Path:
    """Fetch one file into ``folder`` and give its path.

    A connection that is cut is taken up again, ``pause`` seconds later and each time after twice as long.
    Raises FetchError when the server does not give the file, when it stays cut (what came is kept, and
    the next call goes on from there), when the disk has no room, or when the checksum is not the published
    one (the file is deleted). Raises MissingExtra without httpx2.
    """
    target = folder / wanted.name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{wanted.name}.part"
    own = client or _client()
    try:
        _bring(wanted, part, own, tell, pause)
        _verify(wanted, part)
    except OSError as error:
        raise FetchError(
            f"{part}: cannot be written ({error.strerror or error}); make room and run the same command "
            "again: what was fetched is kept"
        ) from error
    finally:
        if client is None:
            own.close()
    part.replace(target)
    _notes(part).unlink(missing_ok=True)
    return target


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises FetchError when ``needed`` bytes and a reserve do not fit where ``folder`` lies."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed + RESERVE:
        raise FetchError(
            f"{what}: needs {needed / 1e9:.1f} GB beside {RESERVE / 1e9:.1f} GB that stay free, and {place} "
            f"has {free / 1e9:.1f} GB; make room, or name another folder with --out"
        )


def _client() -> httpx2.Client:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtra("carina fetch", "fetch") from error
    return httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(_PATIENCE))


def _bring(wanted: Download, part: Path, client: httpx2.Client, tell: Tell, pause: float) -> None:
    """Fetch until the part is whole."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _one_request(wanted, part, client, tell)
            return
        except _Cut as cut:
            if isinstance(cut, _Changed):
                part.unlink(missing_ok=True)
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless >= TRIES:
                kept = f"{_size(part) / 1e6:.1f} MB are kept"
                raise FetchError(
                    f"{wanted.url}: {cut}; {kept}: run the same command again to go on from there"
                ) from cut
            time.sleep(pause * 2**fruitless)


def _one_request(wanted: Download, part: Path, client: httpx2.Client, tell: Tell) -> None:
    """One request, from the part's end on where the server agrees. Raises _Cut when it ends early."""
    import httpx2

    stand = _known(part, wanted.url)
    have = _size(part) if stand else 0
    headers = {"Accept-Encoding": "identity"}  # byte ranges count bytes of the file itself
    if stand and stand.validator and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": stand.validator}
    try:
        with client.stream("GET", wanted.url, headers=headers) as answer:
            start, size = _begin(answer, wanted, have, stand)
            if start == 0:
                stand = _Stand(wanted.url, _validator(answer.headers), size)
                part.write_bytes(b"")
                _notes(part).write_text(json.dumps(asdict(stand)), "utf-8")
            if size is not None:
                check_room(part.parent, size - start, wanted.name)
            _receive(answer, part, start, size, wanted, tell)
    except httpx2.TransportError as error:
        raise _Cut(str(error) or type(error).__name__) from error
    except httpx2.InvalidURL as error:
        raise FetchError(f"{wanted.url}: not an address ({error}); correct it") from error


def _begin(
    answer: httpx2.Response, wanted: Download, have: int, stand: _Stand | None
) -> tuple[int, int | None]:
    """Where the body starts in the file, and the size of the whole, where the server says it."""
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    if answer.status_code == 206:
        unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        size = int(total) if total.isdecimal() else None
        if (unit, span.partition("-")[0], plain) != ("bytes", str(have), True):
            raise FetchError(
                f"{wanted.url}: the server sent another part than was asked for; fetch it with a browser"
            )
        if stand and None not in (size, stand.size) and size != stand.size:
            raise _Changed("it changed while it was fetched")
        return have, size
    if answer.status_code == 416:  # the part is as long as the file, or longer than a file that shrank
        if answer.headers.get("Content-Range", "") == f"bytes */{have}":
            return have, have
        raise _Changed("it changed while it was fetched")
    if answer.status_code in (429, 500, 502, 503, 504):
        raise _Cut(f"the server is busy (status {answer.status_code})")
    if answer.status_code != 200:
        raise FetchError(
            f"{wanted.url}: the server answered {answer.status_code} {answer.reason_phrase}; look at the "
            "address in a browser, the set may have moved"
        )
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() and plain else None


def _receive(
    answer: httpx2.Response, part: Path, start: int, size: int | None, wanted: Download, tell: Tell
) -> None:
    """Write the body behind the first ``start`` bytes of the part, and see that it is all there."""
    total = None if size is None else -(-size // _MEGABYTE)
    stage = f"{wanted.name}, MB"
    done = told = start
    with part.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        for block in answer.iter_bytes() if size != start else ():  # as it comes: a cut loses nothing
            file.write(block)
            done += len(block)
            if done - told >= _MEGABYTE:
                told = done
                if size is None:
                    check_room(part.parent, 0, wanted.name)
                if tell:
                    tell(Progress(stage, done // _MEGABYTE, total))
        file.flush()
        os.fsync(file.fileno())
    if size is not None and done != size:
        raise _Cut(f"{done:,} of {size:,} bytes came")
    if tell:
        tell(Progress(stage, total or done // _MEGABYTE, total or done // _MEGABYTE))


def _verify(wanted: Download, part: Path) -> None:
    """Raises FetchError, and deletes the part, when the checksum is not the published one."""
    if wanted.checksum is None:
        return
    kind, _, published = wanted.checksum.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != published:
        part.unlink()
        _notes(part).unlink(missing_ok=True)
        raise FetchError(
            f"{wanted.url}: not the file that was published ({kind} {found}, not {published}); it was "
            "deleted: fetch it again, and ask its keepers if that repeats itself"
        )


def _known(part: Path, url: str) -> _Stand | None:
    """What the notes say of the part; None when it is of another address or there is no part."""
    with suppress(OSError, ValueError, TypeError):
        stand = _Stand(**json.loads(_notes(part).read_text("utf-8")))
        if stand.url == url and part.exists() and (stand.size is None or _size(part) <= stand.size):
            return stand
    return None


def _validator(headers: Mapping[str, str]) -> str | None:
    """A weak ETag must not be used: two files of one weak tag may differ in bytes."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
