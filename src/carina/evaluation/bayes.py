"""What a row of test results means for one patient: Bayes' theorem, and how sure it is.

Pure. A rate may be given as a share, and is then taken as known, or as counts, and then carries what
the counts leave open: its posterior is a Beta distribution under Jeffreys' prior Beta(½, ½), drawn
with a fixed seed. Two tests multiply only as far as they err independently. How far they do not is
their covariance among the diseased and among the healthy (Vacek 1985, Biometrics 41:959; Gardner,
Stryhn, Lind & Collins 2000, Prev Vet Med 45:107):

    P(++ | ill) = Se₁ Se₂ + c_ill        P(+- | ill) = Se₁ (1 - Se₂) - c_ill        and so on,
    P(-- | well) = Sp₁ Sp₂ + c_well      P(-+ | well) = Sp₁ (1 - Sp₂) - c_well

with 0 ≤ c_ill ≤ min(Se₁ (1 - Se₂), Se₂ (1 - Se₁)) for tests that err together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.errors import ClaimError
from carina.evaluation.wording import exactly

DRAWS = 100_000
INTERVAL = 0.95
_ALMOST = float(np.nextafter(1.0, 0.0))
_COUNTS = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")

Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """A known share, or ``hits`` of ``total``; ``text`` is how it was said."""

    text: str
    value: float
    hits: int | None = None
    total: int | None = None

    @property
    def counted(self) -> bool:
        """Whether it carries the uncertainty of counts."""
        return self.total is not None

    @property
    def of_people(self) -> str:
        """``12 of 240 people``, ``5 % of the people``."""
        if self.total is not None:
            return f"{self.hits:,} of {self.total:,} people"
        return f"{exactly(self.value)} of the people"

    def draw(self, rng: np.random.Generator, draws: int) -> Draws:
        """Shares that the counts are compatible with, (draws,); one and the same where it is known."""
        if self.hits is None or self.total is None:
            return np.full(draws, self.value)
        return rng.beta(self.hits + 0.5, self.total - self.hits + 0.5, size=draws)

    def complement(self) -> Share:
        """The share of the others."""
        if self.hits is None or self.total is None:
            return Share(self.text, 1 - self.value)
        return Share(self.text, 1 - self.value, self.total - self.hits, self.total)


@dataclass(frozen=True, slots=True)
class Test:
    """One test by its two rates."""

    sensitivity: Share
    specificity: Share

    __test__ = False  # a diagnostic one: pytest must not collect it


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability; ``low`` and ``high`` end its 95 % credible interval, None where all rates are known."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, draws: Draws, *, exact: bool) -> Estimate:
        """The value itself where nothing is uncertain, else the median and the interval of the draws."""
        if exact:
            return cls(float(draws[0]))
        low, middle, high = np.quantile(draws, [(1 - INTERVAL) / 2, 0.5, (1 + INTERVAL) / 2])
        return cls(float(middle), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Step:
    """The probability of disease after the first results; ``results`` is empty before any."""

    results: str
    probability: Estimate


def share(text: str, what: str) -> Share:
    """``0.95`` (known), or ``95/100`` (counted). Raises ClaimError for what is neither."""
    if counts := _COUNTS.fullmatch(text):
        hits, total = int(counts[1]), int(counts[2])
        if total == 0 or hits > total:
            raise ClaimError(f"{what} {text}: {hits} of {total} is no share; give counts such as 95/100")
        return Share(text.strip(), hits / total, hits, total)
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise ClaimError(f"{what} {text!r} is no share; give one from 0 to 1 (0.95), or counts (95/100)")
    return Share(text.strip(), value)


def posterior(
    prevalence: Share, tests: Sequence[Test], results: str, *, seed: int = 0, draws: int = DRAWS
) -> tuple[Step, ...]:
    """The probability of disease before and after each result, the tests being taken as independent.

    ``results`` is a row of + and -; one test stands for all of them, or there is one for each. What is
    counted once is drawn once: the same test twice has the same unknown rates both times.
    """
    _check_results(results)
    if len(tests) not in (1, len(results)):
        raise ClaimError(
            f"{len(tests)} tests for {len(results)} results; describe one test for all results, or each"
        )
    rng = np.random.default_rng(seed)
    exact = not any(each.counted for each in (prevalence, *(r for t in tests for r in _rates(t))))
    draws = 1 if exact else draws
    before = prevalence.draw(rng, draws)
    drawn = [(test.sensitivity.draw(rng, draws), test.specificity.draw(rng, draws)) for test in tests]
    ill, well = before.copy(), 1 - before
    steps = [Step("", Estimate.of(before, exact=exact))]
    for place, result in enumerate(results):
        sensitivity, specificity = drawn[place % len(drawn)]
        ill = ill * (sensitivity if result == "+" else 1 - sensitivity)
        well = well * (1 - specificity if result == "+" else specificity)
        steps.append(Step(results[: place + 1], Estimate.of(_ratio(ill, well), exact=exact)))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class PredictiveValues:
    """At a stated prevalence: how many flagged are ill, how many unflagged are well."""

    positive: Estimate
    negative: Estimate


def predictive_values(
    test: Test, prevalence: Share, *, seed: int = 0, draws: int = DRAWS
) -> PredictiveValues:
    """PPV and NPV of one test at ``prevalence``, which is that of the place of use, never of the training."""
    (_, after_plus) = posterior(prevalence, [test], "+", seed=seed, draws=draws)
    (_, after_minus) = posterior(prevalence, [test], "-", seed=seed, draws=draws)
    left = after_minus.probability
    low = None if left.high is None else 1 - left.high
    high = None if left.low is None else 1 - left.low
    return PredictiveValues(after_plus.probability, Estimate(1 - left.value, low, high))


def _rates(test: Test) -> tuple[Share, Share]:
    return test.sensitivity, test.specificity


def _ratio(ill: Draws, well: Draws) -> Draws:
    """P(ill | results). Raises ClaimError where these results cannot happen at all."""
    both = ill + well
    if not (both > 0).all():
        raise ClaimError("such results cannot happen with these rates; a rate of exactly 0 or 1 is too sure")
    part: Draws = ill / both
    return np.where(well > 0, np.minimum(part, _ALMOST), part)  # 1 is only what rules health out


def _check_results(results: str) -> None:
    if not results or set(results) - {"+", "-"}:
        raise ClaimError(f"{results!r} is no row of results; write + and -, such as ++ or +-")
