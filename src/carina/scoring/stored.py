"""Films that lie in stores, as films one by one: the same names, order and refusals as on a disk.

Listing and reading are two steps, so that one machine can list what others read. Reading runs ahead: a store
answers late, and nobody should wait for it with an idle processor. Knows stores and archives, not images.
"""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from carina.errors import ImageTooLarge
from carina.records import Refusal
from carina.scoring.inputs import (
    DAMAGE,
    MAX_MEMBER,
    Input,
    Skipped,
    damaged,
    in_order,
    listed,
    not_a_film,
    printable,
    read_member,
)
from carina.scoring.stores import EMPTY, Store

_READERS = 8  # films asked for at the same time
_AHEAD, _AHEAD_BYTES = 16, 64 << 20  # films, and bytes, held before their turn


def check(address: str) -> None:
    """Raises ``SourceError`` for an address that names nothing, ``MissingExtra`` without fsspec."""
    Store(address).entry()


def films(address: str, skipped: Skipped, *, contents: bool = True) -> Iterator[Input | Refusal]:
    """Every film at an address, as :func:`carina.scoring.inputs.films` gives those of a path.

    Raises ``SourceError`` where there is nothing, ``RemoteError`` where the store does not answer.
    """
    found = _films(address, skipped)
    yield from reading(found) if contents else found


def reading(items: Iterable[Input | Refusal]) -> Iterator[Input | Refusal]:
    """Films that were only listed, read, in their order; a film on a disk is left to whoever decodes it.

    At most 16 films, and 64 MB or one film, wait for their turn. Raises ``RemoteError``.
    """
    stores: dict[str, Store] = {}
    coming: deque[tuple[Input | Refusal, Future[Input | Refusal] | None]] = deque()
    held = 0
    with ExitStack() as stack:
        archives = stack.enter_context(_Archives())
        pool = ThreadPoolExecutor(_READERS, "carina-read")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def due() -> Input | Refusal:
            nonlocal held
            item, read = coming.popleft()
            held -= 0 if isinstance(item, Refusal) else max(0, item.size)
            if read is not None:
                return read.result()
            return archives.read(item) if isinstance(item, Input) and item.member >= 0 else item

        for item in items:
            read = None
            if isinstance(item, Input) and item.address is not None and item.member < 0:
                scheme = item.address.partition("://")[0]
                if scheme not in stores:
                    stores[scheme] = Store(item.address)
                read = pool.submit(_read, stores[scheme], item)
            coming.append((item, read))
            held += 0 if isinstance(item, Refusal) else max(0, item.size)
            while len(coming) > _AHEAD or (held > _AHEAD_BYTES and len(coming) > 1):
                yield due()
        while coming:
            yield due()


def _films(address: str, skipped: Skipped) -> Iterator[Input | Refusal]:
    """All films at an address, named and not read; a folder's names are held at each depth."""
    store = Store(address)
    first = store.entry()
    waiting = [[first]]
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        entry = waiting[-1].pop()
        hidden = entry.folder and entry.address.endswith(EMPTY)
        kind = None if entry is first or hidden else not_a_film(entry.name)
        if kind is not None:
            skipped.kinds[kind] += 1
        elif hidden and entry is not first:
            fault = "unreadable: keys with an empty part (two slashes in a row) cannot be listed"
            yield Refusal(printable(entry.address), "unreadable", f"{fault}; give these films other keys")
        elif entry.folder:
            try:
                waiting.append(store.inside(entry.address)[::-1])
            except OSError as error:
                fault = f"unreadable: {error}; grant access to this folder"
                yield Refusal(printable(entry.address), "unreadable", fault)
        elif entry.name.lower().endswith(".zip"):
            yield from _archive(store, entry.address, skipped)
        else:
            yield Input(printable(entry.address), address=entry.address, size=entry.size)


def _archive(store: Store, address: str, skipped: Skipped) -> Iterator[Input | Refusal]:
    name = printable(address)
    try:
        with store.open(address) as file, zipfile.ZipFile(file) as archive:
            for found in listed(archive, name, skipped):
                if isinstance(found, Refusal):
                    yield found
                else:
                    number, member, film = found
                    yield Input(film, address=address, data=b"", member=number, size=member.file_size)
    except DAMAGE as error:
        yield damaged(name, error)


def _read(store: Store, item: Input) -> Input | Refusal:
    """One film of a store; runs in a thread of its own."""
    address = item.address or item.name
    try:
        _check_size(item.name, item.size)
        data = store.read(address)
        _check_size(item.name, len(data))
    except ImageTooLarge as error:
        return Refusal(item.name, error.code, error.reason)
    except OSError as error:
        fault = "it is not there any more" if isinstance(error, FileNotFoundError) else f"no access ({error})"
        return Refusal(item.name, "unreadable", f"unreadable: {fault}; check the store and its keys")
    return replace(item, data=data)


def _check_size(name: str, size: int) -> None:
    if size > MAX_MEMBER:
        raise ImageTooLarge(
            name, f"has more than {MAX_MEMBER >> 20} MB", "no film is that large; leave it out"
        )


class _Archives:
    """Members of archives, read by their numbers; the last archive stays open for the next member."""

    def __init__(self) -> None:
        self._open: ExitStack | None = None
        self._place: Any = None
        self._archive: zipfile.ZipFile | None = None
        self._members: list[zipfile.ZipInfo] = []

    def read(self, item: Input) -> Input | Refusal:
        """One member; what happened to the archive since it was listed is its refusal."""
        try:
            if self._place != (item.path, item.address):
                self._turn_to(item)
            if self._archive is None or item.member >= len(self._members):
                fault = "unreadable: the archive was changed after it was listed"
                return Refusal(item.name, "unreadable", f"{fault}; score it again")
            member = self._members[item.member]
            return read_member(self._archive, member, item.name)
        except DAMAGE as error:
            return damaged(item.name, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _turn_to(self, item: Input) -> None:
        self._close()
        with ExitStack() as stack:
            source: Any = item.path
            if item.address is not None:
                source = stack.enter_context(Store(item.address).open(item.address))
            archive = stack.enter_context(zipfile.ZipFile(source))
            self._members = in_order(archive)
            self._archive, self._place = archive, (item.path, item.address)
            self._open = stack.pop_all()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open, self._place, self._archive = None, None, None
