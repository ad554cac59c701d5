"""Small pictures of films for a page, made in child processes: no film can end the page with itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carina.children.wire import Message
from carina.data.reading import ask_all
from carina.errors import ImageError
from carina.records import Progress

Tell = Callable[[Progress], None] | None

SIDE = 224  # pixels of the longer side
_WORK = "carina.data.thumbnails:pictured"


def thumbnails(
    paths: Sequence[Path], *, side: int = SIDE, workers: int | None = None, progress: Tell = None
) -> Iterator[tuple[int, bytes | ImageError]]:
    """Each film's place in ``paths`` and its picture as JPEG, or why there is none."""
    answers = ask_all(paths, _WORK, lambda message: message[1], workers=workers, options={"side": side})
    for done, (i, answer) in enumerate(answers, 1):
        if progress:
            progress(Progress("pictures", done, len(paths)))
        yield i, answer


def thumbnail(path: Path, side: int = SIDE) -> bytes:
    """One film as JPEG, its longer side ``side`` pixels. Raises ImageError when it cannot be read."""
    from PIL import Image

    from carina.images.read import read
    from carina.images.resize import resize

    pixels = read(path).pixels
    eight = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    height, width = eight.shape
    scale = side / max(height, width)
    small = resize(eight, max(1, round(width * scale)), max(1, round(height * scale)))
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "JPEG", quality=82)
    return stream.getvalue()


def pictured(head: dict[str, Any], _: bytes) -> Message:
    """What a child does with a film that ``thumbnails`` asks for."""
    return {}, thumbnail(Path(head["path"]), head["side"])
