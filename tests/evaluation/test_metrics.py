"""The figures, computed by hand on twelve films."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from carina.evaluation.metrics import Confusion, curve, losses, measure, top_losses

CLASSES = ("COVID-19", "TB", "Normal")
#                 COVID-19 ×4   TB ×4        Normal ×4
ACTUAL = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
CALLED = np.array([0, 0, 0, 1, 1, 1, 2, 0, 2, 2, 2, 0])


def sure_of(called: np.ndarray, sure: float = 0.8) -> np.ndarray:
    """Probabilities (N, 3) with ``sure`` on the class called."""
    probabilities = np.full((len(called), 3), (1 - sure) / 2)
    probabilities[np.arange(len(called)), called] = sure
    return probabilities


def measured(
    actual: np.ndarray = ACTUAL, called: np.ndarray = CALLED, healthy: tuple[str, ...] = ("Normal",)
):
    patients = np.arange(len(actual)).astype(str)
    return measure(sure_of(called), actual, patients, classes=CLASSES, healthy=healthy, draws=200)


def test_a_disease_called_by_another_name_is_found_not_missed() -> None:
    found = measured().detection.sensitivity
    assert (found.hits, found.films) == (7, 8)  # one TB film was called Normal
    assert found.value == 0.875
    tb = measured().per_class[1]
    assert (tb.recall.value, tb.detected.value) == (0.5, 0.75)


def test_specificity_is_the_share_of_healthy_films_called_healthy() -> None:
    assert measured().detection.specificity.value == 0.75


@pytest.mark.parametrize(
    ("index", "recall", "precision"), [(0, (3, 4), (3, 5)), (1, (2, 4), (2, 3)), (2, (3, 4), (3, 4))]
)
def test_recall_and_precision_of_each_class(
    index: int, recall: tuple[int, int], precision: tuple[int, int]
) -> None:
    figures = measured().per_class[index]
    assert (figures.recall.hits, figures.recall.films) == recall
    assert (figures.precision.hits, figures.precision.films) == precision


def test_confusion_has_actual_classes_in_rows() -> None:
    assert measured().confusion == ((3, 1, 0), (1, 2, 1), (1, 0, 3))


def test_most_confused_is_that_of_fastai() -> None:
    actual, called = np.array([0, 0, 0, 1, 2, 2]), np.array([1, 1, 0, 0, 2, 0])
    assert measured(actual, called).most_confused == (
        Confusion("COVID-19", "TB", 2),
        Confusion("TB", "COVID-19", 1),
        Confusion("Normal", "COVID-19", 1),
    )


def test_accuracy_loss_and_brier() -> None:
    metrics = measured()
    assert metrics.accuracy.value == pytest.approx(8 / 12)
    assert metrics.log_loss == pytest.approx(-(8 * np.log(0.8) + 4 * np.log(0.1)) / 12)
    right, wrong = 0.2**2 + 2 * 0.1**2, 0.8**2 + 0.9**2 + 0.1**2
    assert metrics.brier == pytest.approx((8 * right + 4 * wrong) / 12)


def test_half_a_chance_of_disease_is_a_rule_of_its_own() -> None:
    probabilities = np.array([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])
    metrics = measure(
        probabilities, np.array([0, 2, 1]), np.array(["a", "b", "c"]), classes=CLASSES, healthy=("Normal",)
    )
    assert metrics.detection.sensitivity.value == 0.0  # Normal is the most probable class of all three
    assert metrics.detection_at_half.sensitivity.value == 0.5
    assert metrics.detection_at_half.specificity.value == 1.0


def test_top_losses_come_worst_first() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]])
    labels = np.array([0, 0, 1])
    assert top_losses(probabilities, labels, 2).tolist() == [1, 2]
    assert losses(probabilities, labels)[1] == pytest.approx(-np.log(0.05))


def test_an_impossible_film_has_a_finite_loss() -> None:
    assert np.isfinite(losses(np.array([[0.0, 1.0, 0.0]]), np.array([0])))[0]


def test_a_class_without_films_is_unknown_never_zero() -> None:
    metrics = measured(np.array([0, 0, 2, 2]), np.array([0, 2, 2, 0]))
    tb = metrics.per_class[1]
    assert (tb.recall.value, tb.auc.value) == (None, None)
    assert tb.recall.why == "no film of TB in this selection"
    assert tb.precision.why == "no film was called TB"
    assert metrics.macro_auc.left_out == ("TB",)


def test_healthy_films_alone_say_nothing_of_recall() -> None:
    metrics = measured(np.array([2, 2, 2]), np.array([2, 2, 0]))
    assert metrics.detection.sensitivity.value is None
    assert metrics.detection.sensitivity.why == "no diseased film in this selection"
    assert metrics.detection.specificity.hits == 2
    assert metrics.disease_auc.value is None


def test_without_a_healthy_class_there_is_no_headline() -> None:
    metrics = measured(healthy=())
    assert metrics.detection.sensitivity.value is None
    assert metrics.detection.sensitivity.why == "the bundle names no healthy class"


def test_the_worst_disease_comes_first_and_among_equals_the_least_certain() -> None:
    diseases = [figures for figures in measured().per_class if not figures.healthy]
    assert [figures.name for figures in sorted(diseases, key=lambda figures: figures.order)] == [
        "TB",
        "COVID-19",
    ]
    faultless = measured(np.array([0] * 9 + [1, 1, 2]), np.array([0] * 9 + [1, 1, 2])).per_class[:2]
    assert min(faultless, key=lambda figures: figures.order).name == "TB"  # 2 films against 9


def test_figures_survive_json_and_the_unknown_is_null() -> None:
    metrics = measured(np.array([0, 0, 2, 2]), np.array([0, 2, 2, 0]))
    read = json.loads(json.dumps(asdict(metrics), allow_nan=False))
    assert read["per_class"][1]["recall"]["value"] is None
    assert read["per_class"][1]["recall"]["why"] == "no film of TB in this selection"
    assert read["detection"]["sensitivity"]["value"] == 0.5


def test_curves_start_and_end_where_they_must() -> None:
    points = curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    assert points is not None
    assert (points.false_alarms[0], points.sensitivity[-1], points.prevalence) == (0.0, 1.0, 0.5)
    assert curve(np.array([0.1, 0.2]), np.array([True, True])) is None


def test_ten_thousand_films_take_seconds() -> None:
    import time

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 10_000)
    patients = rng.integers(0, 6000, 10_000).astype(str)
    start = time.process_time()
    measure(rng.dirichlet(np.ones(3), 10_000), labels, patients, classes=CLASSES, healthy=("Normal",))
    assert time.process_time() - start < 20
