"""How many positives a claim about sensitivity needs, and what a number of positives can show.

Pure arithmetic on the exact binomial (Clopper & Pearson 1934, Biometrika 26:404): no data, no model,
no simulation. "Positives" are independent: one for each diseased patient, however many films there are.
The lower limit is one-sided, as a claim "at least" is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import stats

from carina.errors import ClaimError
from carina.evaluation.wording import at_least, at_most, counted, exactly

MOST = 10_000_000  # positives: more than any plan can mean


@dataclass(frozen=True, slots=True)
class Requirement:
    """To show ``sensitivity`` at ``confidence`` with ``misses`` allowed takes ``positives``.

    ``limit`` is what exactly so many positives show; ``chance`` how likely a model of the expected
    sensitivity passes (no more than ``misses``), ``to_examine`` how many people must be examined on
    average to meet so many positives. Both None where nothing was said of them.
    """

    misses: int
    positives: int
    limit: float
    chance: float | None = None
    to_examine: int | None = None


@lru_cache(maxsize=4096)
def lower_limit(found: int, positives: int, confidence: float) -> float:
    """The one-sided Clopper-Pearson limit: at least this share is found, at ``confidence``.

    It is the α-quantile of Beta(found, positives - found + 1) with α = 1 - confidence, and 0 where
    nothing was found: 299 of 299 at 95 % show 99.0 %.
    """
    if not 0 <= found <= positives:
        raise ValueError(f"{found} found of {positives} positives")
    return float(stats.beta.ppf(1 - confidence, found, positives - found + 1)) if found else 0.0


def upper_limit(found: int, total: int, confidence: float) -> float:
    """The one-sided Clopper-Pearson limit: at most this share, at ``confidence``; 1 where all were."""
    return 1.0 - lower_limit(total - found, total, confidence)


def best_claim(positives: int, confidence: float) -> float:
    """The highest sensitivity that so many positives can show: all of them found, α^(1/n)."""
    return lower_limit(positives, positives, confidence)


@lru_cache(maxsize=4096)
def allowed_misses(positives: int, sensitivity: float, confidence: float) -> int | None:
    """The most misses among ``positives`` that still show ``sensitivity``; None where not even 0 do.

    ``m`` misses do when P(X ≤ m) ≤ α for X binomial with ``positives`` trials and 1 - sensitivity,
    which is when the lower limit is at or above ``sensitivity``.
    """
    _check(sensitivity, confidence)
    alpha = 1 - confidence
    most = int(stats.binom.ppf(alpha, positives, 1 - sensitivity)) + 1
    for misses in range(most, -1, -1):
        if misses <= positives and _enough(positives, misses, sensitivity, alpha):
            return misses
    return None


def needed(sensitivity: float, confidence: float, misses: int = 0) -> int:
    """The fewest positives that show ``sensitivity`` at ``confidence`` with ``misses`` among them.

    99 % at 95 % takes 299, 473, 628 and 1,049 with 0, 1, 2 and 5 misses. Raises ClaimError for rates
    outside (0, 1), and where more than ten million would be needed.
    """
    _check(sensitivity, confidence)
    if misses < 0:
        raise ClaimError(f"{misses} misses: a number of misses is 0 or more")
    alpha = 1 - confidence
    low, high = misses, max(2 * misses, 1)  # `low` never is enough
    while not _enough(high, misses, sensitivity, alpha):
        low, high = high, 2 * high
        if low > MOST:
            raise ClaimError(
                f"a sensitivity of {exactly(sensitivity)} at {exactly(confidence)} confidence needs more "
                f"than {MOST:,} positives; plan for a lower one"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(middle, misses, sensitivity, alpha) else (middle, high)
    return high


def plan(
    sensitivity: float,
    confidence: float,
    misses: Sequence[int] = (0, 1, 2, 5),
    *,
    expected: float | None = None,
    prevalence: float | None = None,
) -> tuple[Requirement, ...]:
    """One requirement for each allowed number of misses, fewest misses first.

    ``expected`` is the sensitivity the model is thought to have; it must lie above the one to be
    shown, or hardly any study passes. ``prevalence`` is the share of diseased people among those
    examined. Raises ClaimError for what is no rate.
    """
    rows = []
    for allowed in sorted(set(misses)):
        positives = needed(sensitivity, confidence, allowed)
        rows.append(
            Requirement(
                misses=allowed,
                positives=positives,
                limit=lower_limit(positives - allowed, positives, confidence),
                chance=None if expected is None else _chance(positives, allowed, expected),
                to_examine=None if prevalence is None else _to_examine(positives, prevalence),
            )
        )
    return tuple(rows)


def shortfall(positives: int, sensitivity: float, confidence: float, of: str = "") -> str:
    """Why ``positives`` cannot carry a claim, and what could.

    ``112 positives can show at most 97.4 % at 95 % confidence; 299 without a miss are needed for 99 %``
    """
    enough = needed(sensitivity, confidence)
    start = f"{of}: " if of else ""
    can = f"at most {at_most(best_claim(positives, confidence))}" if positives else "nothing"
    return (
        f"{start}{counted(positives, 'positive')} can show {can} at {exactly(confidence)} confidence; "
        f"{enough:,} without a miss are needed for {exactly(sensitivity)}"
    )


def showing(positives: int, confidence: float, misses: Sequence[int] = (0, 1, 2, 5)) -> list[tuple[int, str]]:
    """What ``positives`` show with each number of misses: ``(1, "95.8 %")``, rounded down."""
    _check(0.5, confidence)
    if positives < 1:
        raise ClaimError(f"{positives} positives: there must be at least one to show anything")
    if positives > MOST:
        raise ClaimError(f"{positives:,} positives: no plan means more than {MOST:,}; name fewer")
    if not any(0 <= missed <= positives for missed in misses):
        raise ClaimError(
            f"{counted(positives, 'positive')} and these misses ({', '.join(map(str, misses))}): name a "
            f"number of misses from 0 to {positives:,}"
        )
    return [
        (missed, at_least(lower_limit(positives - missed, positives, confidence)))
        for missed in sorted(set(misses))
        if 0 <= missed <= positives
    ]


def _enough(positives: int, misses: int, sensitivity: float, alpha: float) -> bool:
    """Misses of so many positives reject "less than ``sensitivity``" (a hair is rounding, not evidence)."""
    return float(stats.binom.cdf(misses, positives, 1 - sensitivity)) <= alpha * (1 + 1e-12)


def _chance(positives: int, misses: int, expected: float) -> float:
    _check_rate("the expected sensitivity", expected)
    return float(stats.binom.cdf(misses, positives, 1 - expected))


def _to_examine(positives: int, prevalence: float) -> int:
    _check_rate("a prevalence", prevalence)
    return math.ceil(positives / prevalence - 1e-9)


def _check(sensitivity: float, confidence: float) -> None:
    _check_rate("a sensitivity to be shown", sensitivity)
    _check_rate("a confidence", confidence)


def _check_rate(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise ClaimError(f"{value:g} is not {what}; give a share between 0 and 1, such as 0.95")
