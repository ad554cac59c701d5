"""Say what a bundle may claim: score the films of a split, measure, and write it down.

The bundle is scored, never the checkpoint it came from. Three files are written, ``metrics.json``
last, so that its presence means the others are whole: ``predictions.parquet`` (one row a film),
``report.html`` (one page that needs nothing else) and ``metrics.json`` (every figure with its
interval). What cannot be measured is null there, with the reason beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import verdict_on
from carina.data.pixels import PixelCache
from carina.errors import MissingExtra, OutputError
from carina.evaluation.answers import Tell, cached, squares
from carina.evaluation.card import FIGURES
from carina.evaluation.contamination import Contamination
from carina.evaluation.contamination import warning as contamination_warning
from carina.evaluation.history import read_history
from carina.evaluation.rewrite import check_place, rewrite
from carina.folders import claimed
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.operating import Site, operating_point, sites
from carina.scoring.scorer import Scorer

try:
    from carina.evaluation import (
        claim_sections,
        group_sections,
        headline,
        report,
        results,
        robustness_sections,
    )
    from carina.evaluation.belief import Belief, belief
    from carina.evaluation.metrics import Metrics, measure, top_losses
    from carina.evaluation.pictures import film_pictures, sample_rows
    from carina.evaluation.predictions import Predictions
    from carina.evaluation.promises import Claims, claims
    from carina.evaluation.robustness import Changed, robustness
    from carina.evaluation.sections import Evidence
    from carina.evaluation.selection import ask, chosen_on_them, known_films, truth
    from carina.evaluation.subgroups import Subgroup, called_diseased, subgroups
    from carina.evaluation.wording import counted, listed
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jinja2", "matplotlib", "scipy", "sklearn"):
        raise
    raise MissingExtra("carina evaluate", "report") from error

WORST, SAMPLES = 12, 6  # films shown: top losses in all, samples of each class


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found, and where it was written. ``metrics`` is the content of ``metrics.json``."""

    out: Path
    metrics: Mapping[str, Any]
    headline: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a terminal shows: warnings, recall of disease, whether to believe it, then the rest."""
        return [*(f"warning: {each}" for each in self.warnings), *self.headline]


def evaluate(
    bundle: Bundle | str | os.PathLike[str],
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    split: str = "valid",
    out: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    site: str | None = None,
    card: str | os.PathLike[str] | None = None,
    robust: bool = False,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Score the films of ``split``, write ``metrics.json``, ``predictions.parquet`` and ``report.html``.

    ``run`` names the run folder whose training curves are shown (default: the one the bundle lies
    in). ``site`` names the operating points to hold against these films (default: those of the only
    site the bundle has). ``card`` is where the bundle is written with these figures on its card (its own
    folder, or a new one). ``robust`` asks again about the films framed, exposed and shrunk otherwise, nine
    times as long. ``seed`` is that of the resampled intervals. Raises ``MissingExtra`` without
    the ``report`` extra, ``BundleError`` and ``CatalogueError`` for what cannot be opened, ``ClaimError``
    for a site that is unknown, ``DataError`` when the two do not fit together or no film can be scored,
    ``RunError`` for a damaged history and ``OutputError`` when the results cannot be written.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    _check_place(Path(out), catalogue)
    with claimed(Path(out)) as folder:
        return _evaluated(bundle, catalogue, split, folder, run, site, card, robust, seed, progress)


def _evaluated(
    bundle: Bundle,
    catalogue: Catalogue,
    split: str,
    folder: Path,
    run: str | os.PathLike[str] | None,
    site: str | None,
    card: str | os.PathLike[str] | None,
    robust: bool,
    seed: int,
    progress: Tell | None,
) -> Evaluation:
    calibrated = _site(bundle, site)
    if card is not None:
        check_place(bundle, Path(card))
    history = read_history(bundle, Path(run) if run is not None else None)
    films = catalogue.table(split)
    labels = truth(films, bundle, catalogue)
    known = known_films(films, bundle, catalogue)
    scorer = Scorer(bundle)
    cache = cached(catalogue, bundle.preparation)
    predictions = ask(films, labels, scorer, cache, progress)
    _tell(progress, "measure", 0)
    metrics = _measured(predictions, seed)
    same = calibrated is not None and bool(chosen_on_them(films, calibrated[1], catalogue).any())
    claimed = claims(predictions, calibrated, same_films=same, seed=seed)
    untested = _untested(bundle) if calibrated is None else ()
    warnings = (*claim_sections.spoken(claimed), *untested, *_warnings(predictions, metrics, known, split))
    believed = belief(predictions, verdict_on(catalogue), bundle.manifest, catalogue.fingerprint, seed=seed)
    groups = subgroups(predictions, called_diseased(predictions), seed=seed)
    changed: tuple[Changed, ...] = ()
    if robust:
        named = None if calibrated is None else calibrated[1]
        seen = squares(scorer, predictions.films.take(predictions.scored), cache)
        changed = robustness(
            predictions, metrics, seen, scorer, named, same_films=same, seed=seed, tell=progress
        )
    content = results.content(
        bundle,
        catalogue,
        split,
        seed,
        predictions,
        metrics,
        believed,
        known,
        warnings,
        claimed,
        groups,
        changed,
    )
    _tell(progress, "measure", 1)
    shown = _evidence(
        content, predictions, metrics, believed, warnings, history, scorer, cache, claimed, groups, changed
    )
    page = report.render(shown)
    results.write(folder, predictions.table(), page, content)
    if card is not None:
        known_figures = bundle.manifest.sections.get(FIGURES, {})
        label = f"{split} of catalogue {catalogue.fingerprint[:12]}"
        rewrite(bundle, Path(card), {FIGURES: {**known_figures, label: results.for_card(content)}})
    _tell(progress, "report", 1)
    said = (
        *headline.lines(metrics, believed),
        *claim_sections.lines(claimed),
        *group_sections.lines(predictions),
        *robustness_sections.lines(changed),
    )
    return Evaluation(folder, content, said, warnings)


def _check_place(out: Path, catalogue: Catalogue) -> None:
    if out.resolve() == catalogue.root.resolve():
        raise OutputError(f"{out}: is the catalogue; name another folder with --out")


def _site(bundle: Bundle, wanted: str | None) -> tuple[str, Site] | None:
    """The operating points to test: those of the named site, or of the only one."""
    known = sites(bundle)
    if wanted is not None:
        operating_point(bundle, wanted)  # says what there is when the site is unknown
        return wanted, known[wanted]
    return next(iter(known.items())) if len(known) == 1 else None


def _untested(bundle: Bundle) -> tuple[str, ...]:
    """That no operating point was held against these films, though the bundle has some."""
    names = sorted(sites(bundle))
    if not names:
        return ()
    of = f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r}"
    said = (
        f"The bundle has operating points for {of}; none was held against these films. Name one with --site."
    )
    return (said,)


def _measured(predictions: Predictions, seed: int) -> Metrics:
    whole = predictions.scored
    return measure(
        predictions.probabilities[whole],
        predictions.labels[whole],
        np.array(predictions.column("patient"))[whole],
        classes=predictions.classes,
        healthy=[name for name in predictions.classes if name in predictions.healthy],
        seed=seed,
    )


def _warnings(
    predictions: Predictions, metrics: Metrics, known: Contamination, split: str
) -> tuple[str, ...]:
    """What must be known before a figure is read, gravest first."""
    found = [contamination_warning(known, split)]
    refused = [row for row, reason in enumerate(predictions.refused) if reason is not None]
    if refused:
        sick = int(predictions.sick[predictions.labels[refused]].sum())
        found.append(
            f"{counted(len(refused), 'film')} of {len(predictions.refused):,} could not be scored, "
            f"{sick:,} of them diseased. They are in no figure; a person must read them. "
            "The list is under “Films and sources”."
        )
    if predictions.sick.all():
        found.append("The bundle names no healthy class, so recall of disease cannot be measured.")
    area = metrics.disease_auc
    if area.low is not None and area.low <= 0.5:
        found.append(
            "These scores do not tell diseased from healthy films better than guessing would (the interval "
            "of the area under ROC reaches 0.5). Recall and specificity say nothing by themselves."
        )
    absent = [each.name for each in metrics.per_class if not each.films]
    if absent:
        found.append(
            f"No film of {listed(absent)} is among these films: nothing is known about the recall there."
        )
    return tuple(each for each in found if each is not None)


def _evidence(
    content: Mapping[str, Any],
    predictions: Predictions,
    metrics: Metrics,
    believed: Belief,
    warnings: tuple[str, ...],
    history: tuple[dict[str, Any], ...],
    scorer: Scorer,
    cache: PixelCache | None,
    claimed: Claims,
    groups: tuple[Subgroup, ...],
    changed: tuple[Changed, ...],
) -> Evidence:
    whole = predictions.scored
    labels, split, bundle = predictions.labels[whole], content["split"], content["bundle"]
    worst = whole[top_losses(predictions.probabilities[whole], labels, WORST)]
    drawn = whole[sample_rows(labels, SAMPLES, content["seed"])]
    sources = counted(len(set(predictions.column("source"))), "source")
    films = f"{counted(metrics.films, 'film')} of {counted(metrics.patients, 'patient')} from {sources}"
    advice = (
        " (these films steered the training; quote the figures of the test split)" if split == "valid" else ""
    )
    return Evidence(
        title=f"{bundle['name']}: what may be claimed",
        lead=f"Split “{split}”: {films} · {content['created'][:10]}",
        metrics=metrics,
        belief=believed,
        predictions=predictions,
        warnings=warnings,
        facts=(
            ("Bundle", f"{bundle['name']}, {bundle['path']}"),
            ("bundle.json", f"sha256 {bundle['sha256']}"),
            ("Catalogue", content["catalogue"]["path"]),
            ("Catalogue’s content", f"sha256 {content['catalogue']['fingerprint']}"),
            ("Split", f"{split}{advice}"),
            ("Preparation", ", ".join(f"{key} {value}" for key, value in bundle["preparation"].items())),
            ("Seed of the intervals", str(content["seed"])),
            ("Carina", content["carina"]),
            ("Made", content["created"]),
        ),
        history=history,
        samples=film_pictures(predictions, drawn, scorer, cache),
        worst=film_pictures(predictions, worst, scorer, cache),
        claims=claimed,
        groups=groups,
        changed=changed,
    )


def _tell(progress: Tell | None, stage: str, done: int) -> None:
    if progress is not None:
        progress(Progress(stage, done, 1))
