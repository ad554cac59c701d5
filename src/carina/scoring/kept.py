"""What Carina keeps for its next start, in a folder of the user's: read back whole, or not at all.

``$CARINA_CACHE`` names the folder (``off``: nothing is kept), else ``$XDG_CACHE_HOME/carina``, else
``~/.cache/carina``. An entry begins with the sha256 of the rest. One that is damaged, that somebody
else owns or that others may write is no entry: whatever stands here can be made again, so nothing here
is ever an error. Knows names and bytes, not what they mean.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress

_HASH = 64  # hex digits, then a line end
_MOST = 16  # entries; the oldest go first


def read(name: str) -> bytes | None:
    """The content kept under ``name``; ``None`` where there is none that can be trusted."""
    folder = _folder()
    if folder is None:
        return None
    try:
        handle = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # noqa: PTH118
        with os.fdopen(handle, "rb", buffering=0) as file:
            facts = os.fstat(handle)
            ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
            if not ours or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            head, content = file.read(_HASH + 1), file.readall()
    except OSError:
        return None
    return content if head == hashlib.sha256(content).hexdigest().encode() + b"\n" else None


def write(name: str, content: bytes) -> None:
    """Keep ``content``, whole or not at all; the oldest entries make room."""
    folder = _folder()
    if folder is None:
        return
    new = os.path.join(folder, f".{name}.{os.getpid()}.part")  # noqa: PTH118
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in (hashlib.sha256(content).hexdigest().encode() + b"\n", content):
                _write_all(file.fileno(), part)
        os.replace(new, os.path.join(folder, name))  # noqa: PTH105, PTH118
        _make_room(folder)
    except OSError:
        with suppress(OSError):
            os.unlink(new)  # noqa: PTH108


def scratch() -> str | None:
    """A path in the folder for a library to write to; ``None`` where nothing may be kept."""
    folder = _folder()
    if folder is None:
        return None
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        if os.access(folder, os.W_OK | os.X_OK):
            return os.path.join(folder, f".scratch.{os.getpid()}.{os.urandom(4).hex()}.part")  # noqa: PTH118
    return None


def _folder() -> str | None:
    told = os.environ.get("CARINA_CACHE", "")
    if told:
        return None if told == "off" else told
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return os.path.join(base, "carina") if os.path.isabs(base) else None  # noqa: PTH117, PTH118


def _write_all(handle: int, content: bytes) -> None:
    at, whole = 0, memoryview(content)
    while at < len(whole):
        at += os.write(handle, whole[at:])


def _make_room(folder: str) -> None:
    entries = sorted(
        (entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)),
        key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns,
    )
    for entry in entries[:-_MOST]:
        with suppress(OSError):
            os.unlink(entry.path)  # noqa: PTH108
