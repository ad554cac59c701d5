"""Near copies: which films show the same exposure, and the groups they form.

The same radiograph stands in many public sets, re-compressed, resized, cropped, brightened, with an
arrow drawn in. Copies on two sides of a split make every figure too good, so they are found by what
they show. Two stages: each film's nearest neighbours by a coarse vector (candidates, cheap), then each
candidate pair laid over each other and compared in its fine detail (``registration``). Everything is
answered from the films' descriptors; nothing here opens a file or knows a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carina.data.descriptors import SIDE, Descriptors, describe
from carina.data.registration import align, band
from carina.records import Progress

__all__ = ["NearCopy", "describe", "group_ids", "near_copies"]

SAME = 0.9  # median tile correlation from which two films count as one exposure
_NEIGHBOURS = 10  # candidates looked at for each film
_BLOCK = 2048  # films compared at a time


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two films of the same exposure: positions in the given order, ``first < second``."""

    first: int
    second: int
    score: float  # median correlation of fine detail, SAME to 1
    kind: Literal["copy", "flipped"]  # "flipped": one is the other's mirror image


def near_copies(
    descriptors: Descriptors | Sequence[NDArray[np.uint8]],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> list[NearCopy]:
    """All pairs of near copies among N descriptors, in order of position.

    Films whose descriptor is empty (one gray all over) are nobody's copy. Progress comes in two
    stages, ``candidates`` and ``copies``.
    """
    pictures = np.asarray(descriptors, np.uint8).reshape(-1, SIDE, SIDE)
    if len(pictures) < 2:
        return []
    best: dict[tuple[int, int], NearCopy] = {}
    kinds: tuple[Literal["copy", "flipped"], ...] = ("copy", "flipped")
    for kind in kinds:
        other = pictures if kind == "copy" else pictures[:, :, ::-1]
        pairs = _candidates(pictures, other, progress)
        for start in range(0, len(pairs), _BLOCK):
            part = pairs[start : start + _BLOCK]
            scores = align(pictures[part[:, 0]], other[part[:, 1]]).score
            for (first, second), score in zip(part.tolist(), scores.tolist(), strict=True):
                if score >= SAME and score > best.get((first, second), _NOTHING).score:
                    best[first, second] = NearCopy(first, second, score, kind)
            if progress:
                progress(Progress("copies", min(start + _BLOCK, len(pairs)), len(pairs)))
    return [best[key] for key in sorted(best)]


def group_ids(count: int, pairs: Iterable[NearCopy]) -> NDArray[np.int64]:
    """For each of ``count`` films the first film of its group, ``(count,) int64``; itself where alone."""
    parent = np.arange(count)

    def root(film: int) -> int:
        while parent[film] != film:
            parent[film] = parent[parent[film]]
            film = int(parent[film])
        return film

    for pair in pairs:
        first, second = sorted((root(pair.first), root(pair.second)))
        parent[second] = first
    return np.array([root(film) for film in range(count)], np.int64)


_NOTHING = NearCopy(-1, -1, -1.0, "copy")


def _candidates(
    pictures: Descriptors, other: Descriptors, progress: Callable[[Progress], None] | None
) -> NDArray[np.int64]:
    """Pairs (first < second) of each film and its nearest neighbours, (P, 2)."""
    vectors, others = _vectors(pictures), _vectors(other)
    count, keep = len(vectors), min(_NEIGHBOURS, len(vectors) - 1)
    found = []
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        likeness = vectors[rows] @ others.T
        likeness[np.arange(len(rows)), rows] = -2
        nearest = np.argpartition(-likeness, keep - 1, axis=1)[:, :keep]
        found.append(np.stack([np.repeat(rows, keep), nearest.ravel()], axis=1))
        if progress:
            progress(Progress("candidates", int(rows[-1]) + 1, count))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _vectors(pictures: Descriptors) -> NDArray[np.float32]:
    """A coarse unit vector for each film, (N, 256)."""
    quarter = SIDE // 16
    vectors = []
    for start in range(0, len(pictures), _BLOCK):
        part = pictures[start : start + _BLOCK].astype(np.float32)
        small = part.reshape(len(part), 16, quarter, 16, quarter).mean(axis=(2, 4))
        flat = band(small, 0.7, 3.0).reshape(len(part), -1)
        vectors.append(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6))
    return np.concatenate(vectors)
