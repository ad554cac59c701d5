"""Near copies: which films show the same exposure, and the groups they form.

The same radiograph stands in many public sets, re-compressed, resized, cropped, brightened, mirrored,
with an arrow drawn in. Copies on two sides of a split make every figure too good, so they are found by
what they show, in stages: each film's nearest neighbours by a short vector (``candidates``), then each
such pair laid over each other and judged by its fine detail (``registration``). All this is answered from
the films' descriptors. Pairs that are nearly sure may get a second look at a larger picture of both, if
the caller can give one: two exposures of one person, minutes apart, differ only in detail that a
descriptor does not hold. Nothing here opens a file or knows a label.

Why not a library: imagehash and imagededup compare hashes of low frequencies. A crop of 8 % moves those
further than one child's chest is from another's (``benchmarks/near_copies.py`` measures it), and
imagededup's networks would bring torch into a room that must do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from carina.data import candidates
from carina.data.descriptors import SIDE, Descriptors, describe
from carina.data.reading import cores
from carina.data.registration import LIKELY, SAME, SAME_CLOSELY, SURE, agreement, close_agreement
from carina.records import Progress

__all__ = ["NearCopy", "describe", "group_ids", "near_copies"]

Tell = Callable[[Progress], None] | None
Kind = Literal["copy", "flipped"]
# films by position → a larger picture of each that has one, ``descriptors.describe_closely``
Closer = Callable[[Sequence[int]], Mapping[int, NDArray[np.uint8]]]

_PAIRS = 256  # laid over each other at a time; their pictures fit the processor's cache
_CLOSE_PAIRS = 8  # the same at the second look


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two films of the same exposure: positions in the given order, ``first < second``."""

    first: int
    second: int
    score: float  # median correlation of fine detail, at most 1; of the second look, where there was one
    kind: Kind  # "flipped": one is the other's mirror image


def near_copies(
    descriptors: Descriptors | Sequence[NDArray[np.uint8]],
    *,
    closer: Closer | None = None,
    workers: int | None = None,
    progress: Tell = None,
) -> list[NearCopy]:
    """All pairs of near copies found among N descriptors, in order of position.

    A film with many copies may be paired with some of them only; ``group_ids`` brings them together.
    Films without content (one gray all over) are nobody's copy. ``closer`` gives larger pictures of films,
    by position, for a second look at pairs that are nearly sure. ``workers`` is the number of threads:
    None means one for each core. Progress comes in stages, ``candidates``, ``copies``, ``second look``.
    """
    pictures = np.asarray(descriptors, np.uint8).reshape(-1, SIDE, SIDE)
    filled = np.flatnonzero(pictures.any(axis=(1, 2)))
    if len(filled) < 2:
        return []
    if len(filled) < len(pictures):
        pictures = pictures[filled]
    best: dict[tuple[int, int], NearCopy] = {}
    # threads of our own, each with a BLAS that has none: the two kinds would wait for each other
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers or cores()) as pool:
        pairs = _candidates(pictures, pool, progress)
        total, done = sum(len(found) for found in pairs.values()), 0
        for kind, found in pairs.items():
            for part, scores in _judged(pictures, found, kind, pool):
                for at in np.flatnonzero(scores >= (LIKELY if closer else SAME)):
                    first, second = (int(filled[i]) for i in part[at])
                    known = best.get((first, second))
                    if known is None or known.score < scores[at]:
                        best[first, second] = NearCopy(first, second, min(1.0, float(scores[at])), kind)
                done += len(part)
                if progress:
                    progress(Progress("copies", done, total))
        likely = [best[key] for key in sorted(best)]
        return list(_confirmed(likely, closer, pool, progress)) if closer else likely


def _confirmed(
    found: Sequence[NearCopy], closer: Closer, pool: Executor, progress: Tell
) -> Iterator[NearCopy]:
    """The pairs that are sure, or that a second look confirms."""
    nearly = [pair for pair in found if pair.score < SURE]
    scores: dict[tuple[int, int], float] = {}
    for start in range(0, len(nearly), _PAIRS):
        part = nearly[start : start + _PAIRS]
        pictures = closer(sorted({film for pair in part for film in (pair.first, pair.second)}))
        seen = [pair for pair in part if pair.first in pictures and pair.second in pictures]
        blocks = [seen[at : at + _CLOSE_PAIRS] for at in range(0, len(seen), _CLOSE_PAIRS)]
        for block, agreed in zip(blocks, pool.map(partial(_closely, pictures), blocks), strict=True):
            scores |= {(p.first, p.second): float(s) for p, s in zip(block, agreed, strict=True)}
        if progress:
            progress(Progress("second look", min(start + _PAIRS, len(nearly)), len(nearly)))
    for pair in found:
        score = scores.get((pair.first, pair.second))
        if score is None:
            if pair.score >= SAME:
                yield pair
        elif score >= SAME_CLOSELY:
            yield replace(pair, score=min(1.0, score))


def _closely(pictures: Mapping[int, NDArray[np.uint8]], pairs: Sequence[NearCopy]) -> NDArray[np.float32]:
    """The agreement of some pairs in their larger pictures, (n,)."""
    first = np.stack([pictures[pair.first] for pair in pairs])
    second = [pictures[pair.second][:, :: -1 if pair.kind == "flipped" else 1] for pair in pairs]
    return close_agreement(first, np.stack(second))


def group_ids(count: int, pairs: Iterable[NearCopy]) -> NDArray[np.int64]:
    """For each of ``count`` films the first film of its group, (count,) int64; itself where alone."""
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


def _candidates(pictures: Descriptors, pool: Executor, progress: Tell) -> dict[Kind, NDArray[np.int64]]:
    """The pairs to look at, (P, 2), as they are and with the second one mirrored."""
    count = len(pictures)
    if candidates.all_pairs(count):
        pairs = np.stack(np.triu_indices(count, 1), axis=1)
        return {"copy": pairs, "flipped": pairs}
    projection = candidates.learned(pictures)
    own, mirrored = candidates.vectors(pictures, projection, pool)

    def told(done: int) -> None:
        if progress:
            progress(Progress("candidates", done, 2 * count))

    return {
        "copy": candidates.neighbours(own, own, pool, told),
        "flipped": candidates.neighbours(own, mirrored, pool, lambda done: told(count + done)),
    }


def _judged(
    pictures: Descriptors, pairs: NDArray[np.int64], kind: Kind, pool: Executor
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Blocks of pairs with their agreement."""

    def judge(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        first, second = pictures[part[:, 0]], pictures[part[:, 1]]
        return part, agreement(first, second if kind == "copy" else second[:, :, ::-1])

    return pool.map(judge, [pairs[start : start + _PAIRS] for start in range(0, len(pairs), _PAIRS)])
