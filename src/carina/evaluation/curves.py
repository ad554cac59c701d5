"""The probability of disease over the prevalence: what a chart shows of one test, or of two together. Pure.

A share of diseased people is what a place has, not what a test has. So nothing is said at the mixture of
some films: each curve runs over all prevalences, with what the counts behind the rates leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.bayes import INTERVAL, Test
from carina.evaluation.dependence import CELLS, Joint, product

PREVALENCES = np.geomspace(0.001, 0.9, 120)
_DRAWS = 4_000

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """The probability at each of ``PREVALENCES``, (n,), and its 95 % interval; None where it is known.

    ``naive``: results were multiplied as if the tests erred independently, though they do not.
    """

    name: str
    values: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    naive: bool = False


def apart(name: str, tests: Sequence[Test], results: str, *, naive: bool = False, seed: int = 0) -> Curve:
    """After ``results`` of tests that err independently; one test stands for all results, or each has one."""
    rng = np.random.default_rng(seed)
    known = not any(rate.counted for test in tests for rate in (test.sensitivity, test.specificity))
    draws = 1 if known else _DRAWS
    drawn = [(test.sensitivity.draw(rng, draws), test.specificity.draw(rng, draws)) for test in tests]
    ill, well = np.ones(draws), np.ones(draws)
    for place, result in enumerate(results):
        sensitivity, specificity = drawn[place % len(drawn)]
        ill = ill * (sensitivity if result == "+" else 1 - sensitivity)
        well = well * (1 - specificity if result == "+" else specificity)
    return _curve(name, ill, well, naive=naive)


def together(joint: Joint, results: str) -> tuple[Curve, Curve]:
    """After two results: multiplied as if the tests were independent, and with their dependence."""
    step = len(joint.ill) if joint.exact else max(1, len(joint.ill) // _DRAWS)
    ill, well = joint.ill[::step], joint.well[::step]
    cell = CELLS.index(results)
    return (
        _curve(f"{results}, as if independent", product(ill, results), product(well, results), naive=True),
        _curve(f"{results}, with their dependence", ill[:, cell], well[:, cell], naive=False),
    )


def _curve(name: str, ill: Numbers, well: Numbers, *, naive: bool) -> Curve:
    """``ill`` and ``well`` are chances of the results among the diseased and the healthy, (draws,)."""
    hits = PREVALENCES * ill[:, None]  # (draws, n)
    alarms = (1 - PREVALENCES) * well[:, None]
    both = hits + alarms
    drawn = np.divide(hits, both, out=np.zeros_like(hits), where=both > 0)
    if len(drawn) == 1:
        return Curve(name, drawn[0], naive=naive)
    low, middle, high = np.quantile(drawn, [(1 - INTERVAL) / 2, 0.5, (1 + INTERVAL) / 2], axis=0)
    return Curve(name, middle, low, high, naive)
