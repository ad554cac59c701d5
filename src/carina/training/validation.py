"""The figures of one epoch, from the logits of the validation films. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Figures:
    """``loss`` is the mean cross-entropy, neither smoothed nor weighted. None: there is no such film.

    ``there`` are loss and accuracy where classes occur as the recipe's prevalence says; None without one.
    """

    loss: float
    accuracy: float
    recall: tuple[float | None, ...]  # of each class, in the order of the classes
    recall_disease: float | None  # diseased films put into any diseased class
    specificity: float | None  # healthy films put into any healthy class
    auc_disease: float | None  # of 1 - P(healthy)
    there: tuple[float, float] | None = None

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have films."""
        known = [value for value in self.recall if value is not None]
        return sum(known) / len(known)

    @property
    def worst_recall(self) -> float:
        """The recall of the class that is found worst."""
        return min(value for value in self.recall if value is not None)


def figures(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    healthy: Sequence[int],
    weights: NDArray[np.float64] | None = None,
) -> Figures:
    """logits (n, C), labels (n,); ``healthy`` are the indices of the healthy classes.

    ``weights`` (n,) are what each film counts where classes occur otherwise than here.
    """
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    told = logits.argmax(1)
    well, told_well = np.isin(labels, healthy), np.isin(told, healthy)
    p_disease = 1 - np.exp(log_p)[:, list(healthy)].sum(1)
    losses = -log_p[np.arange(len(labels)), labels]
    there = None
    if weights is not None:
        there = float(np.average(losses, weights=weights)), float(np.average(told == labels, weights=weights))
    return Figures(
        loss=float(losses.mean()),
        accuracy=float((told == labels).mean()),
        recall=tuple(_share(told == c, labels == c) for c in range(logits.shape[1])),
        recall_disease=_share(~told_well, ~well),
        specificity=_share(told_well, well),
        auc_disease=_auc(p_disease, ~well),
        there=there,
    )


def _share(right: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(right[among].mean()) if among.any() else None


def _auc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half."""
    ill, well = np.sort(score[positive]), np.sort(score[~positive])
    if not len(ill) or not len(well):
        return None
    below = np.searchsorted(well, ill, side="left") + np.searchsorted(well, ill, side="right")
    return float(below.sum() / 2 / len(ill) / len(well))
