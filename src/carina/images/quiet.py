"""Silence what decoders warn about, in a way that is safe between threads.

``warnings.catch_warnings`` saves and restores the filters of the whole process, so two threads that
overlap restore each other's. Here one filter is put in front while anybody reads and is taken out by
the last one who leaves. It touches warnings that arise in pydicom, Pillow and this package only.
"""

from __future__ import annotations

import threading
import warnings
from types import TracebackType
from typing import Any

_MODULES = r"(pydicom|PIL|carina\.images)(\.|$)"


class Quiet:
    """A reentrant context in which the libraries under this package warn nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._filter is None or not any(entry is self._filter for entry in warnings.filters):
                warnings.filterwarnings("ignore", module=_MODULES)
                self._filter = warnings.filters[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                filters: Any = warnings.filters
                filters[:] = [entry for entry in filters if entry is not self._filter]
                self._filter = None


quiet = Quiet()
