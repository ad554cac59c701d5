"""The figures of an evaluation, from probabilities and truth alone.

Pure: arrays in, frozen figures out; no files, no clock, no model. A figure that cannot be measured
is None with a reason, never a reassuring 0 or 1. Recall of a class means "called by its own name";
``detected`` means "called any disease": viral pneumonia called bacterial is confused, not missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from carina.evaluation.bootstrap import DRAWS, Area, Mask, Rate, areas, shares

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

HALF = 0.5
_SMALLEST = float(np.finfo(np.float32).tiny)  # a probability of 0 in float32 still has a finite loss


@dataclass(frozen=True, slots=True)
class Detection:
    """Healthy against diseased by one rule: what is found, and what is left in peace."""

    rule: str
    threshold: float | None  # on p_disease; None where the most probable class decides
    sensitivity: Rate
    specificity: Rate


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against all others."""

    name: str
    healthy: bool
    films: int
    recall: Rate
    precision: Rate
    detected: Rate  # called any disease
    auc: Area

    @property
    def order(self) -> tuple[float, float]:
        """Sorts the diseases: first the one of which most is missed, among equals the least certain one."""
        return (1.0 if self.detected.value is None else self.detected.value, self.detected.low or 0.0)


@dataclass(frozen=True, slots=True)
class MacroArea:
    """The unweighted mean of the areas of ``classes``; classes without an area are left out, and named."""

    value: float | None
    classes: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often films of class ``actual`` were called ``predicted``; fastai's ``most_confused``."""

    actual: str
    predicted: str
    films: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Everything that is claimed of one bundle on one selection of films."""

    films: int
    patients: int
    classes: tuple[str, ...]
    healthy: tuple[str, ...]
    detection: Detection  # the headline: the most probable class decides
    detection_at_half: Detection
    disease_auc: Area
    disease_brier: float | None
    accuracy: Rate
    macro_auc: MacroArea
    log_loss: float | None
    brier: float | None  # summed over classes: 0 (right and sure) to 2 (wrong and sure)
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]  # [actual][predicted]
    most_confused: tuple[Confusion, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a ROC and of a precision-recall curve; ``positives`` share is the latter's floor."""

    false_alarms: NDArray[np.float64]  # 1 - specificity, rising
    sensitivity: NDArray[np.float64]
    recall: NDArray[np.float64]  # falling
    precision: NDArray[np.float64]
    prevalence: float


def disease_probability(probabilities: Probabilities, sick: Mask) -> NDArray[np.float64]:
    """One minus the healthy classes, (N,) in [0, 1]; ``sick`` is (C,)."""
    p_disease: NDArray[np.float64] = np.clip(1.0 - probabilities[:, ~sick].sum(axis=1), 0.0, 1.0)
    return p_disease


def losses(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Cross-entropy of each film in nats, (N,)."""
    own = probabilities[np.arange(len(labels)), labels]
    result: NDArray[np.float64] = -np.log(np.maximum(own, _SMALLEST))
    return result


def measure(
    probabilities: Probabilities,
    labels: Labels,
    patients: NDArray[np.str_],
    *,
    classes: Sequence[str],
    healthy: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> Metrics:
    """All figures of ``probabilities`` (N, C) against ``labels`` (N,), indices into ``classes``.

    ``patients`` (N,) names the patient of each film; intervals are resampled over them.
    """
    sick = np.array([name not in healthy for name in classes])  # (C,)
    ill = sick[labels]  # (N,)
    predicted = probabilities.argmax(axis=1) if len(labels) else np.zeros(0, dtype=np.int64)
    flagged = sick[predicted]
    p_disease = disease_probability(probabilities, sick)
    everyone = np.ones(len(labels), dtype=bool)
    over_half = p_disease >= HALF
    questions = [
        (predicted == labels, everyone),
        (flagged, ill),
        (~flagged, ~ill),
        (over_half, ill),
        (~over_half, ~ill),
    ]
    for index in range(len(classes)):
        mine = labels == index
        questions += [(predicted == index, mine), (mine, predicted == index), (flagged, mine)]
    rates = shares(patients, questions, draws=draws, seed=seed)
    separated = areas(
        patients,
        [(p_disease, ill), *((probabilities[:, index], labels == index) for index in range(len(classes)))],
        draws=draws,
        seed=seed,
    )
    confusion = confusion_matrix(labels, predicted, labels=range(len(classes))) if len(labels) else None
    return Metrics(
        films=len(labels),
        patients=len(np.unique(patients)),
        classes=tuple(classes),
        healthy=tuple(healthy),
        detection=_detection("the most probable class is a disease", None, rates[1], rates[2], sick),
        detection_at_half=_detection(f"p_disease ≥ {HALF}", HALF, rates[3], rates[4], sick),
        disease_auc=separated[0],
        disease_brier=float(brier_score_loss(ill, p_disease, pos_label=True))
        if 0 < ill.sum() < len(ill)
        else None,
        accuracy=rates[0],
        macro_auc=macro_area(probabilities, labels, classes),
        log_loss=float(losses(probabilities, labels).mean()) if len(labels) else None,
        brier=float(((probabilities - np.eye(len(classes))[labels]) ** 2).sum(axis=1).mean())
        if len(labels)
        else None,
        per_class=tuple(
            ClassFigures(
                name=name,
                healthy=not sick[index],
                films=int((labels == index).sum()),
                recall=_explained(rates[5 + 3 * index], f"no film of {name} in this selection"),
                precision=_explained(rates[6 + 3 * index], f"no film was called {name}"),
                detected=_explained(rates[7 + 3 * index], f"no film of {name} in this selection"),
                auc=separated[1 + index],
            )
            for index, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion) if confusion is not None else (),
        most_confused=most_confused(confusion, classes) if confusion is not None else (),
    )


def macro_area(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> MacroArea:
    """The mean one-vs-rest area over the classes that have films on both sides."""
    told = [index for index in range(len(classes)) if 0 < (labels == index).sum() < len(labels)]
    areas = [roc_auc_score(labels == index, probabilities[:, index]) for index in told]
    return MacroArea(
        value=float(np.mean(areas)) if areas else None,
        classes=tuple(classes[index] for index in told),
        left_out=tuple(name for index, name in enumerate(classes) if index not in told),
    )


def most_confused(
    confusion: NDArray[np.int64], classes: Sequence[str], at_least: int = 1
) -> tuple[Confusion, ...]:
    """The cells off the diagonal with ``at_least`` films, most films first (ties in class order)."""
    cells = [
        Confusion(classes[row], classes[column], int(confusion[row, column]))
        for row, column in np.argwhere(confusion >= at_least)
        if row != column
    ]
    return tuple(sorted(cells, key=lambda cell: -cell.films))


def top_losses(probabilities: Probabilities, labels: Labels, count: int) -> NDArray[np.int64]:
    """The films the model was most wrong about, worst first: indices (≤ count,)."""
    return np.argsort(-losses(probabilities, labels), kind="stable")[:count]


def curve(scores: NDArray[np.float64], positive: Mask) -> Curve | None:
    """The curves of one score; None where every film is positive, or none is."""
    if not 0 < positive.sum() < len(positive):
        return None
    false_alarms, sensitivity, _ = roc_curve(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores, drop_intermediate=True)
    # The last point of scikit-learn's curve (recall 0, precision 1) stands for no threshold.
    return Curve(false_alarms, sensitivity, recall[:-1], precision[:-1], float(positive.mean()))


def _detection(
    rule: str, threshold: float | None, sensitivity: Rate, specificity: Rate, sick: Mask
) -> Detection:
    """A detection whose missing figures say what is missing."""
    if sick.all():
        return Detection(rule, threshold, *[_unknown("the bundle names no healthy class")] * 2)
    return Detection(
        rule,
        threshold,
        _explained(sensitivity, "no diseased film in this selection"),
        _explained(specificity, "no healthy film in this selection"),
    )


def _explained(rate: Rate, why: str) -> Rate:
    """The rate itself, or an unknown one with this reason where there was no film to count."""
    return rate if rate.films else _unknown(why)


def _unknown(why: str) -> Rate:
    return Rate(None, None, None, 0, 0, 0, why)
