"""What ``carina bayes`` answers: words and a table for one question about one patient.

Takes the question as it was typed, chooses what applies (tests that err independently, tests that err
together, one film asked twice), and says what was assumed. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log10
from pathlib import Path

from carina.errors import ClaimError
from carina.evaluation import curves
from carina.evaluation.bayes import Estimate, Share, Step, Test, posterior, share
from carina.evaluation.curves import Curve
from carina.evaluation.dependence import (
    Joint,
    Pairs,
    by_covariance,
    by_share,
    combine,
    counted,
    read_pairs,
)
from carina.evaluation.wording import chance

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
_MOST_CURVES = 4  # of the last results
ENOUGH_ERRORS = 5  # of each test: with fewer, the share of the largest covariance is that of the prior
_CHOOSE = "choose one of --paired, --dependence, --covariance and --same-film"


@dataclass(frozen=True, slots=True)
class Answer:
    """The probability of disease (after what, how much), and what must be read with it.

    The first row is before any result, the last is the answer. ``curves`` say the same at every prevalence;
    ``tests`` are the rates that went in, one for all results or one each.
    """

    results: str
    prevalence: Share
    tests: tuple[Test, ...]
    rows: tuple[tuple[str, Estimate], ...]
    lines: tuple[str, ...]
    curves: tuple[Curve, ...]

    @property
    def table(self) -> Table:
        """Columns and rows; the interval stands there where anything is uncertain."""
        uncertain = any(estimate.low is not None for _, estimate in self.rows)
        columns = ("results", "probability of disease", *(("95 % credible interval",) if uncertain else ()))
        return columns, [
            (name, chance(each.value), *((interval(each),) if uncertain else ())) for name, each in self.rows
        ]


def answer(
    prevalence: str,
    results: str,
    sensitivity: Sequence[str],
    specificity: Sequence[str],
    *,
    paired: Path | None = None,
    dependence: float | None = None,
    covariance: str | None = None,
    same_film: bool = False,
    seed: int = 0,
) -> Answer:
    """Answer the question as typed. Raises ClaimError for what makes no sense."""
    before = share(prevalence, "the prevalence")
    if sum((paired is not None, dependence is not None, covariance is not None, same_film)) > 1:
        raise ClaimError(f"tests depend on each other in one way; {_CHOOSE}")
    if paired is not None:
        if sensitivity or specificity:
            raise ClaimError("the pairs tell the rates; leave out --sensitivity and --specificity")
        return _counted(before, read_pairs(paired), results, seed)
    tests = _tests(sensitivity, specificity)
    if dependence is None and covariance is None:
        return _apart(before, tests, results, seed, same_film=same_film)
    first, second = _two(tests)
    if dependence is not None:
        built = by_share(first, second, dependence, seed=seed)
    else:
        built = by_covariance(first, second, *_pair(covariance or ""), seed=seed)
    return _together(before, tests, built, results, seed)


def interval(estimate: Estimate) -> str:
    """``2.8 % to 8.3 %``, or that nothing is uncertain about it."""
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return "known"
    return f"{chance(estimate.low)} to {chance(estimate.high)}"


def _apart(before: Share, tests: tuple[Test, ...], results: str, seed: int, *, same_film: bool) -> Answer:
    steps = posterior(before, tests, results, seed=seed)
    if same_film:
        if len(tests) > 1:
            raise ClaimError("one film by one model is one test; give --sensitivity and --specificity once")
        if len(set(results)) > 1:
            raise ClaimError(f"{results!r}: one film by one model always gives the same result")
        steps = steps[:2]
    drawn = [step.results for step in steps[1:]][-_MOST_CURVES:]
    return Answer(
        results=results,
        prevalence=before,
        tests=tests,
        rows=tuple((step.results or "none", step.probability) for step in steps),
        lines=_assumed(steps, tests, results, same_film=same_film),
        curves=tuple(curves.apart(f"after {each}", tests, each, seed=seed) for each in drawn),
    )


def _counted(before: Share, pairs: Pairs, results: str, seed: int) -> Answer:
    """What pairs of results tell, that were counted on people who had both tests."""
    (a, b, c, d), (e, f, g, h) = pairs.ill, pairs.well
    ill, well = a + b + c + d, e + f + g + h
    few = tuple(errors < ENOUGH_ERRORS for errors in pairs.fewest_errors)
    joint = counted(pairs, seed=seed)
    tests = tuple(
        Test(_share(found, ill), _share(spared, well)) for found, spared in ((a + b, g + h), (a + c, f + h))
    )
    said = (
        f"Counted on {ill:,} diseased and {well:,} healthy people: the first test finds {a + b:,} of {ill:,} "
        f"and spares {g + h:,} of {well:,}, the second finds {a + c:,} and spares {f + h:,}."
    )
    found = _together(before, tests, joint, results, seed, few=(few[0], few[1]))
    return replace(found, lines=(said, *found.lines))


def _share(hits: int, total: int) -> Share:
    return Share(f"{hits}/{total}", hits / total, hits, total)


def _assumed(
    steps: Sequence[Step], tests: Sequence[Test], results: str, *, same_film: bool
) -> tuple[str, ...]:
    """What a reader must know of several results."""
    if len(results) == 1:
        return ()
    if same_film:
        said = f"The same film {len(results)} times through the same model is one result: nothing is added."
        return (said,)
    independent = "These results count as independent: each test errs for reasons of its own."
    if len(tests) > 1 or len(set(results)) > 1:
        return (independent,)
    once, repeated = steps[1].probability.value, steps[-1].probability.value
    again = f"that would be {chance(once)}, not {chance(repeated)}"
    return independent, f"The same film through the same model again adds nothing: {again}."


def _together(
    before: Share,
    tests: tuple[Test, ...],
    joint: Joint,
    results: str,
    seed: int,
    *,
    few: tuple[bool, bool] = (False, False),
) -> Answer:
    """``few``: so few errors were counted among the diseased, the healthy, that no share can be told."""
    found = combine(before, joint, results, seed=seed)
    points, ends = 100 * found.overstated.value, (found.overstated.low, found.overstated.high)
    verb, sign = ("overstates", 1) if points >= 0 else ("understates", -1)
    digits = 1 if abs(points) >= 0.95 or not points else 1 - floor(log10(abs(points)))
    spread = ""
    if ends[0] is not None and ends[1] is not None:
        low, high = sorted(100 * sign * end for end in ends if end is not None)
        spread = f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
    naively = (
        f"Multiplying the two as if independent {verb} the chance of disease by {abs(points):.{digits}f} "
        "points"
    )
    times = found.joint.value / found.naive.value if sign < 0 and found.naive.value > 0 else 1.0
    more = f"; the chance is {times:.1f} times what multiplying says" if times >= 1.05 else ""
    return Answer(
        results=results,
        prevalence=before,
        tests=tests,
        rows=(
            ("none", found.before),
            (f"{results}, as if independent", found.naive),
            (f"{results}, with their dependence", found.joint),
        ),
        lines=(
            f"{naively}{spread}{more}.",
            _dependence_said("diseased", found.covariance_ill, found.dependence_ill, few=few[0]),
            _dependence_said("healthy", found.covariance_well, found.dependence_well, few=few[1]),
        ),
        curves=curves.together(joint, results),
    )


def _dependence_said(whom: str, covariance: Estimate, dependence: Estimate, *, few: bool) -> str:
    spread = ""
    if covariance.low is not None and covariance.high is not None:
        spread = f", 95 % interval {covariance.low:.4f} to {covariance.high:.4f}"
    said = f"Among the {whom}: conditional covariance {covariance.value:.4f}{spread}; "
    if few:
        return (
            f"{said}a test errs fewer than {ENOUGH_ERRORS} times, too few to tell how far both err together."
        )
    if dependence.value < 0:
        return f"{said}they err apart, {-100 * dependence.value:.0f} % of as far as these rates allow."
    return f"{said}{100 * dependence.value:.0f} % of the largest these rates allow."


def _tests(sensitivity: Sequence[str], specificity: Sequence[str]) -> tuple[Test, ...]:
    if not sensitivity or len(sensitivity) != len(specificity):
        raise ClaimError(
            f"{len(sensitivity)} sensitivities and {len(specificity)} specificities; give both for each test"
        )
    return tuple(
        Test(share(one, "a sensitivity"), share(other, "a specificity"))
        for one, other in zip(sensitivity, specificity, strict=True)
    )


def _two(tests: Sequence[Test]) -> tuple[Test, Test]:
    if len(tests) > 2:
        raise ClaimError("dependence is known for two tests; leave out the others")
    return tests[0], tests[-1]


def _pair(text: str) -> tuple[float, float]:
    try:
        ill, well = (float(word) for word in text.split(","))
    except ValueError:
        raise ClaimError(f"{text!r} is no pair of covariances; write ILL,WELL such as 0.03,0.05") from None
    return ill, well
