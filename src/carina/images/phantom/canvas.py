"""The film plane: a grid of centimetres to compute on, and shapes drawn in centimetres.

The patient's frame is that of the viewer: x runs to the right of the image (the patient's left) with
the spine at 0, y runs downwards with the top of the lungs at 0. Knows nothing of anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
Any2D = NDArray[np.floating[Any]]
Points = NDArray[np.float64]  # (N, 2): x, y in cm

_TURN = np.linspace(0, 2 * math.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where the patient stands before the film: ``width`` × ``height`` pixels of ``scale`` pixels per cm.

    ``left`` and ``top`` are the patient's coordinates of the film's upper left corner; ``tilt`` leans
    the patient sideways (cm in x per cm in y), as a shear, so that y stays one value a row.
    """

    width: int
    height: int
    scale: float
    left: float
    top: float
    tilt: float = 0.0

    def x(self) -> Array:
        """(H, W) x in cm."""
        row = self.left + (np.arange(self.width, dtype=np.float32) + 0.5) / self.scale
        return (row[None, :] + self.tilt * (self.y() - 12.0)).astype(np.float32)

    def y(self) -> Array:
        """(H, 1) y in cm."""
        column = self.top + (np.arange(self.height, dtype=np.float32) + 0.5) / self.scale
        return column[:, None].astype(np.float32)

    def to_pixels(self, points: Points) -> list[float]:
        """Centimetres to pixel coordinates x0, y0, x1, y1 …, as PIL takes them."""
        place = points * self.scale
        place[:, 0] -= self.tilt * (place[:, 1] - 12.0 * self.scale) + self.left * self.scale + 0.5
        place[:, 1] -= self.top * self.scale + 0.5
        return place.ravel().tolist()

    def noise(self, rng: np.random.Generator, grain: float) -> Array:
        """(H, W) smooth noise of mean 0 and deviation near 1 whose lumps are about ``grain`` cm wide."""
        shape = [max(3, math.ceil(n / (self.scale * grain)) + 1) for n in (self.height, self.width)]
        coarse = Image.fromarray(rng.standard_normal(shape, dtype=np.float32) * 1.3)
        return np.asarray(
            coarse.resize((self.width, self.height), Image.Resampling.BICUBIC), dtype=np.float32
        )

    def sheet(self) -> Sheet:
        """An empty sheet to draw shapes on."""
        return Sheet(self)


class Sheet:
    """Shapes drawn in centimetres with a strength in [0, 1]; later shapes cover earlier ones."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self._image = Image.new("L", (canvas.width, canvas.height))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Points, strength: float) -> None:
        """A filled outline."""
        self._draw.polygon(self.canvas.to_pixels(points), fill=_gray(strength))

    def band(self, path: Points, width: float | NDArray[np.float64], strength: float) -> None:
        """A stripe of ``width`` cm (one value, or one a point) along ``path``."""
        self.polygon(_outline(path, _across(path), width), strength)

    def bone(
        self, path: Points, width: float | NDArray[np.float64], rim: float, strengths: tuple[float, float]
    ) -> None:
        """A stripe with a denser rim of ``rim`` cm: a long bone and its cortex; strengths (rim, inside)."""
        across = _across(path)
        self.polygon(_outline(path, across, width), strengths[0])
        self.polygon(_outline(path, across, width - 2 * rim), strengths[1])

    def lines(self, paths: NDArray[np.float64], width: float, strength: float) -> None:
        """Polylines (N, points, 2) of one ``width`` in cm; what is thinner than a pixel is drawn fainter."""
        pixels = width * self.canvas.scale
        fill = _gray(strength * min(1.0, pixels))
        count = 2 * paths.shape[1]
        flat = self.canvas.to_pixels(paths.reshape(-1, 2))
        for start in range(0, len(flat), count):
            self._draw.line(flat[start : start + count], fill=fill, width=max(1, round(pixels)))

    def ellipse(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """A filled ellipse around (x, y)."""
        self.polygon(_CIRCLE * [rx, ry] + [x, y], strength)

    def array(self, passes: int = 0) -> Array:
        """(H, W) strengths in [0, 1], softened ``passes`` times."""
        return soften(np.asarray(self._image, dtype=np.float32) * np.float32(1 / 255), passes)


def _across(path: Points) -> Points:
    """(N, 2) unit vectors at right angles to ``path``."""
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    return np.stack([-along[:, 1], along[:, 0]], axis=1)


def _outline(path: Points, across: Points, width: float | NDArray[np.float64]) -> Points:
    half = across * (np.asarray(width) / 2)[..., None]
    return np.concatenate([path + half, (path - half)[::-1]])


def mirror(path: Points, side: int) -> Points:
    """``path`` on the image's right for ``side`` +1, on its left for -1."""
    return np.stack([path[:, 0] * side, path[:, 1]], axis=1)


def soften(image: Any2D, passes: int = 1) -> Array:
    """Binomial blur: each pass is [1 2 1]/4 along both axes, a Gaussian of 0.7 pixels."""
    image = np.asarray(image, dtype=np.float32)
    for _ in range(passes):
        for flip in (False, True):
            source = image.T if flip else image
            soft = source * np.float32(0.5)
            quarter = source * np.float32(0.25)
            soft[1:] += quarter[:-1]
            soft[:-1] += quarter[1:]
            soft[0] += quarter[0]
            soft[-1] += quarter[-1]
            image = soft.T if flip else soft
    return image


def spread(image: Array, cells: int) -> Array:
    """A wide blur: down to about ``cells`` pixels a side, softened there, and up again."""
    height, width = image.shape
    small = Image.fromarray(image).resize((cells, cells), Image.Resampling.BOX)
    soft = Image.fromarray(soften(np.asarray(small, dtype=np.float32), 6))
    return np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def chord(u: Any2D) -> Array:
    """sqrt(1 - u) where positive: the path through a ball at squared distance ``u`` from its middle."""
    return np.asarray(np.sqrt(np.clip(1.0 - u, 0.0, 1.0)), dtype=np.float32)


def ramp(value: Any2D, length: float) -> Array:
    """0 below zero, 1 from ``length`` on, straight between."""
    return np.asarray(np.clip(value / np.float32(length), 0.0, 1.0), dtype=np.float32)


def curve(*corners: Sequence[float] | NDArray[np.float64], points: int = 16) -> Points:
    """A smooth path (a Bézier curve of any degree) with the given control points."""
    t = np.linspace(0, 1, points)[:, None]
    degree = len(corners) - 1
    path = np.zeros((points, 2))
    for k, corner in enumerate(corners):
        path += math.comb(degree, k) * t**k * (1 - t) ** (degree - k) * np.asarray(corner, dtype=np.float64)
    return path


def _gray(strength: float) -> int:
    return round(255 * min(1.0, max(0.0, strength)))
