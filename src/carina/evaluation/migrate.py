"""From one model to the next: thresholds are mapped to be compared, and shown anew to be used.

A threshold of the old model means nothing on the scores of the new one, however much better it is. The
mapped threshold (the same share of films below it) says where one would look first; it carries no
promise, and none is written. What is written is what the films of the site show for the new model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.confounding.verdict import Verdict
from carina.errors import ClaimError, OutputError
from carina.evaluation.answers import cached
from carina.evaluation.calibrate import new_films, site_of, warnings_about
from carina.evaluation.conformal import COVERAGE
from carina.evaluation.metrics import disease_probability
from carina.evaluation.people import Scores, people
from carina.evaluation.predictions import Predictions
from carina.evaluation.promises import Held, held
from carina.evaluation.rewrite import beside, check_place, rewrite
from carina.evaluation.selection import ask, truth
from carina.evaluation.wording import at_least, counted, exactly, percent
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import MODEL
from carina.scoring.operating import DEFAULT_SITE, SECTION, OperatingPoint, operating_point, sites
from carina.scoring.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Moved:
    """One operating point: the old one, what it would do if it were carried over, and the new one.

    ``mapped`` is the threshold below which the same share of films lies; ``new`` is None where the films
    cannot show the target for the new model.
    """

    old: OperatingPoint
    carried_over: Held  # the old threshold on the new model's scores
    mapped: float
    new: OperatingPoint | None


@dataclass(frozen=True, slots=True)
class Case:
    """A film that changes side at the highest point that was shown anew."""

    path: str
    truth: str
    diseased: bool
    old_score: float
    new_score: float
    flagged: bool  # by the new model


@dataclass(frozen=True, slots=True)
class Migration:
    """The new bundle with the points that were shown, and what changes. ``cases``: diseased lost first."""

    bundle: Bundle
    name: str
    points: tuple[Moved, ...]
    refused: tuple[str, ...]
    cases: tuple[Case, ...]
    films: int
    warnings: tuple[str, ...]  # gravest first
    verdict: Verdict  # on the films: no point is shown without it
    old_scores: Scores  # (films,), of those that both models scored
    new_scores: Scores
    diseased: NDArray[np.bool_]

    @property
    def top(self) -> Moved:
        """The highest point that was shown anew; there is one."""
        return max((each for each in self.points if each.new is not None), key=lambda each: each.old.target)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows, one for each point."""
        head = ("target", "old threshold", "kept as it is", "mapped", "shown anew", "at least", "specificity")
        return head, [
            (
                exactly(each.old.target),
                f"{each.old.threshold:.6f}",
                _as_it_is(each.carried_over),
                f"{each.mapped:.6f}",
                "refused" if each.new is None else f"{each.new.threshold:.6f}",
                "–" if each.new is None else at_least(each.new.sensitivity.limit),
                "–" if each.new is None else percent(each.new.specificity.value),
            )
            for each in self.points
        ]

    def lines(self) -> list[str]:
        """What changes, in words."""
        lost = sum(case.diseased and not case.flagged for case in self.cases)
        gained = sum(case.diseased and case.flagged for case in self.cases)
        alarms = sum(not case.diseased and case.flagged for case in self.cases)
        spared = sum(not case.diseased and not case.flagged for case in self.cases)
        changes = (
            f"{counted(len(self.cases), 'film')} of {self.films:,} change side at the "
            f"{exactly(self.top.old.target)} point: {lost:,} diseased films are "
            f"no longer flagged, {gained:,} newly are; {alarms:,} healthy films newly are, {spared:,} no "
            "longer."
        )
        not_carried = (
            "The old threshold was not carried over: the points written are those that these films show for "
            "the new model."
        )
        return [changes, not_carried]

    def changed(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows, one for each film that changes side."""
        head = ("film", "truth", "old score", "new score", "now")
        return head, [
            (
                case.path,
                case.truth,
                f"{case.old_score:.4f}",
                f"{case.new_score:.4f}",
                "flagged" if case.flagged else "not flagged",
            )
            for case in self.cases
        ]


def migrate(
    old: Bundle | str | os.PathLike[str],
    new: Bundle | str | os.PathLike[str],
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    site: str = DEFAULT_SITE,
    split: str = "valid",
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Migration:
    """Show the operating points of ``site`` anew for the model ``new``, on films new to it.

    Writes ``new`` with them at ``out`` (``NEW-SITE`` beside it by default). Prediction sets keep the coverage
    that they had. Raises ``ClaimError`` where the old bundle has no such site, the
    two are one model or do not mean the same by their classes, the films are not new to the new model,
    or cannot carry any of its targets; ``OutputError`` and what opening raises.
    """
    old = old if isinstance(old, Bundle) else Bundle.open(old)
    new = new if isinstance(new, Bundle) else Bundle.open(new)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    _check_pair(old, new, site)
    out = Path(out) if out is not None else beside(new, site)
    if out.resolve() == old.root.resolve():
        raise OutputError(f"{out}: is the bundle in use; name another folder with --out")
    check_place(new, out, site)
    films, known = new_films(new, catalogue, split)
    before, after = (
        ask(films, truth(films, each, catalogue), Scorer(each), cached(catalogue, each.preparation), progress)
        for each in (old, new)
    )
    was = sites(old)[site]
    points = was.points
    shown, refused = site_of(
        new, catalogue, after,
        targets=[each.target for each in points], confidence=max(each.confidence for each in points),
        per_class=any(each.per_class for each in points), split=split, seed=seed,
        coverage=COVERAGE if was.sets is None else was.sets.coverage,
    )  # fmt: skip
    anew = {each.target: each for each in shown.points}
    both = np.intersect1d(before.scored, after.scored)
    then, now = (_scores(each)[both] for each in (before, after))
    moved = tuple(
        Moved(
            old=point,
            carried_over=held(point, people(after)),
            mapped=_above(now, int((then < point.threshold).sum())),
            new=anew.get(point.target),
        )
        for point in points
    )
    section = {name: each.model_dump(mode="json") for name, each in {**sites(new), site: shown}.items()}
    written = rewrite(new, out, {SECTION: section})
    done = Migration(
        bundle=written,
        name=site,
        points=moved,
        refused=refused,
        cases=(),
        films=len(both),
        warnings=warnings_about(new, shown, known),
        verdict=verdict_on(catalogue),
        old_scores=then,
        new_scores=now,
        diseased=after.sick[after.labels[both]],
    )
    return replace(done, cases=_cases(after, both, then, now, done.top))


def _above(scores: Scores, below: int) -> float:
    """The threshold with just so many of the scores (N,) below it, as far as equal ones allow."""
    ordered = np.sort(scores)
    return float(ordered[below] if below < len(ordered) else np.nextafter(ordered[-1], 2))


def _as_it_is(carried_over: Held) -> str:
    """What the old threshold would do on the new scores."""
    found, spared = carried_over.sensitivity.value, carried_over.specificity.value
    useless = "; no better than drawing lots" if carried_over.useless else ""
    return f"finds {percent(found)}, spares {percent(spared)}: {carried_over.verdict}{useless}"


def _check_pair(old: Bundle, new: Bundle, site: str) -> None:
    operating_point(old, site)
    if old.manifest.files[MODEL] == new.manifest.files[MODEL]:
        raise ClaimError(f"{new.root}: the same model as {old.root}; there is nothing to migrate")
    if set(old.classes) != set(new.classes) or old.healthy != new.healthy:
        raise ClaimError(
            f"{new.root}: its classes ({', '.join(new.classes)}) are not those of {old.root} "
            f"({', '.join(old.classes)}); calibrate it as a model of its own"
        )


def _scores(predictions: Predictions) -> NDArray[np.float64]:
    """p_disease of all films, (N,), NaN where refused."""
    return disease_probability(predictions.probabilities, predictions.sick)


def _cases(
    predictions: Predictions, rows: NDArray[np.int64], then: Scores, now: Scores, at: Moved
) -> tuple[Case, ...]:
    if at.new is None:
        return ()
    was, is_ = then >= at.old.threshold, now >= at.new.threshold
    paths = predictions.column("path")
    found = [
        Case(
            path=paths[row],
            truth=predictions.classes[predictions.labels[row]],
            diseased=bool(predictions.sick[predictions.labels[row]]),
            old_score=float(then[index]),
            new_score=float(now[index]),
            flagged=bool(is_[index]),
        )
        for index, row in enumerate(rows.tolist())
        if was[index] != is_[index]
    ]
    return tuple(
        sorted(found, key=lambda case: (not case.diseased or case.flagged, case.new_score, case.path))
    )
