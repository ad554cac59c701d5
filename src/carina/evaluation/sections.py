"""The sections of an evaluation's page, in the order in which they are read.

Each is one small function from the evidence to blocks of text, tables and pictures; a section without
blocks is left out. A new section is one function and one line in ``SECTIONS``. Knows nothing of
bundles, catalogues or HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.evaluation import claim_sections, figures, group_sections, robustness_sections
from carina.evaluation.belief import Belief
from carina.evaluation.blocks import Block, Card, Chart, Gallery, Paragraph, Section, Table
from carina.evaluation.bootstrap import Rate
from carina.evaluation.metrics import Metrics, curve, disease_probability
from carina.evaluation.pictures import FilmPicture
from carina.evaluation.predictions import Predictions
from carina.evaluation.promises import Claims
from carina.evaluation.robustness import Changed
from carina.evaluation.subgroups import Subgroup
from carina.evaluation.wording import DASH, area_value, counted, interval, listed, percent, with_interval


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a page is made of."""

    title: str
    lead: str  # one line below it: which films
    metrics: Metrics
    belief: Belief
    predictions: Predictions
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]  # what was measured on what, for the record
    history: tuple[Mapping[str, Any], ...] = ()
    samples: tuple[FilmPicture, ...] = ()
    worst: tuple[FilmPicture, ...] = ()
    claims: Claims | None = None
    groups: tuple[Subgroup, ...] = ()
    changed: tuple[Changed, ...] = ()


def disease_classes(evidence: Evidence) -> Section:
    """What is missed, by disease; the worst first."""
    sick = [figures for figures in evidence.metrics.per_class if not figures.healthy and figures.films]
    sick.sort(key=lambda figures: figures.order)
    rows = tuple(
        (
            each.name,
            f"{each.films:,}",
            f"{each.detected.patients:,}",
            f"{each.films - each.detected.hits:,}",
            percent(each.detected.value),
            interval(each.detected),
        )
        for each in sick
    )
    if not rows or evidence.metrics.detection.sensitivity.value is None:
        return Section("missed", "What is missed, by disease")
    caption = "Films of each disease, and how many of them were called any disease. The worst stands first."
    head = ("Disease", "Films", "Patients", "Missed", "Called diseased", "95 % interval")
    return Section("missed", "What is missed, by disease", (Table(caption, head, rows),))


def healthy_against_diseased(evidence: Evidence) -> Section:
    """The two-class question by both rules, with its curves."""
    metrics, predictions = evidence.metrics, evidence.predictions
    rules = (metrics.detection, metrics.detection_at_half)
    rows = tuple((rule.rule, _cell(rule.sensitivity), _cell(rule.specificity)) for rule in rules)
    table = Table(
        "A film counts as called diseased by one of two rules.",
        ("Rule", "Recall of disease (sensitivity)", "Specificity"),
        rows,
    )
    drawn = curve(*_disease_scores(predictions))
    if drawn is None:
        why = metrics.disease_auc.why or "one side has no film"
        return Section(
            "disease", "Healthy against diseased", (table, Paragraph(f"No curve can be drawn: {why}."))
        )
    chart = Chart(
        figures.detection_curves(drawn, metrics.disease_auc, rules),
        f"ROC and precision-recall curve of healthy against diseased; "
        f"area {with_interval(metrics.disease_auc)}.",
        "Score: p_disease, one minus the probability of the healthy classes. Dotted: what guessing reaches. "
        "Precision depends on the share of diseased films here and is not the predictive value elsewhere.",
    )
    return Section("disease", "Healthy against diseased", (table, chart))


def operating_points(evidence: Evidence) -> Section:
    """The operating points of a site, held against these films."""
    return claim_sections.operating_points(evidence.claims)


def meaning(evidence: Evidence) -> Section:
    """What a flag means for one person."""
    return claim_sections.meaning(evidence.claims)


def likeness(evidence: Evidence) -> Section:
    """Whether these films score like those of the site."""
    return claim_sections.likeness(evidence.claims, evidence.predictions)


def probabilities(evidence: Evidence) -> Section:
    """Whether the probabilities mean what they say."""
    return claim_sections.probabilities(evidence.claims)


def groups(evidence: Evidence) -> Section:
    """Recall and specificity by age band, sex, view and source."""
    return group_sections.subgroups(evidence.groups)


def robustness(evidence: Evidence) -> Section:
    """What another framing, exposure or sharpness would do to the figures."""
    return robustness_sections.robustness(evidence.changed)


def would_be_refused(evidence: Evidence) -> Section:
    """The films that a hospital would not have got a score for."""
    return group_sections.abstained(evidence.predictions)


def sets(evidence: Evidence) -> Section:
    """What the prediction sets of the site do here."""
    return group_sections.prediction_sets(evidence.claims.sets if evidence.claims is not None else None)


def per_class(evidence: Evidence) -> Section:
    """Recall, precision and area of each class, as table and chart."""
    metrics = evidence.metrics
    rows = tuple(
        (
            f"{each.name}{' (healthy)' if each.healthy else ''}",
            f"{each.films:,}",
            f"{each.recall.patients:,}",
            _cell(each.recall),
            _cell(each.precision),
            DASH if each.auc.value is None else f"{area_value(each.auc)} ({interval(each.auc)})",
        )
        for each in metrics.per_class
    )
    macro = metrics.macro_auc
    mean = DASH if macro.value is None else f"{macro.value:.3f}"
    left_out = (
        f" It leaves out {listed(macro.left_out)}, which cannot be measured here." if macro.left_out else ""
    )
    text = (
        f"Accuracy {with_interval(metrics.accuracy)}: {metrics.accuracy.hits:,} of "
        f"{counted(metrics.accuracy.films, 'film')} were called by their own name. "
        f"Mean area over {counted(len(macro.classes), 'class')}: {mean}.{left_out}"
    )
    chart = Chart(
        figures.forest(metrics),
        "Points with 95 % intervals for each class: share called any disease, recall and precision; "
        "the same figures as in the table.",
        "Points: measured share. Bars: 95 % interval, resampled by patient.",
    )
    head = ("Class", "Films", "Patients", "Recall", "Precision", "Area under ROC")
    return Section(
        "classes",
        "Class by class",
        (Paragraph(text), Table("Each class against all others.", head, rows), chart),
    )


def confusion(evidence: Evidence) -> Section:
    """The confusion matrix and its largest errors."""
    metrics = evidence.metrics
    if not metrics.confusion:
        return Section("confusion", "Confusion matrix")
    rows = tuple((each.actual, each.predicted, f"{each.films:,}") for each in metrics.most_confused[:12])
    chart = Chart(
        figures.confusion_matrix(metrics),
        "Confusion matrix, actual classes in rows and predicted classes in columns; "
        + ("largest error: " + _said(metrics) if rows else "no film was confused"),
        "Films, and share of the row. Outlined cells: diseased films called healthy.",
    )
    if not rows:
        return Section("confusion", "Confusion matrix", (chart, Paragraph("No film was confused.")))
    table = Table("Most confused.", ("Actual", "Predicted", "Films"), rows, numeric=2)
    return Section("confusion", "Confusion matrix", (chart, table))


def class_curves(evidence: Evidence) -> Section:
    """ROC and precision-recall of each class against the rest."""
    metrics, predictions = evidence.metrics, evidence.predictions
    scored = predictions.scored
    labels, probabilities = predictions.labels[scored], predictions.probabilities[scored]
    curves = [curve(probabilities[:, index], labels == index) for index in range(len(metrics.classes))]
    areas = [each.auc for each in metrics.per_class]
    if not any(curves):
        return Section("curves", "Curves of each class")
    said = "; ".join(f"{each.name} {with_interval(each.auc)}" for each in metrics.per_class)
    return Section(
        "curves",
        "Curves of each class",
        (
            Chart(
                figures.class_curves(metrics.classes, curves, areas, "roc"),
                f"ROC curve of each class against the rest. Areas: {said}.",
                "Each class against all others. Dotted: what guessing reaches.",
            ),
            Chart(
                figures.class_curves(metrics.classes, curves, areas, "precision"),
                "Precision-recall curve of each class against the rest.",
                "Dotted: the share of the class among these films, which guessing reaches.",
            ),
        ),
    )


def worst_films(evidence: Evidence) -> Section:
    """Top losses: where the model was sure and wrong."""
    cards = tuple(
        Card(
            pictures=(
                (figures.picture(each.prepared), f"Film {each.name} as the model saw it"),
                (figures.picture(each.heatmap), f"Heat map for {each.predicted}"),
            ),
            lines=(
                ("Prediction", each.predicted),
                ("Actual", each.actual),
                ("Loss", f"{each.loss:.2f}"),
                ("Probability", percent(each.probability)),
                ("Film", f"{each.name} ({each.source})"),
            ),
        )
        for each in evidence.worst
    )
    if not cards:
        return Section("losses", "Top losses")
    text = (
        "The films with the largest loss: prediction / actual / loss / probability of the prediction. "
        "The heat map shows what spoke for the predicted class: where the network looked, not where disease "
        "is. A wrong label shows up here too."
    )
    return Section("losses", "Top losses", (Paragraph(text), Gallery("", cards)))


def samples(evidence: Evidence) -> Section:
    """Films of each class as the model sees them."""
    galleries = tuple(
        Gallery(
            name,
            tuple(
                Card(
                    ((figures.picture(each.prepared), f"A film of {name} from {each.source}"),),
                    (("", each.source),),
                )
                for each in evidence.samples
                if each.actual == name
            ),
        )
        for name in evidence.metrics.classes
    )
    galleries = tuple(gallery for gallery in galleries if gallery.cards)
    if not galleries:
        return Section("samples", "Films as the model sees them")
    text = "Drawn by lot. If the class can be told here without looking at the lungs, so can the model."
    return Section("samples", "Films as the model sees them", (Paragraph(text), *galleries))


def training(evidence: Evidence) -> Section:
    """The training curves, where the run is known."""
    if not evidence.history:
        return Section("training", "Training")
    last = evidence.history[-1]
    epochs = counted(len(evidence.history), "epoch")
    alt = f"Losses and accuracy over {epochs}; last accuracy {last.get('accuracy')}."
    caption = "Bands: the stages of the recipe, with the size of the films and what was trained."
    return Section("training", "Training", (Chart(figures.training_curves(evidence.history), alt, caption),))


def films(evidence: Evidence) -> Section:
    """Which films, from where, and which could not be scored."""
    predictions = evidence.predictions
    names, sources = predictions.classes, predictions.column("source")
    counts = Counter(zip(sources, (names[index] for index in predictions.labels), strict=True))
    rows = [
        (source, *(f"{counts[source, name]:,}" for name in names), f"{sources.count(source):,}")
        for source in sorted(set(sources))
    ]
    total = tuple(f"{sum(n for (_, mine), n in counts.items() if mine == name):,}" for name in names)
    rows.append(("All", *total, f"{len(sources):,}"))
    blocks: list[Block] = [Table("Films by source and class.", ("Source", *names, "All"), tuple(rows))]
    refused = [
        (path, names[label], reason)
        for path, label, reason in zip(
            predictions.column("path"), predictions.labels, predictions.refused, strict=True
        )
        if reason is not None
    ]
    if refused:
        shown = tuple(refused[:50])
        more = (
            f" The first {len(shown)} of {len(refused):,}; all stand in predictions.parquet."
            if len(refused) > 50
            else ""
        )
        caption = f"Films that could not be scored. They are in none of the figures above.{more}"
        blocks.append(Table(caption, ("File", "Actual", "Reason"), shown, numeric=3))
    return Section("films", "Films and sources", tuple(blocks))


def record(evidence: Evidence) -> Section:
    """What exactly was measured, and how the figures were computed."""
    method = (
        "Intervals are 95 % intervals. Patients, not films, are drawn with replacement (2,000 draws); the "
        "percentile interval is joined with the exact binomial interval at the effective number of films "
        "(Korn & Graubard 1998), and for areas with Newcombe's score interval (2006), so that few or "
        "faultless films do not look certain. "
        "Recall of disease counts a diseased film as found when the most probable class is any disease."
    )
    table = Table("", ("", ""), evidence.facts, numeric=2)
    return Section("record", "For the record", (table, Paragraph(method)))


SECTIONS: tuple[Callable[[Evidence], Section], ...] = (
    disease_classes,
    groups,
    operating_points,
    meaning,
    likeness,
    robustness,
    healthy_against_diseased,
    probabilities,
    sets,
    would_be_refused,
    per_class,
    confusion,
    class_curves,
    worst_films,
    samples,
    training,
    films,
    record,
)


def _disease_scores(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scored = predictions.scored
    p_disease = disease_probability(predictions.probabilities[scored], predictions.sick)
    return p_disease, predictions.sick[predictions.labels[scored]]


def _cell(rate: Rate) -> str:
    return f"{DASH} ({rate.why})" if rate.value is None else f"{percent(rate.value)} ({interval(rate)})"


def _said(metrics: Metrics) -> str:
    worst = metrics.most_confused[0]
    return f"{counted(worst.films, 'film')} of {worst.actual} called {worst.predicted}"
