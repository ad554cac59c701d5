"""The learning-rate finder: a sweep over rates, and what its curve suggests.

Pure: a function that takes one step at a rate goes in, a curve and suggestions come out; the loop owns
network and optimizer, and puts them back (``snapshot.held``).

The sweep is Smith's range test (arXiv 1506.01186) as fastai 2 runs it: 100 rates from 1e-7 to 10 in
even ratios, the loss smoothed by a debiased exponential mean (0.98), stopped where that exceeds four
times its lowest. ``steep``, ``valley`` and ``minimum`` are fastai's suggestions of those names
(fastai/callback/schedule.py), read from the curve without its first tenth and its last five points; but
``steep`` is looked for before the lowest loss only, since a loss that swings as it runs away is steep too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
SMOOTHING, DIVERGENCE = 0.98, 4.0
QUIET = 30  # the first steps, at rates too low to teach anything: how much the loss moves by chance
LEAST_FALL = 0.05  # share of the loss at the start: a smaller fall is no steep region

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a sweep before a stage (from 0) found. ``lr`` is the rate to take, ``by`` which suggestion it is.

    ``steep`` and ``valley`` are None where the loss never falls clearly; ``rises`` is where it rises for
    good, None where it never does. ``rates``, ``losses`` and ``smoothed`` are the curve, point by point.
    """

    stage: int
    lr: float
    by: str
    text: str
    steep: float | None
    valley: float | None
    minimum: float  # a tenth of the rate at the lowest loss
    rises: float | None
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in a checkpoint and in the run's folder."""
        return asdict(self)


def sweep(step: Callable[[float], float]) -> tuple[Curve, Curve]:
    """Rates and losses, until the loss runs away. ``step`` takes one step at a rate and answers its loss."""
    rates, losses = np.geomspace(LOWEST, HIGHEST, STEPS), []
    mean, lowest = 0.0, math.inf
    for count, rate in enumerate(rates, 1):
        loss = step(float(rate))
        if not math.isfinite(loss):
            break
        losses.append(loss)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth = mean / (1 - SMOOTHING**count)
        lowest = min(lowest, smooth)
        if smooth > DIVERGENCE * lowest:
            break
    return rates[: len(losses)], np.array(losses)


def suggest(stage: int, rates: Curve, losses: Curve) -> Finding:
    """What a sweep's curve says. Falls back to a tenth of the rate at which the loss rises."""
    smooth = smoothed(losses)
    kept = slice(len(rates) // 10, max(len(rates) - 5, len(rates) // 10 + 1))
    x, y = rates[kept], smooth[kept]
    least = _least_fall(losses, y)
    rises = _rise(x, y, least)
    steep = valley = None
    if len(y) > 5 and _fall(y) >= least:
        before = max(2, int(y.argmin()) + 1)
        steep, valley = float(x[np.diff(y[:before]).argmin()]), float(x[_valley(y)])
    if valley is not None:
        lr, by, text = valley, "valley", f"{valley:.2g} from the longest valley"
    elif rises is not None:
        lr, by = rises / 10, "rise/10"
        text = f"no steep region; {lr:.2g} is a tenth of the rate at which the loss rises"
    else:
        lr, by = float(x[-1]) / 10, "highest/10"
        text = f"no steep region, and the loss does not rise; {lr:.2g} is a tenth of the highest rate tried"
    return Finding(
        stage=stage,
        lr=lr,
        by=by,
        text=text,
        steep=steep,
        valley=valley,
        minimum=float(x[y.argmin()]) / 10,
        rises=rises,
        rates=tuple(rates.tolist()),
        losses=tuple(losses.tolist()),
        smoothed=tuple(smooth.tolist()),
    )


def smoothed(losses: Curve) -> Curve:
    """The debiased exponential mean of all losses so far."""
    means, mean = np.empty(len(losses)), 0.0
    for place, loss in enumerate(losses):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means[place] = mean / (1 - SMOOTHING ** (place + 1))
    return means


def _least_fall(losses: Curve, y: Curve) -> float:
    """The fall below which a curve is taken for flat: of the start, or of what chance alone brings."""
    quiet = losses[:QUIET]
    chance = 2 * float(quiet.std()) / math.sqrt(max(1, STEPS // 10))  # of a mean of the first tenth's steps
    return max(LEAST_FALL * float(y[0]), chance)


def _fall(y: Curve) -> float:
    """How far the loss falls, from the highest point before to a lower one after."""
    return float((np.maximum.accumulate(y) - y).max())


def _rise(x: Curve, y: Curve, least: float) -> float | None:
    """The first rate from which on the loss stays clearly above its lowest point before."""
    lowest = np.minimum.accumulate(y)
    below = np.flatnonzero(y < lowest + least)
    return float(x[below[-1] + 1]) if len(below) and below[-1] + 1 < len(x) else None


def _valley(y: Curve) -> int:
    """The middle of the longest valley: the longest row of points, not all neighbours, that ever fall."""
    length = np.ones(len(y), np.int64)
    for place in range(1, len(y)):
        above = length[:place][y[:place] > y[place]]
        length[place] = 1 + (above.max() if len(above) else 0)
    end = int(length.argmax())
    start, section = end - int(length[end]), int(length[end]) / 3
    return max(0, start + int(section) + int(section / 2))
