"""Two tests that err together: what both results mean, and how far multiplying them overstates it.

Pure. The joint distribution of two results has four cells among the diseased and four among the
healthy. It is either built from the two tests and their conditional covariances (see
:mod:`carina.evaluation.bayes`), or counted on people who had both tests: then its posterior is a
Dirichlet distribution under Jeffreys' prior, and the covariances follow from it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carina.errors import ClaimError
from carina.evaluation.bayes import DRAWS, Draws, Estimate, Share, Test

CELLS = ("++", "+-", "-+", "--")
_YES = frozenset({"1", "+", "pos", "positive", "yes", "true", "ill", "diseased"})
_NO = frozenset({"0", "-", "neg", "negative", "no", "false", "well", "healthy"})


@dataclass(frozen=True, slots=True)
class Joint:
    """Chances of the four ``CELLS``, (draws, 4) each, rows sum to 1; ``exact`` when all rows are equal."""

    ill: Draws
    well: Draws
    exact: bool


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many people had each pair of results, in the order of ``CELLS``."""

    ill: tuple[int, int, int, int]
    well: tuple[int, int, int, int]

    @property
    def fewest_errors(self) -> tuple[int, int]:
        """Errors of the test that errs least, among the diseased and among the healthy."""
        (_, b, c, d), (e, f, g, _) = self.ill, self.well
        return min(c + d, b + d), min(e + f, e + g)


@dataclass(frozen=True, slots=True)
class Combined:
    """Two results together. ``naive`` multiplies as if the tests erred independently.

    ``covariance_ill`` and ``covariance_well`` are c_ill and c_well; ``dependence_ill`` and
    ``dependence_well`` are their shares of the largest that the rates allow (1: as one and the same
    test where the rates are equal), and below 0, where they err apart, of the smallest (-1).
    """

    results: str
    before: Estimate
    naive: Estimate
    joint: Estimate
    overstated: Estimate  # naive minus joint
    covariance_ill: Estimate
    covariance_well: Estimate
    dependence_ill: Estimate
    dependence_well: Estimate


def by_share(first: Test, second: Test, dependence: float, *, seed: int = 0) -> Joint:
    """Tests whose covariances are this share, 0 to 1, of the largest possible."""
    if not 0 <= dependence <= 1:
        raise ClaimError(
            f"a dependence of {dependence:g}: 0 is independent, 1 as dependent as can be; give one between"
        )
    return _built(first, second, seed, share=dependence)


def by_covariance(first: Test, second: Test, ill: float, well: float, *, seed: int = 0) -> Joint:
    """Tests with these conditional covariances; raises ClaimError where the rates do not allow them."""
    for c, one, two, whom in (
        (ill, first.sensitivity.value, second.sensitivity.value, "diseased"),
        (well, first.specificity.value, second.specificity.value, "healthy"),
    ):
        low, high = _bounds(np.array([one]), np.array([two]))
        if not low[0] - 1e-12 <= c <= high[0] + 1e-12:
            raise ClaimError(
                f"a covariance of {c:g} among the {whom}: these rates allow {low[0]:.4f} to {high[0]:.4f}"
            )
    return _built(first, second, seed, fixed=(ill, well))


def counted(pairs: Pairs, *, seed: int = 0) -> Joint:
    """What the counted pairs are compatible with."""
    if not sum(pairs.ill) or not sum(pairs.well):
        raise ClaimError("pairs of results are needed of diseased and of healthy people; one side has none")
    rng = np.random.default_rng(seed)
    ill, well = (rng.dirichlet(np.array(counts) + 0.5, size=DRAWS) for counts in (pairs.ill, pairs.well))
    return Joint(ill, well, exact=False)


def combine(prevalence: Share, joint: Joint, results: str, *, seed: int = 0) -> Combined:
    """What the two ``results`` (such as ``+-``) mean at ``prevalence``, together and as if independent."""
    if results not in CELLS:
        raise ClaimError(f"{results!r}: dependence is known for two results, one of {', '.join(CELLS)}")
    before = prevalence.draw(np.random.default_rng(seed + 1), DRAWS)
    exact = joint.exact and not prevalence.counted
    cell = CELLS.index(results)
    together = _posterior(before, joint.ill[:, cell], joint.well[:, cell])
    apart = _posterior(before, product(joint.ill, results), product(joint.well, results))
    covariance_ill, dependence_ill = _covariance(joint.ill)
    covariance_well, dependence_well = _covariance(joint.well)
    return Combined(
        results=results,
        before=Estimate.of(before, exact=not prevalence.counted),
        naive=Estimate.of(apart, exact=exact),
        joint=Estimate.of(together, exact=exact),
        overstated=Estimate.of(apart - together, exact=exact),
        covariance_ill=Estimate.of(covariance_ill, exact=joint.exact),
        covariance_well=Estimate.of(covariance_well, exact=joint.exact),
        dependence_ill=Estimate.of(dependence_ill, exact=joint.exact),
        dependence_well=Estimate.of(dependence_well, exact=joint.exact),
    )


def read_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Count a CSV with the columns ``truth``, ``first`` and ``second``, one person a row.

    A column ``people`` may say how many persons a row stands for. Cells say 1/0, +/-, yes/no,
    true/false, positive/negative or diseased/healthy. Raises ClaimError naming the row for anything
    else.
    """
    path = Path(path)
    counts = {"ill": [0, 0, 0, 0], "well": [0, 0, 0, 0]}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in ("truth", "first", "second") if name not in (rows.fieldnames or ())]
            if missing:
                raise ClaimError(f"{path}: no column {missing[0]!r}; the columns are truth, first, second")
            for row in rows:
                ill, first, second = (
                    _answer(path, rows.line_num, row[name]) for name in ("truth", "first", "second")
                )
                many = _people(path, rows.line_num, row.get("people"))
                counts["ill" if ill else "well"][2 * (not first) + (not second)] += many
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fault = getattr(error, "strerror", None) or error
        raise ClaimError(f"{path}: cannot be read ({fault}); name a CSV file") from error
    (a, b, c, d), (e, f, g, h) = counts["ill"], counts["well"]
    return Pairs((a, b, c, d), (e, f, g, h))


def _answer(path: Path, line: int, cell: str | None) -> bool:
    word = (cell or "").strip().lower()
    if word not in _YES | _NO:
        raise ClaimError(f"{path}: line {line}: {cell!r} is no answer; write 1 or 0")
    return word in _YES


def _people(path: Path, line: int, cell: str | None) -> int:
    if cell is None:
        return 1
    if not cell.strip().isdecimal():
        raise ClaimError(f"{path}: line {line}: {cell!r} is no number of people")
    return int(cell)


def _built(
    first: Test,
    second: Test,
    seed: int,
    *,
    share: float | None = None,
    fixed: tuple[float, float] = (0.0, 0.0),
) -> Joint:
    rng = np.random.default_rng(seed)
    same = first is second  # one test twice has the same unknown rates both times
    sides = []
    for number, (one, two) in enumerate(
        (
            (first.sensitivity, second.sensitivity),
            (first.specificity.complement(), second.specificity.complement()),
        )
    ):
        a = one.draw(rng, DRAWS)
        b = a if same else two.draw(rng, DRAWS)
        low, high = _bounds(a, b)
        c = share * high if share is not None else np.clip(fixed[number], low, high)
        cells = np.column_stack([a * b + c, a * (1 - b) - c, (1 - a) * b - c, (1 - a) * (1 - b) + c])
        sides.append(np.clip(cells, 0.0, 1.0))  # rounding may leave -1e-17
    known = not any(rate.counted for test in (first, second) for rate in (test.sensitivity, test.specificity))
    return Joint(sides[0], sides[1], exact=known)


def _bounds(a: Draws, b: Draws) -> tuple[Draws, Draws]:
    """The smallest and the largest covariance of two events with these chances."""
    return -np.minimum(a * b, (1 - a) * (1 - b)), np.minimum(a * (1 - b), b * (1 - a))


def product(cells: Draws, results: str) -> Draws:
    """The chance of ``results`` if the two were independent: the product of the margins, (draws,)."""
    first, second = cells[:, 0] + cells[:, 1], cells[:, 0] + cells[:, 2]
    product: Draws = (first if results[0] == "+" else 1 - first) * (
        second if results[1] == "+" else 1 - second
    )
    return product


def _covariance(cells: Draws) -> tuple[Draws, Draws]:
    """The covariance, and its share of the largest (or, below 0, smallest) that these margins allow."""
    first, second = cells[:, 0] + cells[:, 1], cells[:, 0] + cells[:, 2]
    c = cells[:, 0] - first * second
    low, high = _bounds(first, second)
    most = np.where(c < 0, -low, high)
    return c, np.divide(c, most, out=np.zeros_like(c), where=most > 1e-15)


def _posterior(before: Draws, ill: Draws, well: Draws) -> Draws:
    both = before * ill + (1 - before) * well
    if not (both > 1e-300).all():
        raise ClaimError("such results cannot happen: two results of one film by one model are the same")
    part: Draws = before * ill / both
    return part
