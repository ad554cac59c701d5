"""Films in object stores and on web servers, read through fsspec: addresses in, names and bytes out.

Knows addresses (``s3://bucket/folder``, ``https://host/film.dcm``) and the faults of stores, not films. A
film that is gone or may not be read is refused; a store that does not answer is no fault of its films, and
ends the run (:class:`~carina.errors.RemoteError`), which can be resumed.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carina.errors import MissingExtra, RemoteError, SourceError

_SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "file"})
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WAITS = (0.5, 2.0, 8.0)  # seconds before a store is asked again
_AGAIN = "see whether it can be reached from here, and go on with --resume"


def is_address(text: str) -> bool:
    """Whether this names something in a store, and no path."""
    return _ADDRESS.match(text) is not None


EMPTY = "//"  # how a folder ends that a store lists as itself: an empty part in the keys of its films


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store lists. ``size`` in bytes; -1 where it does not say."""

    address: str
    folder: bool
    size: int

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rstrip("/").rpartition("/")[2]


class Store:
    """The store of one address. Safe to use from several threads."""

    def __init__(self, address: str) -> None:
        """Raises ``SourceError`` for a kind of store that is not known, ``MissingExtra`` without fsspec."""
        found = _ADDRESS.match(address)
        self.scheme = found[1].lower() if found else ""
        if self.scheme not in _SCHEMES or "::" in address:
            known = ", ".join(f"{each}://" for each in sorted(_SCHEMES))
            raise SourceError(
                f"{address}: no such kind of store is known (known: {known}); check the address"
            )
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise MissingExtra(f"{address}: a store", "cluster") from error
        self.address = address
        options: dict[str, Any] = {"use_listings_cache": False}
        if self.scheme in ("http", "https"):
            options["simple_links"] = False
        try:
            self._files: Any = fsspec.filesystem(self.scheme, **options)
        except ImportError as error:
            raise SourceError(
                f"{address}: what reads {self.scheme}:// is not installed ({error}); install it beside fsspec"
            ) from error

    def entry(self) -> Entry:
        """What the address names. Raises ``SourceError`` where there is nothing, or no access."""
        if self.scheme in ("http", "https"):  # a server does not say; its folders end with a slash
            return Entry(self.address, self.address.endswith("/"), -1)
        try:
            return self._entry(_patiently(lambda: self._files.info(self.address), self.address))
        except FileNotFoundError as error:
            raise SourceError(f"{self.address}: no such film or folder; check the address") from error
        except PermissionError as error:
            raise SourceError(
                f"{self.address}: no access ({error}); check the address and the keys"
            ) from error

    def inside(self, folder: str) -> list[Entry]:
        """What lies in a folder, in the order of the names. Raises ``OSError`` and ``RemoteError``."""
        path = self._files._strip_protocol(folder)
        found = _patiently(lambda: self._files.ls(path, detail=True), folder)
        entries = [self._entry(each) for each in found]
        here = folder.rstrip("/")
        hidden = [
            Entry(f"{here}{EMPTY}", True, -1) for each in entries if _is_itself(each, here) and each.folder
        ]
        entries = [each for each in entries if not _is_itself(each, here)]
        if self.scheme not in ("http", "https"):  # an index page links to its own folder
            entries += hidden
        if self.scheme in ("http", "https"):  # an index page links to itself, sorted in other ways
            entries = [each for each in entries if "?" not in each.address and "#" not in each.address]
        return sorted(entries, key=lambda each: each.name)

    def read(self, address: str) -> bytes:
        """All bytes of a film. Raises ``OSError`` where it is gone or may not be read, ``RemoteError``."""
        path = self._files._strip_protocol(address)
        content: bytes = _patiently(lambda: self._files.cat_file(path), address)
        return content

    def open(self, address: str) -> Any:
        """A file that can be searched, for archives. Raises what :meth:`read` raises."""
        if self.scheme in ("http", "https"):  # not every server can give a part of a file
            return io.BytesIO(self.read(address))
        path = self._files._strip_protocol(address)
        return _patiently(lambda: self._files.open(path, "rb"), address)

    def _entry(self, info: dict[str, Any]) -> Entry:
        size = info.get("size")
        name = self._files.unstrip_protocol(str(info["name"]))
        return Entry(name, info["type"] == "directory", -1 if size is None else int(size))


def _is_itself(entry: Entry, folder: str) -> bool:
    return entry.address.rstrip("/") == folder


def _patiently(ask: Callable[[], Any], address: str) -> Any:
    """The answer of a store that may fail now and then; what is certain is told at once.

    Raises ``FileNotFoundError`` and ``PermissionError`` as they come, ``RemoteError`` for all else.
    """
    for wait in (*_WAITS, None):
        try:
            return ask()
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # each store has its own exceptions, which share no base class
            status = getattr(error, "status", None)
            if status in (401, 403):
                raise PermissionError(f"the server answers {status}") from error
            if status in (404, 410):
                raise FileNotFoundError(f"the server answers {status}") from error
            if wait is None:
                said = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise RemoteError(f"{address}: the store does not answer ({said}); {_AGAIN}") from error
            time.sleep(wait)
    raise AssertionError
