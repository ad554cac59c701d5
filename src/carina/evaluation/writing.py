"""Write several files as one: from the first change to the last, the one that means "complete" is absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def write_all(folder: Path, files: Mapping[str, bytes], *, last: str) -> None:
    """Replace the files by name; ``last`` is removed first and written last. Raises OSError.

    What a kill left half-written is removed.
    """
    for stale in folder.glob("*.partial"):
        stale.unlink(missing_ok=True)
    mark = f".{secrets.token_hex(6)}.partial"
    names = [*(name for name in files if name != last), last]
    try:
        for name in names:
            with (folder / (name + mark)).open("xb") as file:
                file.write(files[name])
                file.flush()
                os.fsync(file.fileno())
        (folder / last).unlink(missing_ok=True)
        for name in names:
            (folder / (name + mark)).replace(folder / name)
    finally:
        for name in names:
            with suppress(OSError):
                (folder / (name + mark)).unlink(missing_ok=True)
