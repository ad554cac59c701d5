"""Find the operating points of a bundle on one site's films, and write them into the bundle.

A bundle is never changed in place by halves: a new one is written with the same files and one more
section in its manifest, verified, and put where ``out`` says. So a threshold cannot be parted from its
model, and every file of the model is still under its hash. Films the model was trained on, their near
copies and their patients are no witnesses; with one of them among the films there is no calibration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

import carina
from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.confounding.verdict import Verdict
from carina.errors import ClaimError, MissingExtra
from carina.evaluation.answers import cached
from carina.evaluation.contamination import Contamination
from carina.evaluation.rewrite import beside, check_place, rewrite
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import MODEL
from carina.scoring.operating import (
    DEFAULT_SITE,
    SECTION,
    Believed,
    Corrected,
    Fit,
    OperatingPoint,
    Site,
    Watch,
    sites,
)
from carina.scoring.scorer import Scorer

try:
    from carina.evaluation import conformal
    from carina.evaluation.bayes import Estimate, Share, Test, predictive_values
    from carina.evaluation.calibration import Reliability, correct
    from carina.evaluation.people import Scores, people, persons_of
    from carina.evaluation.predictions import Predictions
    from carina.evaluation.selection import ALL, ask, known_films, side, trained_on_them, truth
    from carina.evaluation.thresholds import points
    from carina.evaluation.wording import METHODS, at_least, chance, counted, exactly, listed, percent
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise MissingExtra("carina calibrate", "report") from error


REMEMBERED = 500  # scores of the calibration films that the bundle keeps
ENOUGH = 20  # people on each side: with fewer, no map of probabilities is learnt


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was shown, and the bundle that now carries it. ``refused`` says which targets were not."""

    bundle: Bundle
    name: str
    site: Site
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    verdict: Verdict  # on the films: no point is shown without it

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows, one for each point."""
        head = ("target", "threshold", "at least", "people found", "specificity", "films below")
        return head, [
            (
                exactly(point.target),
                f"{point.threshold:.6f}",
                at_least(point.sensitivity.limit),
                f"{point.sensitivity.found:,} of {point.sensitivity.people:,}",
                _specificity(point),
                percent(point.share_below),
            )
            for point in self.site.points
        ]

    def classes(self, point: OperatingPoint) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows, one for each disease; the worst first."""
        return ("disease", "recall", "people found", "at least"), [
            (
                name,
                percent(recall.value),
                f"{recall.found:,} of {recall.people:,}",
                at_least(recall.limit) if recall.people else "nothing is known",
            )
            for name, recall in point.classes.items()
        ]

    def at_prevalence(self, prevalence: Share) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows: what a flag and its absence mean where this share of people is diseased."""
        head = ("target", "flagged and diseased (PPV)", "unflagged and well (NPV)", "people unflagged")
        return head, [(exactly(point.target), *_values(point, prevalence)) for point in self.site.points]

    def probabilities(self) -> tuple[str, ...]:
        """What became of the probabilities, in words."""
        corrected = self.site.corrected
        if corrected is None:
            few = f"fewer than {ENOUGH} diseased or healthy people"
            return (f"Probabilities are left as they are: {few} to learn a correction from.",)
        before, after = corrected.before, corrected.after
        said = (
            f"Probabilities, corrected by {METHODS[corrected.map.method]}, on people it was not fitted on: "
            f"calibration error {before.ece:.3f} → {after.ece:.3f} (chance alone stays below "
            f"{after.ece_by_chance:.3f}), Brier score {before.brier:.3f} → {after.brier:.3f}, "
            f"log loss {before.log_loss:.3f} → {after.log_loss:.3f}."
        )
        return (said,)


def calibrate(
    bundle: Bundle | str | os.PathLike[str],
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    targets: Sequence[float],
    out: str | os.PathLike[str] | None = None,
    confidence: float = 0.95,
    per_class: bool = False,
    site: str = DEFAULT_SITE,
    split: str = "valid",
    coverage: float = 0.9,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Choose thresholds on the films of ``split`` and write the bundle with them at ``out``.

    ``out`` is ``BUNDLE-SITE`` beside the bundle by default. With ``split="all"`` every film of the
    catalogue counts that is new to the model. ``targets`` are sensitivities to be shown, each at
    ``confidence``; with ``per_class`` for every disease by itself. Points of other sites are kept, an
    older calibration of the same ``site`` is replaced. The same films give the correction of the
    probabilities (``seed`` is that of its folds and draws) and prediction sets that hold each class
    with a probability of ``coverage``. Raises ``ClaimError`` where the films cannot carry any target or
    are not new to the model, ``BundleError``, ``CatalogueError`` and ``DataError`` for what cannot be
    opened or does not fit together, and ``OutputError`` when the bundle cannot be written.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    _check_site(bundle, site)
    out = Path(out) if out is not None else beside(bundle, site)
    check_place(bundle, out, site)
    films, known = new_films(bundle, catalogue, split)
    labels = truth(films, bundle, catalogue)
    predictions = ask(films, labels, Scorer(bundle), cached(catalogue, bundle.preparation), progress)
    shown, refused = site_of(
        bundle, catalogue, predictions,
        targets=targets, confidence=confidence, per_class=per_class, split=split, coverage=coverage,
        seed=seed,
    )  # fmt: skip
    section = {name: each.model_dump(mode="json") for name, each in {**sites(bundle), site: shown}.items()}
    written = rewrite(bundle, out, {SECTION: section})
    warnings = warnings_about(bundle, shown, known)
    return Calibration(written, site, shown, refused, warnings, verdict_on(catalogue))


def site_of(
    bundle: Bundle,
    catalogue: Catalogue,
    predictions: Predictions,
    *,
    targets: Sequence[float],
    confidence: float,
    per_class: bool,
    split: str,
    coverage: float = conformal.COVERAGE,
    seed: int = 0,
) -> tuple[Site, tuple[str, ...]]:
    """What these films show of a site, and why not what they cannot; ``ClaimError`` where it is nothing."""
    believed = verdict_on(catalogue)
    found, refused = points(people(predictions), tuple(targets), confidence, per_class=per_class)
    shown = Site(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        carina=carina.__version__,
        model=bundle.manifest.files[MODEL],
        catalogue=catalogue.fingerprint,
        split=split,
        films=len(predictions.scored),
        refused=len(predictions.refused) - len(predictions.scored),
        sources=tuple(sorted(set(predictions.column("source")))),
        points=found,
        corrected=_corrected(predictions, seed),
        sets=conformal.choose(predictions, coverage),
        watch=_watch(predictions),
        chosen_on=tuple(sorted(predictions.column("image_id"))),
        verdict=Believed(grade=believed.grade, sentence=believed.sentence),
    )
    return shown, refused


def new_films(bundle: Bundle, catalogue: Catalogue, split: str) -> tuple[pa.Table, Contamination]:
    """The films of ``split`` that are witnesses, and how many of the side are not new to the bundle.

    Of ``all`` films those are left out that are not new, as far as it can be told; a side that has such
    films, or nothing else, is a ``ClaimError``.
    """
    films = side(catalogue, split)
    known = known_films(films, bundle, catalogue)
    if known.known and (split != ALL or known.known == known.films):
        raise ClaimError(
            f"{catalogue.root}: {known.known:,} of {counted(known.films, 'film')} ({split}) are not new to "
            "this bundle: it was trained on them, their near copies or their patients, and would promise too "
            "much; calibrate on films of other patients"
        )
    if known.known:
        films = films.filter(pa.array(~trained_on_them(films, bundle, catalogue)))
    return films, known


def _check_site(bundle: Bundle, site: str) -> None:
    if not site.strip() or not site.isprintable():
        raise ClaimError(f"{site!r} is no name of a site; name the hospital, such as --site north")
    sites(bundle)  # a section that cannot be read is found before an hour of scoring


def warnings_about(bundle: Bundle, site: Site, known: Contamination) -> tuple[str, ...]:
    """What must be known before a figure is believed, gravest first."""
    found = []
    if known.same_film is None:
        found.append(
            "The bundle does not list the films it was trained on. If these films are among them, every "
            "promise is too high."
        )
    judge = _judge(bundle)
    if judge is not None and site.split in ("valid", ALL):
        found.append(
            f"{judge} was judged by validation films. If these are the same ones, every promise is too "
            "high by an unknown amount: calibrate on another side, such as --split test."
        )
    useless = [point for point in site.points if point.specificity.low + point.sensitivity.limit <= 1]
    if useless:
        found.append(
            f"At {listed([exactly(point.target) for point in useless])} these scores cannot be told from "
            "drawing lots: they would flag as many healthy people."
        )
    absent = [name for name, recall in site.points[0].classes.items() if not recall.people]
    if absent:
        found.append(f"Nobody with {', '.join(absent)} is among these films: nothing is known about it.")
    if site.refused:
        found.append(
            f"{counted(site.refused, 'film')} could not be scored. They are in no figure; a person must read "
            "such films."
        )
    if known.known:
        found.append(
            f"{known.known:,} of {counted(known.films, 'film')} were left out: the model was trained on "
            "them, on near copies of them or on their patients."
        )
    if len(site.sources) > 1:
        found.append(
            f"These films come from {len(site.sources)} sources ({', '.join(site.sources)}). The promise is "
            "about such a mixture, not about any one hospital."
        )
    return tuple(found)


def _judge(bundle: Bundle) -> str | None:
    """What chose among weights by figures on validation films; None where nothing is known of it."""
    if bundle.manifest.recipe.get("train", {}).get("patience"):
        return "When training stopped (patience)"
    if any((folder / "study.json").is_file() for folder in bundle.root.resolve().parents[:3]):
        return "The bundle lies in a study, and which of its rows is best"
    return None


def _watch(predictions: Predictions) -> Watch:
    """What later films are held against (``site_check``)."""
    scores = people(predictions).films
    ill = predictions.sick[predictions.labels[predictions.scored]]
    return Watch(
        scores=_kept(scores, REMEMBERED),
        ill=_kept(scores[ill], REMEMBERED // 2),
        well=_kept(scores[~ill], REMEMBERED // 2),
        films=len(predictions.refused),
        refused=sum(
            one is not None or other is not None
            for one, other in zip(predictions.refused, predictions.abstained, strict=True)
        ),
    )


def _kept(scores: Scores, most: int) -> tuple[float, ...]:
    """At most so many of the scores, rising and evenly spread over the ranks."""
    places = np.linspace(0, len(scores) - 1, min(len(scores), most)).astype(np.int64)
    return tuple(round(float(each), 6) for each in np.sort(scores)[places])


def _corrected(predictions: Predictions, seed: int) -> Corrected | None:
    """The correction of the probabilities; None with too few people on a side."""
    rows, who = predictions.scored, persons_of(predictions)
    probabilities, labels = predictions.probabilities[rows], predictions.labels[rows]
    ill = predictions.sick[labels]
    if min(len(set(who[side].tolist())) for side in (ill, ~ill)) < ENOUGH:
        return None
    found = correct(probabilities, labels, who, predictions.sick, seed=seed)
    return Corrected(
        map=found.map, prevalence=float(ill.mean()), before=_fit(found.before), after=_fit(found.after)
    )


def _fit(found: Reliability) -> Fit:
    return Fit(ece=found.ece, ece_by_chance=found.ece_by_chance, brier=found.brier, log_loss=found.log_loss)


def counted_rates(point: OperatingPoint) -> Test | None:
    """The rates of a point with the counts behind them; None where one was counted on nobody."""
    found, spared = point.sensitivity, point.specificity
    if found.value is None or spared.value is None:
        return None
    return Test(
        Share("", found.value, found.found, found.people),
        Share("", spared.value, spared.spared, spared.people),
    )


def _values(point: OperatingPoint, prevalence: Share) -> tuple[str, str, str]:
    """PPV, NPV and the share of people unflagged at ``prevalence``, with what the counts leave open."""
    found, spared = point.sensitivity, point.specificity
    test = counted_rates(point)
    if test is None or found.value is None or spared.value is None:
        return ("not measured",) * 3
    values = predictive_values(test, prevalence)
    unflagged = prevalence.value * (1 - found.value) + (1 - prevalence.value) * spared.value
    return _estimate(values.positive), _estimate(values.negative), percent(unflagged)


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return chance(estimate.value)
    return f"{chance(estimate.value)} ({chance(estimate.low)} to {chance(estimate.high)})"


def _specificity(point: OperatingPoint) -> str:
    spared = point.specificity
    if spared.value is None:
        return "not measured"
    return f"{percent(spared.value)} ({percent(spared.low)} to {percent(spared.high)})"
