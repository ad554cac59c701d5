"""Small pictures of films for a page, made in child processes: no film can end the page with itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from carina.data.reading import ask_all, cores, serve
from carina.errors import ImageError
from carina.records import Progress

Tell = Callable[[Progress], None] | None

SIDE = 224  # pixels of the longer side
_SERVE = "from carina.data.thumbnails import serve_thumbnails; serve_thumbnails({})"


def thumbnails(
    paths: Sequence[Path], *, side: int = SIDE, workers: int | None = None, progress: Tell = None
) -> Iterator[tuple[int, bytes | ImageError]]:
    """Each film's place in ``paths`` and its picture as JPEG, or why there is none."""
    code = _SERVE.format(side)
    for done, (i, answer) in enumerate(ask_all(paths, min(workers or cores(), len(paths)), code), 1):
        if progress:
            progress(Progress("pictures", done, len(paths)))
        yield i, cast("Any", answer)


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


def serve_thumbnails(side: int) -> None:
    """What a child process does: picture the films it is asked for (``reading.serve``)."""
    serve(lambda path: thumbnail(path, side))
