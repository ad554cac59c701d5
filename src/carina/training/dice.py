"""Random numbers that are a function of what they are for, not of when they are drawn.

The order of an epoch, the augmentation of a film and the dropout of a step each come from the
recipe's seed and their own place (epoch, film, step). Nothing random is carried along, so a run that
was killed and resumed, or whose work was shared out differently, draws what it would have drawn.

SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# So that no two purposes share their numbers.
_ORDER, _AUGMENT, _STEP, _LOTTERY, _COPY, _AGAIN, _MIXING = range(1, 8)


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The films 0 … count-1 in the order in which an epoch sees them. (count,)"""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def balanced_order(
    seed: int, epoch: int, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many films as there are, each class as often: a rare class's films come several times.

    Answers with the films in the order in which the epoch sees them, and how often each was seen in it
    before. No film comes a further time before all of its class came. (n,) → (n,), (n,)
    """
    rng = np.random.default_rng([seed, _ORDER, epoch])
    which, visit = [], []
    classes = np.unique(labels)
    for place, label in enumerate(classes):
        films = np.flatnonzero(labels == label)
        wanted = len(labels) * (place + 1) // len(classes) - len(labels) * place // len(classes)
        rounds = -(-wanted // len(films))
        which.append(np.concatenate([rng.permutation(films) for _ in range(rounds)])[:wanted])
        visit.append(np.repeat(np.arange(rounds), len(films))[:wanted])
    shuffled = rng.permutation(len(labels))
    return np.concatenate(which)[shuffled], np.concatenate(visit)[shuffled]


def augmentation(seed: int, epoch: int, ids: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """``count`` numbers for each film, even in [0, 1). ids (B,) → (B, count)"""
    return _numbers(_seed(seed, _AUGMENT, epoch), ids, count)


def mixing(seed: int, epoch: int, ids: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """As ``augmentation``, for how a film is mixed with another. ids (B,) → (B, count)"""
    return _numbers(_seed(seed, _MIXING, epoch), ids, count)


def lottery(seed: int, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A lot for each film; the lowest are drawn first. Other films change nobody's lot. (B,) → (B,)"""
    return _mix(ids ^ np.uint64(_seed(seed, _LOTTERY)))


def copy_of(ids: NDArray[np.uint64], copy: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The number of a film's k-th copy; the 0th is the film. (B,), (B,) → (B,)"""
    return _variant(ids, copy, _COPY)


def again(ids: NDArray[np.uint64], visit: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The number of a film that an epoch shows once more; at the first time the film's. (B,), (B,) → (B,)"""
    return _variant(ids, visit, _AGAIN) if visit.any() else ids


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of torch's generator for one optimiser step on one device."""
    return _seed(seed, _STEP, step, rank)


def _numbers(seed: int, ids: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    state = _mix(ids ^ np.uint64(seed))
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN  # wraps around, as it should
    return (_mix(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _variant(ids: NDArray[np.uint64], number: NDArray[np.int64], purpose: int) -> NDArray[np.uint64]:
    """Another film's number for each count from 1 on; the film's own for 0."""
    return np.where(
        number == 0, ids, _mix(ids ^ np.uint64(_seed(purpose))) + number.astype(np.uint64) * _GOLDEN
    )


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
