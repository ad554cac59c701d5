"""How far new numbers lie from old ones: the population stability index, over bins of the old.

Pure. The index is the symmetric Kullback-Leibler divergence of the shares of ten bins, Σ (q - p) ln(q / p);
below 0.1 is usually called stable and above 0.2 a shift that matters (a rule of thumb of credit scoring).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHIFT = 0.2  # from which a shift matters
BINS = 10


def edges(then: NDArray[np.float64], bins: int = BINS) -> NDArray[np.float64]:
    """The inner borders of bins that hold equal shares of ``then``: (at most bins - 1,), rising."""
    return np.unique(np.quantile(then, np.linspace(0, 1, bins + 1)[1:-1]))


def shares(values: NDArray[np.float64], borders: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of ``values`` in each bin, half a value added to each, so that none is empty: (bins,)."""
    counts = np.bincount(np.searchsorted(borders, values, "right"), minlength=len(borders) + 1)
    return (counts.astype(np.float64) + 0.5) / (len(values) + 0.5 * (len(borders) + 1))


def index(then: NDArray[np.float64], now: NDArray[np.float64], bins: int = BINS) -> float:
    """The population stability index of ``now`` against ``then``, over bins of ``then``; both not empty."""
    borders = edges(then, bins)
    p, q = shares(then, borders), shares(now, borders)
    return float(((q - p) * np.log(q / p)).sum())
