"""Do new scores lie where those of a site lay, and if not: can another share of disease explain it? Pure.

A hospital with fewer diseased people has lower scores, though its films and its thresholds are as they
were: a sensitivity does not depend on how many are ill. So the site's scores of diseased and of other
films are kept apart. Where the new films have labels, each side is compared with its own. Where they have
none, the best mixture of the two is sought: what no mixture explains are other films. What one explains may
still be other films (disease that scores lower looks like less disease), and only labels can tell.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from carina.evaluation import stability
from carina.evaluation.stability import SHIFT
from carina.scoring.operating import Watch

SURE = 0.01  # chance of a false alarm of each test, were all films independent
_SHARES = np.linspace(0, 1, 101)  # shares of disease that are tried

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far new scores lie from those of the site: ``index`` (PSI), and the p-value that it is luck.

    ``explained`` is the share of disease by which the site's own scores would lie like this, where they
    lie otherwise as they are; None where they do not, and where no share explains it. ``of`` says whose
    scores these are where those of one side have shifted; it is empty for those of all films.
    """

    index: float
    p_value: float
    median_then: float
    median_now: float
    explained: float | None = None
    of: str = ""

    @property
    def medians(self) -> tuple[str, str, str]:
        """Whose scores (``""``, ``" of diseased films"``), their median, and the one at the site."""
        return f" of {self.of}" if self.of else "", f"{self.median_now:.3f}", f"{self.median_then:.3f}"

    @property
    def alarm(self) -> bool:
        """Too unlikely to be luck, large enough to matter, and no mere matter of how many are ill."""
        return self.differs and self.explained is None

    @property
    def differs(self) -> bool:
        """Too unlikely to be luck, and large enough to matter."""
        return self.p_value < SURE and self.index > SHIFT


def shift_of(scores: Scores, watch: Watch, ill: NDArray[np.bool_] | None = None) -> Shift | None:
    """The shift of new ``scores`` (N,); ``ill`` (N,) says which are of diseased films, where it is known.

    Two-sample Kolmogorov-Smirnov, and the population stability index over deciles of the site's scores. With
    labels the answer is about the side that shifted, where one did. None where there is nothing to compare.
    """
    then = np.array(watch.scores)
    if not len(scores) or not len(then):
        return None
    whole = _compared(scores, then)
    if not watch.ill or not watch.well:
        return whole
    then_ill, then_well = np.array(watch.ill), np.array(watch.well)
    if ill is None:
        return replace(whole, explained=_share(scores, then_ill, then_well) if whole.differs else None)
    pairs = (("diseased films", scores[ill], then_ill), ("other films", scores[~ill], then_well))
    sides = [replace(_compared(now, before), of=name) for name, now, before in pairs if len(now)]
    for side in sides:  # each gets its part of the false alarms
        if replace(side, p_value=len(sides) * side.p_value).differs:
            return replace(side, p_value=len(sides) * side.p_value)
    return replace(whole, explained=float(ill.mean()) if whole.differs else None)


def _compared(scores: Scores, then: Scores) -> Shift:
    with warnings.catch_warnings():  # scipy's, that it takes the limiting distribution where ties are many
        warnings.simplefilter("ignore", RuntimeWarning)
        luck = float(stats.ks_2samp(then, scores).pvalue)
    return Shift(stability.index(then, scores), luck, float(np.median(then)), float(np.median(scores)))


def _share(scores: Scores, ill: Scores, well: Scores) -> float | None:
    """The share of disease with which a mixture of the site's scores lies like ``scores``, or None.

    The mixture is the one whose distribution comes closest. The limiting Kolmogorov distribution is asked
    whether what is left is luck, with the number of films that a mixture of two samples is worth; as
    the mixture was fitted, it says "luck" rather too often, never too seldom.
    """
    at = np.sort(np.concatenate([scores, ill, well]))
    now, of_ill, of_well = (
        np.searchsorted(np.sort(each), at, "right") / len(each) for each in (scores, ill, well)
    )
    mixed = _SHARES[:, None] * of_ill + (1 - _SHARES[:, None]) * of_well  # (101, points)
    gaps = np.abs(mixed - now).max(axis=1)
    best = int(gaps.argmin())
    share = float(_SHARES[best])
    worth = 1 / (share**2 / len(ill) + (1 - share) ** 2 / len(well))
    size = worth * len(scores) / (worth + len(scores))
    luck = float(stats.kstwobign.sf(gaps[best] * np.sqrt(size)))
    return share if luck >= SURE else None
