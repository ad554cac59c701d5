"""Smooth bending of the whole picture: nobody is built by the book, and nobody stands twice the same.

A bend is a sum of a few plane waves that move each point of the body by some millimetres, in the body's
own coordinates; the same bend on another film moves the same rib the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.images.phantom.canvas import Canvas

Mask = NDArray[np.bool_]

_WAVES = 14
_CELLS = 12  # a side of the mesh; within a cell the bend is bilinear


@dataclass(frozen=True, slots=True)
class Bend:
    """Moves (x, y) in cm; ``waves`` (K, 2) in radians per cm, ``phases`` (K,), ``pushes`` (K, 2) in cm."""

    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    pushes: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, deviation: float, lengths: tuple[float, float]) -> Bend:
        """A random bend of so many cm (standard deviation, each axis) with waves of such lengths, cm."""
        angle, length = rng.uniform(0, 2 * np.pi, _WAVES), rng.uniform(*lengths, _WAVES)
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (2 * np.pi / length)[:, None]
        pushes = rng.normal(0, deviation * np.sqrt(2 / _WAVES), (_WAVES, 2))
        return cls(waves, rng.uniform(0, 2 * np.pi, _WAVES), pushes)

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much the points (..., 2) are moved."""
        return np.asarray(np.cos(points @ self.waves.T + self.phases) @ self.pushes)


class Mesh:
    """Bends maps of one canvas. At the film's edge the bend is cut short: nothing comes from outside."""

    def __init__(self, canvas: Canvas, bends: tuple[Bend, ...]) -> None:
        self.size = canvas.width, canvas.height
        across, down = (np.rint(np.linspace(0, side, _CELLS + 1)).astype(int) for side in self.size)
        nodes = np.stack(np.meshgrid(across, down), axis=-1).astype(np.float64)  # (rows, columns, 2)
        place = nodes / canvas.scale + [canvas.left, canvas.top]
        source = nodes + canvas.scale * sum(bend(place) for bend in bends)
        source = np.clip(source, 0, self.size)
        corners = np.concatenate(
            [source[:-1, :-1], source[1:, :-1], source[1:, 1:], source[:-1, 1:]], axis=-1
        )
        self._cells = [
            (
                (int(across[i]), int(down[j]), int(across[i + 1]), int(down[j + 1])),
                tuple(corners[j, i].tolist()),
            )
            for j in range(_CELLS)
            for i in range(_CELLS)
        ]

    def map(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) float32, interpolated."""
        return np.asarray(self._bent(Image.fromarray(values), Image.Resampling.BILINEAR), dtype=np.float32)

    def masks(self, first: Mask, second: Mask) -> tuple[Mask, Mask]:
        """Two masks (H, W) bool at once."""
        image = Image.fromarray(first.astype(np.uint8) + 2 * second.astype(np.uint8))
        bent = np.asarray(self._bent(image, Image.Resampling.NEAREST))
        return (bent & 1) > 0, (bent & 2) > 0

    def _bent(self, image: Image.Image, method: Image.Resampling) -> Image.Image:
        return image.transform(self.size, Image.Transform.MESH, self._cells, method)
