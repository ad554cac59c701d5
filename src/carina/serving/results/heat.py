"""Where the network looked, drawn over the film, for the summary of a site that allows it.

The film is read again from the archive in a decoding process of its own; the map was kept with the
prediction. Whatever goes wrong, the summary goes out without the picture: it is an addition, never a
condition.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from carina.errors import CarinaError
from carina.serving.results.result import Films, Result
from carina.serving.schema import Instance, PredictionRow

if TYPE_CHECKING:
    from PIL import Image


def heat(session: Session, result: Result, films: Films) -> Image.Image | None:
    """The film that speaks loudest with its map; None where it was not flagged or cannot be drawn."""
    film = next((each for each in result.films if each.uid == result.loudest), None)
    if film is None or film.prediction is None or film.finding is None or result.model is None:
        return None
    row = session.get(PredictionRow, film.prediction)
    instance = None if row is None else session.get(Instance, row.instance_id)
    if row is None or instance is None or row.cam is None or not row.cam_shape:
        return None
    height, width = row.cam_shape
    cam = np.frombuffer(row.cam, dtype=np.float16)
    if cam.size != height * width:
        return None
    with suppress(OSError, ValueError, CarinaError):
        with films.open(instance.path) as stream:
            content = stream.read()
        title = film.finding if film.p_disease is None else f"{film.finding}   {row.p_disease:.1%} p_disease"
        return _drawn(content, result, cam.reshape(height, width), title)
    return None


def _drawn(content: bytes, result: Result, cam: NDArray[np.float16], title: str) -> Image.Image | None:
    from carina.images.preparation import Preparation
    from carina.scoring.decoding import Decoded, Decoders
    from carina.scoring.heatmap import overlay
    from carina.scoring.inputs import Input

    assert result.model is not None
    preparation = Preparation.from_dict(dict(result.model.preparation))
    with Decoders(preparation) as decoders:
        answer = decoders.load(Input(f"study {result.study}", data=content))
    if not isinstance(answer, Decoded):
        return None
    square = np.frombuffer(answer.square, dtype=np.uint8).reshape(preparation.size, preparation.size)
    return overlay(square, cam.astype(np.float32), title)
