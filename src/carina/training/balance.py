"""Which films an epoch shows: every film once, or every source of a class as often as the others.

Where nearly all films of a class come from one hospital, a network learns that hospital's look as the
class. Shown its sources in equal parts it has less reason to. What balance cannot do: a class that
one source alone has stays tied to it (``carina compile --single-source leave_out``).

Pure arrays; the randomness is that of the order it is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 4  # times that an epoch shows one film; a source of few films stays below its share


def by_source(
    order: NDArray[np.int64], labels: NDArray[np.int64], sources: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The films of an epoch, (N,), drawn from the random ``order`` (N,) of all films.

    Each class keeps its number of films, shared evenly among its sources. Which films of a large source
    are shown is the order's to say, and changes with it. ``labels`` and ``sources`` are (N,).
    """
    shown = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        names, counts = np.unique(sources[of_class], return_counts=True)
        for source, wanted in zip(names, shares(counts), strict=True):
            shown.append(np.resize(of_class[sources[of_class] == source], wanted))
    return np.concatenate(shown)[order]


def shares(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many films each source shows, (S,): even parts of the sum, none above ``MOST`` times its own."""
    wanted = np.zeros(len(counts), np.int64)
    left = int(counts.sum())
    for rank, place in enumerate(np.argsort(counts, kind="stable")):  # the small ones leave to the large
        wanted[place] = min(MOST * counts[place], left // (len(counts) - rank))
        left -= int(wanted[place])
    return wanted


def visits(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each film of an epoch was seen in it before. (N,) → (N,)"""
    by_film = np.argsort(order, kind="stable")
    first = np.r_[True, np.diff(order[by_film]) != 0]
    since = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    seen = np.empty(len(order), np.int64)
    seen[by_film] = since
    return seen
