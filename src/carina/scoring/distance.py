"""How far a film lies from the films a bundle was taught with, in the space of its embedding.

The distance to the k-th nearest training film after both were scaled to length 1 (Sun, Ming, Zhu & Li
2022, "Out-of-distribution detection with deep nearest neighbors", ICML): no shape of the cloud is
assumed. The threshold is a conformal quantile of the distances of validation films (Vovk, Gammerman &
Shafer 2005), which hold no training patient. The bundle carries the training embeddings as a file like
any other, under its hash.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import BundleError
from carina.scoring.bundle import Bundle
from carina.scoring.contents import DISTANCE, EMBEDDINGS

SECTION = DISTANCE
NEAREST = 5  # k
MOST = 1500  # training films whose embeddings are carried
MOST_HELD_OUT = 600  # validation films behind the threshold

_AGAIN = "export it again"


@dataclass(frozen=True, slots=True)
class Reference:
    """The training films in embedding space: ``films`` (n, D) float32 of length 1."""

    films: NDArray[np.float32]
    nearest: int
    held_out: tuple[float, ...]

    def distance(self, embedding: NDArray[np.float32]) -> float:
        """The distance of one film (D,) to its k-th nearest training film, in [0, 2]; NaN stays NaN."""
        return float(self.distances(embedding[np.newaxis])[0])

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """The distance of each film, (m, D) → (m,)."""
        likeness = unit(embeddings) @ self.films.T  # (m, n) cosines
        kth = np.partition(likeness, -self.nearest, axis=1)[:, -self.nearest]
        distances: NDArray[np.float64] = np.sqrt(np.maximum(0, 2 - 2 * kth.astype(np.float64)))
        return distances

    def threshold(self, false_refusals: float) -> float:
        """The distance above which at most about this share of true films lies.

        Infinite where so few films cannot show so small a share.
        """
        return conformal(self.held_out, false_refusals)


def reference(bundle: Bundle) -> Reference | None:
    """What a bundle carries of its training films; None for one of before they were carried.

    Raises :class:`~carina.errors.BundleError` where file and section do not fit each other or the model.
    """
    if bundle.embeddings_sha256 is None or SECTION not in bundle.sections:
        return None
    try:
        nearest, held_out = _section(bundle.sections[SECTION])
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{bundle.root}: {SECTION}: {error}; {_AGAIN}") from error
    try:
        films = np.load(io.BytesIO(bundle.read(EMBEDDINGS)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleError(f"{bundle.root}: {EMBEDDINGS} is no array ({error}); {_AGAIN}") from error
    features = bundle.features
    if films.ndim != 2 or films.shape[1] != features or films.dtype.kind != "f" or nearest > len(films):
        raise BundleError(
            f"{bundle.root}: {EMBEDDINGS} is {films.shape} {films.dtype}, the model gives {features} "
            f"features; {_AGAIN}"
        )
    return Reference(unit(films.astype(np.float32)), nearest, tuple(sorted(held_out)))


def _section(section: Any) -> tuple[int, tuple[float, ...]]:
    """k, and the distances of validation films; raises where it says something else."""
    if set(section) != {"nearest", "held_out"}:
        raise ValueError(f"it has the keys {sorted(section)}")
    nearest, held_out = section["nearest"], tuple(float(each) for each in section["held_out"])
    if not isinstance(nearest, int) or nearest < 1 or not all(map(math.isfinite, held_out)):
        raise ValueError("its numbers make no sense")
    return nearest, held_out


def conformal(held_out: Sequence[float], share: float) -> float:
    """The ⌈(n+1)(1-α)⌉-th smallest of n rising values; a new one lies above it with a chance of at most α."""
    place = math.ceil((len(held_out) + 1) * (1 - share) - 1e-9)
    return math.inf if place > len(held_out) else held_out[max(place, 1) - 1]


def carried(
    trained_on: NDArray[np.float32], held_out: NDArray[np.float32], nearest: int = NEAREST
) -> tuple[bytes, dict[str, object]]:
    """The file and the section for a bundle, from embeddings (n, D) of training and (m, D) of other films."""
    stored = unit(trained_on).astype(np.float16)
    known = Reference(unit(stored.astype(np.float32)), min(nearest, len(stored)), ())
    buffer = io.BytesIO()
    np.save(buffer, stored, allow_pickle=False)
    distances: Sequence[float] = [round(float(each), 6) for each in np.sort(known.distances(held_out))]
    return buffer.getvalue(), {"nearest": known.nearest, "held_out": list(distances)}


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to length 1; rows of zeros stay zeros."""
    wide = vectors.astype(np.float32)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = wide / np.maximum(length, np.float32(1e-12))
    return scaled
