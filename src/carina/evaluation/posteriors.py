"""What ``carina bayes`` answers: words and a table for one question about one patient.

Takes the question as it was typed, chooses what applies (tests that err independently, tests that err
together, one film asked twice), and says what was assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carina.errors import ClaimError, OutputError
from carina.evaluation.bayes import Estimate, Share, Step, Test, posterior, share
from carina.evaluation.dependence import (
    CELLS,
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
_GRID = np.geomspace(0.001, 0.9, 120)  # prevalences of a chart
ENOUGH_ERRORS = 5  # of each test: with fewer, the share of the largest covariance is that of the prior
_CHOOSE = "choose one of --paired, --dependence, --covariance and --same-film"


@dataclass(frozen=True, slots=True)
class Answer:
    """A table (columns, rows) and what must be read with it."""

    table: Table
    lines: tuple[str, ...]


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
    chart: Path | None = None,
    seed: int = 0,
) -> Answer:
    """Answer the question as typed. Raises ClaimError for what makes no sense, OutputError for the chart."""
    before = share(prevalence, "the prevalence")
    if sum((paired is not None, dependence is not None, covariance is not None, same_film)) > 1:
        raise ClaimError(f"tests depend on each other in one way; {_CHOOSE}")
    if paired is not None:
        if sensitivity or specificity:
            raise ClaimError("the pairs tell the rates; leave out --sensitivity and --specificity")
        pairs = read_pairs(paired)
        few = tuple(errors < ENOUGH_ERRORS for errors in pairs.fewest_errors)
        said, joint = _together(before, counted(pairs, seed=seed), results, seed, few=(few[0], few[1]))
        said = Answer(said.table, (*_rates_said(pairs), *said.lines))
    elif dependence is not None or covariance is not None:
        first, second = _two(_tests(sensitivity, specificity))
        if dependence is not None:
            built = by_share(first, second, dependence, seed=seed)
        else:
            built = by_covariance(first, second, *_pair(covariance or ""), seed=seed)
        said, joint = _together(before, built, results, seed)
    else:
        tests = _tests(sensitivity, specificity)
        said, joint = _apart(before, tests, results, seed, same_film=same_film), None
        if chart is not None:
            _draw(chart, [(f"after {results[: n + 1]}", _curve(tests, results[: n + 1]), False)
                          for n in range(1 if same_film else len(results))], before)  # fmt: skip
    if joint is not None and chart is not None:
        cell = CELLS.index(results)
        curves = [
            (f"{results}, as if independent", _ratio(*(_product(s, results) for s in joint)), True),
            (f"{results}, with their dependence", _ratio(*(float(s[cell]) for s in joint)), False),
        ]
        _draw(chart, curves, before)
    return said


def _apart(before: Share, tests: Sequence[Test], results: str, seed: int, *, same_film: bool) -> Answer:
    steps = posterior(before, tests, results, seed=seed)
    if same_film:
        if len(tests) > 1:
            raise ClaimError("one film by one model is one test; give --sensitivity and --specificity once")
        if len(set(results)) > 1:
            raise ClaimError(f"{results!r}: one film by one model always gives the same result")
        steps = steps[:2]
    rows = [(step.results or "none", step.probability) for step in steps]
    return Answer(_table("results", rows), _assumed(steps, tests, results, same_film=same_film))


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
    before: Share, joint: Joint, results: str, seed: int, *, few: tuple[bool, bool] = (False, False)
) -> tuple[Answer, tuple[np.ndarray, ...]]:
    """``few``: so few errors were counted among the diseased, the healthy, that no share can be told."""
    found = combine(before, joint, results, seed=seed)
    rows = [
        ("none", found.before),
        (f"{results}, as if independent", found.naive),
        (f"{results}, with their dependence", found.joint),
    ]
    points = 100 * found.overstated.value
    verb = "overstates" if points >= 0 else "understates"
    spread = ""
    if found.overstated.low is not None and found.overstated.high is not None:
        spread = f" (95 % interval {100 * found.overstated.low:.1f} to {100 * found.overstated.high:.1f})"
    naively = (
        f"Multiplying the two as if independent {verb} the chance of disease by {abs(points):.1f} points"
    )
    lines = (
        f"{naively}{spread}.",
        _dependence_said("diseased", found.covariance_ill, found.dependence_ill, few=few[0]),
        _dependence_said("healthy", found.covariance_well, found.dependence_well, few=few[1]),
    )
    return Answer(_table("results", rows), lines), (joint.ill.mean(axis=0), joint.well.mean(axis=0))


def _table(head: str, rows: Sequence[tuple[str, Estimate]]) -> Table:
    interval = any(estimate.low is not None for _, estimate in rows)
    columns = (head, "probability of disease", *(("95 % credible interval",) if interval else ()))
    return columns, [
        (name, chance(each.value), *((_interval(each),) if interval else ())) for name, each in rows
    ]


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return "known"
    return f"{chance(estimate.low)} to {chance(estimate.high)}"


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


def _rates_said(pairs: Pairs) -> tuple[str, ...]:
    (a, b, c, d), (e, f, g, h) = pairs.ill, pairs.well
    ill, well = a + b + c + d, e + f + g + h
    said = (
        f"Counted on {ill:,} diseased and {well:,} healthy people: the first test finds {a + b:,} of {ill:,} "
        f"and spares {g + h:,} of {well:,}, the second finds {a + c:,} and spares {f + h:,}."
    )
    return (said,)


def _tests(sensitivity: Sequence[str], specificity: Sequence[str]) -> list[Test]:
    if not sensitivity or len(sensitivity) != len(specificity):
        raise ClaimError(
            f"{len(sensitivity)} sensitivities and {len(specificity)} specificities; give both for each test"
        )
    return [
        Test(share(one, "a sensitivity"), share(other, "a specificity"))
        for one, other in zip(sensitivity, specificity, strict=True)
    ]


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


def _curve(tests: Sequence[Test], results: str) -> np.ndarray:
    """The probability of disease at each prevalence of the grid, at the rates' own values."""
    ill = well = 1.0
    for place, result in enumerate(results):
        test = tests[place % len(tests)]
        ill *= test.sensitivity.value if result == "+" else 1 - test.sensitivity.value
        well *= 1 - test.specificity.value if result == "+" else test.specificity.value
    return _ratio(ill, well)


def _ratio(ill: float, well: float) -> np.ndarray:
    return np.asarray(_GRID * ill / (_GRID * ill + (1 - _GRID) * well))


def _product(cells: np.ndarray, results: str) -> float:
    first, second = float(cells[0] + cells[1]), float(cells[0] + cells[2])
    return (first if results[0] == "+" else 1 - first) * (second if results[1] == "+" else 1 - second)


def _draw(path: Path, curves: Sequence[tuple[str, np.ndarray, bool]], before: Share) -> None:
    from carina.evaluation.claim_figures import posterior_curves

    try:
        path.write_bytes(posterior_curves(_GRID, curves, before.value))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another file") from error
