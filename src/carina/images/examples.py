"""pydicom without what it loads to download its example files: a tenth of a second of every start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LEFT_OUT = ("requests", "tqdm")


@contextmanager
def without_examples() -> Iterator[None]:
    """Import pydicom in here. It finds neither requests nor tqdm, and does without; nor does anybody else."""
    missing = [name for name in _LEFT_OUT if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
