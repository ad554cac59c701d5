"""Heat maps: where in the film the evidence for a class lies, drawn over the film.

Knows pictures, not networks. The map is the class activation map that comes out of the ONNX graph:
each cell's contribution to the class's logit (their mean and the bias make the logit), so it is exact
for the network as it is, at no second pass. It shows where the network looked, not where disease is.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from carina.errors import OutputError
from carina.images.headers import DRAWN
from carina.records import Prediction
from carina.scoring import heat

_SIDE = 448  # pixels of the film's longer way in the picture, at least
_STRONGEST = 0.75  # opacity of the highest contribution: the film stays visible under it
_MARGIN, _TITLE, _BAR, _FOOT = 12, 44, 16, 44  # pixels
_NOTICE = "Where the network looked, not where disease is. Research use; not a medical device."


class _Sheet(NamedTuple):
    """The colours around the film."""

    ink: tuple[int, int, int]
    paper: tuple[int, int, int]
    alarm: tuple[int, int, int]


_LIGHT = _Sheet((25, 25, 25), (255, 255, 255), (176, 0, 32))
_DARK = _Sheet((214, 220, 226), (0, 0, 0), (255, 131, 121))

# Dark red → orange → pale yellow. Lightness (CIE L*) rises evenly from 25 to 93, so equal steps of
# contribution look like equal steps, and the order survives gray printing and red-green blindness.
_STOPS = (
    (0.0, (110, 10, 30)),
    (0.25, (178, 36, 36)),
    (0.5, (226, 88, 34)),
    (0.75, (250, 158, 59)),
    (1.0, (255, 236, 150)),
)


def heat_map(prediction: Prediction, class_name: str | None = None) -> Image.Image:
    """The film of a prediction with the contributions to one class (default: the most probable).

    ``ValueError`` when the class is not one of the prediction's.
    """
    name = class_name or prediction.top_class
    index = prediction.classes.index(name)
    title = f"{name}   {float(prediction.probabilities[index]):.1%}"
    return overlay(prediction.prepared, prediction.cam[index], title)


def save(prediction: Prediction, folder: Path) -> Path:
    """Write the heat map of the most probable class into ``folder`` and answer with the file.

    Raises :class:`~carina.errors.OutputError` when it cannot be written.
    """
    path = folder / file_name(prediction.path)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(png(heat_map(prediction)))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        fault = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"{path}: cannot be written: {fault}; make room or name another folder") from error
    return path


def overlay(
    prepared: NDArray[np.uint8], cam: NDArray[np.float32], title: str = "", *, dark: bool = False
) -> Image.Image:
    """``prepared`` (S, S) uint8 and ``cam`` (h, w) in logits → an RGB picture with a colour bar.

    Only positive contributions are drawn, the stronger the more opaque; the bar gives the scale, from
    0 to the highest contribution in this film. Below stands how much of it lies outside the lung fields.
    ``dark``: for a dark room, light on black.
    """
    sheet = _DARK if dark else _LIGHT
    side = _SIDE * max(1, round(prepared.shape[0] / _SIDE))
    blended, top = blend(prepared, cam, side)
    canvas = Image.new("RGB", (side + 2 * _MARGIN + 88, side + _TITLE + _FOOT), sheet.paper)
    canvas.paste(Image.fromarray(blended), (_MARGIN, _TITLE))
    _write_title(canvas, title, sheet)
    pen, foot, share = ImageDraw.Draw(canvas), side + _TITLE, heat.outside(cam)
    if share is not None and top > 0:
        far = share > heat.BOUND
        said = f"{share:.0%} of it lies outside the lung fields" + (": look twice" if far else "")
        colour = sheet.alarm if far else sheet.ink
        pen.text((_MARGIN, foot + 13), said, fill=colour, font=_font(12), anchor="lm")
    pen.text((_MARGIN, foot + 31), _NOTICE, fill=sheet.ink, font=_font(12), anchor="lm")
    _draw_bar(canvas, sheet, left=side + 2 * _MARGIN, height=side, top=top)
    return canvas


def blend(
    prepared: NDArray[np.uint8], cam: NDArray[np.float32], side: int
) -> tuple[NDArray[np.uint8], float]:
    """The film with its heat alone, (side, side, 3) uint8, and the highest contribution in logits (≥ 0)."""
    film = Image.fromarray(prepared).resize((side, side), Image.Resampling.BICUBIC)
    wide = Image.fromarray(cam.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    positive = np.clip(np.asarray(wide), 0, None)
    top = float(positive.max())
    share = positive / top if top > 0 else positive  # (side, side) in [0, 1]
    alpha = (share * _STRONGEST)[..., np.newaxis]
    gray = np.asarray(film, dtype=np.float32)[..., np.newaxis]
    blended = gray * (1 - alpha) + _colours()[(share * 255).astype(np.uint8)] * alpha
    return blended.round().astype(np.uint8), top


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file that says it is no film: reading it as one is refused."""
    buffer, says = io.BytesIO(), PngInfo()
    says.add_text(DRAWN, "heat map")
    picture.save(buffer, format="PNG", optimize=False, compress_level=3, pnginfo=says)
    return buffer.getvalue()


def file_name(path: str) -> str:
    """A file name for the heat map of ``path``: readable, safe anywhere, different for different paths.

    ``films/IM 7.dcm`` → ``IM_7.3b1f0c9a2d44.png``: the stem's plain characters and twelve hex digits of
    the whole path's sha256.
    """
    last = re.split(r"[/\\]|!/", path)[-1]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", last.rsplit(".", 1)[0])[:60].strip("_-") or "film"
    return f"{stem}.{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}.png"


@cache
def _colours() -> NDArray[np.float32]:
    """(256, 3) RGB in 0–255."""
    at = np.linspace(0, 1, 256)
    stops = [stop for stop, _ in _STOPS]
    return np.stack([np.interp(at, stops, [rgb[i] for _, rgb in _STOPS]) for i in range(3)], axis=1).astype(
        np.float32
    )


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Pillow's own: no font of the machine is needed


def _write_title(canvas: Image.Image, title: str, sheet: _Sheet) -> None:
    pen, room, size = ImageDraw.Draw(canvas), canvas.width - 2 * _MARGIN, 20
    while size > 10 and pen.textlength(title, font=_font(size)) > room:
        size -= 1
    while len(title) > 4 and pen.textlength(title, font=_font(size)) > room:
        title = f"{title[:-2]}…"
    pen.text((_MARGIN, _TITLE // 2), title, fill=sheet.ink, font=_font(size), anchor="lm")


def _draw_bar(canvas: Image.Image, sheet: _Sheet, *, left: int, height: int, top: float) -> None:
    """The scale: from 0 to the highest contribution of this film, as opaque as on a mid-gray film."""
    pen, small = ImageDraw.Draw(canvas), _font(13)
    share = np.linspace(1, 0, height, dtype=np.float32)[:, np.newaxis]
    alpha = share * _STRONGEST
    column = 90 * (1 - alpha) + _colours()[(share[:, 0] * 255).astype(np.uint8)] * alpha
    bar = np.repeat(column[:, np.newaxis], _BAR, axis=1).round().astype(np.uint8)
    canvas.paste(Image.fromarray(bar), (left, _TITLE))
    for part in (1.0, 0.75, 0.5, 0.25, 0.0):
        y = _TITLE + round((1 - part) * (height - 1))
        pen.line((left + _BAR, y, left + _BAR + 4, y), fill=sheet.ink)
        text = f"+{part * top:.2g}" if part and top > 0 else "0"
        pen.text((left + _BAR + 8, y), text, fill=sheet.ink, font=small, anchor="lm")
    label = Image.new("RGB", (height, 18), sheet.paper)
    text = "contribution to the logit" if top > 0 else "nothing speaks for this class"
    ImageDraw.Draw(label).text((height // 2, 9), text, fill=sheet.ink, font=small, anchor="mm")
    canvas.paste(label.rotate(90, expand=True), (canvas.width - 18 - 4, _TITLE))
