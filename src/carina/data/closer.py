"""Larger pictures of a few films, for a second look at whether they are copies of each other.

Read in child processes, like every film; one that is gone or cannot be read has no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.children.wire import Message
from carina.data.descriptors import CLOSE, describe_closely
from carina.data.reading import ask_all
from carina.errors import ImageError


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
    answers = ask_all(paths, "carina.data.closer:looked_closely", _picture_of, workers=workers)
    return {i: given for i, given in answers if isinstance(given, np.ndarray)}


def closely(path: Path) -> NDArray[np.uint8] | None:
    """The larger picture of one film. Raises ImageError when it cannot be read."""
    from carina.images.read import read

    return describe_closely(read(path).pixels)


def looked_closely(head: dict[str, Any], _: bytes) -> Message:
    """What a child does with a film that ``look_closer`` asks for; nothing in it means no picture."""
    picture = closely(Path(head["path"]))
    return {}, b"" if picture is None else picture.tobytes()


def _picture_of(message: Message) -> NDArray[np.uint8] | None:
    return np.frombuffer(message[1], np.uint8).reshape(CLOSE, CLOSE) if message[1] else None
