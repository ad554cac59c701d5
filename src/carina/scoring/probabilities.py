"""Probabilities that mean what they say: the map that calibration found, and a change of prevalence.

Pure numpy, so that scoring needs no more. The map takes the probabilities of the network and nothing
else; thresholds are never applied to its result (:mod:`carina.scoring.operating` compares the
network's own ``p_disease``), because mapping may tie or re-order films.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Probabilities = NDArray[np.float64]

_TINY = float(np.finfo(np.float32).tiny)

Method = Literal["none", "temperature", "vector", "isotonic"]


class ProbabilityMap(BaseModel):
    """How to correct probabilities (N, C).

    ``temperature`` and ``vector`` (Guo, Pleiss, Sun & Weinberger 2017, ICML) scale the logarithms of
    the probabilities, by one number or one for each class, and ``vector`` adds a bias to each;
    ``isotonic`` (Zadrozny & Elkan 2002, KDD) maps p_disease through a rising curve of
    ``knots`` → ``values`` and keeps the proportions within the diseased and within the healthy classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    scale: tuple[float, ...] = ()  # 1 for "temperature" (its inverse), C for "vector"
    bias: tuple[float, ...] = ()  # C for "vector"
    knots: tuple[float, ...] = ()  # rising, in [0, 1]
    values: tuple[float, ...] = ()
    healthy: tuple[bool, ...] = Field(min_length=2)  # (C,): which classes mean that nothing was found

    @model_validator(mode="after")
    def _fits(self) -> ProbabilityMap:
        numbers = (*self.scale, *self.bias, *self.knots, *self.values)
        if not all(np.isfinite(numbers)) or any(each <= 0 for each in self.scale):
            raise ValueError("numbers must be finite and scales above 0")
        count = len(self.healthy)
        lengths = {
            "none": (0, 0, 0),
            "temperature": (1, 0, 0),
            "vector": (count, count, 0),
            "isotonic": (0, 0, len(self.values)),
        }[self.method]
        if (len(self.scale), len(self.bias), len(self.knots)) != lengths:
            raise ValueError(f"the parts of {self.method!r} do not fit {count} classes")
        if self.method == "isotonic" and not (
            len(self.knots) > 1 and _rising(self.knots) and _rising(self.values) and _shares(self.values)
        ):
            raise ValueError("the curve must rise within [0, 1]")
        return self

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """The corrected probabilities, (N, C), rows sum to 1."""
        if self.method == "none":
            return probabilities
        if self.method == "isotonic":
            return self._through_curve(probabilities)
        logs = np.log(np.maximum(probabilities, _TINY)) * np.array(self.scale) + np.array(self.bias or 0.0)
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
        corrected: Probabilities = powers / powers.sum(axis=1, keepdims=True)
        return corrected

    def _through_curve(self, probabilities: Probabilities) -> Probabilities:
        well = np.array(self.healthy)
        p_well = probabilities[:, well].sum(axis=1)
        p_ill = probabilities[:, ~well].sum(axis=1)
        wanted = np.interp(p_ill / (p_ill + p_well), self.knots, self.values)
        ill = wanted / np.maximum(p_ill, _TINY)
        return _reweighted(probabilities, well, ill, (1 - wanted) / np.maximum(p_well, _TINY))


def at_prevalence(
    probabilities: Probabilities, healthy: NDArray[np.bool_], trained: float, prevalence: float
) -> Probabilities:
    """Probabilities (N, C) for a place where the share of disease is ``prevalence`` and not ``trained``.

    p'(k) ∝ p(k) π'(k) / π(k) (Saerens, Latinne & Decaestecker 2002, Neural Computation 14:21); the
    mixture within the diseased and within the healthy classes (``healthy``, (C,)) stays as it is. It
    holds as far as films of a class look alike in both places. Both shares lie strictly between 0 and 1.
    """
    ill, well = prevalence / trained, (1 - prevalence) / (1 - trained)
    shape = np.ones(len(probabilities))
    return _reweighted(probabilities, healthy, shape * ill, shape * well)


@dataclass(frozen=True, slots=True)
class Posterior:
    """The probability of disease of a film, where ``prevalence`` of the people are diseased.

    ``map`` corrects the network's probabilities; it was found where the share was ``trained``. No decision
    is made by it: thresholds are compared with the network's own ``p_disease``.
    """

    map: ProbabilityMap
    trained: float
    prevalence: float

    def of(self, probabilities: NDArray[np.floating]) -> float:
        """For the probabilities (C,) of one film, in [0, 1]."""
        healthy = np.array(self.map.healthy)
        mapped = self.map(probabilities[np.newaxis].astype(np.float64))
        here = at_prevalence(mapped, healthy, self.trained, self.prevalence)[0]
        return min(1.0, max(0.0, float(here[~healthy].sum())))


def _reweighted(
    probabilities: Probabilities, healthy: NDArray[np.bool_], ill: Probabilities, well: Probabilities
) -> Probabilities:
    """Rows with the diseased classes times ``ill`` (N,) and the healthy times ``well`` (N,), summing to 1."""
    weighted = probabilities * np.where(healthy, well[:, None], ill[:, None])
    corrected: Probabilities = weighted / weighted.sum(axis=1, keepdims=True)
    return corrected


def _rising(numbers: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in pairwise(numbers))


def _shares(numbers: tuple[float, ...]) -> bool:
    return all(0 <= each <= 1 for each in numbers)
