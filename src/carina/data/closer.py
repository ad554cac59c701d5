"""Larger pictures of a few films, for a second look at whether they are copies of each other.

Read in child processes, like every film; one that is gone or cannot be read has no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carina.data.descriptors import describe_closely
from carina.data.reading import ask_all, cores, serve
from carina.errors import ImageError

_SERVE = "from carina.data.closer import serve_closely; serve_closely()"


def look_closer(paths: Sequence[Path], *, workers: int | None = None) -> Mapping[int, NDArray[np.uint8]]:
    """The picture of each film that has one, (CLOSE, CLOSE) uint8, by its place in ``paths``."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    if workers == 0:
        for i, path in enumerate(paths):
            try:
                answer = closely(path)
            except ImageError:
                continue
            if answer is not None:
                pictures[i] = answer
        return pictures
    for i, given in ask_all(paths, min(workers or cores(), len(paths)), _SERVE) if paths else ():
        if isinstance(given, np.ndarray):
            pictures[i] = cast("Any", given)
    return pictures


def closely(path: Path) -> NDArray[np.uint8] | None:
    """The larger picture of one film. Raises ImageError when it cannot be read."""
    from carina.images.read import read

    return describe_closely(read(path).pixels)


def serve_closely() -> None:
    """What a child process does (``reading.serve``)."""
    serve(closely)
