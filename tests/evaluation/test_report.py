"""The page: whole in itself, complete, escaped, readable without seeing the pictures."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from carina.data.confounding.verdict import Grade, Verdict
from carina.evaluation.belief import Belief, within_sources
from carina.evaluation.headline import lines
from carina.evaluation.metrics import measure
from carina.evaluation.pictures import FilmPicture, sample_rows
from carina.evaluation.predictions import Predictions
from carina.evaluation.report import NOTICE, render
from carina.evaluation.sections import Evidence, training
from tests.evaluation.outline import Outline
from tests.evaluation.worlds import predictions

HISTORY = tuple(
    {"epoch": n, "train_loss": 1 / n, "valid_loss": None if n == 2 else 1.2 / n, "accuracy": 0.9,
     "stage": n // 3, "size": 64, "frozen": n < 3, "lr": 1e-3}
    for n in range(1, 5)
)  # fmt: skip


CONFOUNDED = Verdict(
    Grade.CONFOUNDED, "Confounded: the border of the film alone (outer 12 %) tells COVID-19 (AUC 0.98)."
)


def evidence(given: Predictions | None = None, warnings: tuple[str, ...] = ()) -> Evidence:
    asked = given or predictions()
    whole = asked.scored
    metrics = measure(
        asked.probabilities[whole],
        asked.labels[whole],
        np.array(asked.column("patient"))[whole],
        classes=asked.classes,
        healthy=sorted(asked.healthy),
        draws=100,
    )
    film = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    picture = FilmPicture(
        "f.png", "hospital_a", "COVID-19", "Normal", 0.97, 3.5, film, np.stack([film] * 3, axis=-1)
    )
    belief = Belief(CONFOUNDED, within_sources(asked))
    return Evidence(
        "tiny",
        "Split “test”",
        metrics,
        belief,
        asked,
        warnings,
        (("Bundle", "b"),),
        HISTORY,
        (picture,),
        (picture,),
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(evidence(predictions(refused=(4,)), ("Ten films are known.",)))


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|\#)""", page)
    without_pictures = re.sub(r"data:[^\"]+", "", page)
    assert "http" not in without_pictures
    assert "url(" not in without_pictures
    assert "<script" not in page
    assert "<link" not in page


def test_the_page_is_small_enough_to_mail(page: str) -> None:
    assert len(page) < 3_000_000


def test_every_section_is_there_in_order(page: str) -> None:
    assert Outline(page).headings == [
        "Read this before the figures",
        "What is missed, by disease",
        "Healthy against diseased",
        "Class by class",
        "Confusion matrix",
        "Curves of each class",
        "Top losses",
        "Films as the model sees them",
        "Training",
        "Films and sources",
        "For the record",
    ]


def test_tags_are_closed_in_order_and_every_picture_is_said_in_words(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.images) == 9
    assert all(image["alt"] for image in outline.images)


def test_recall_of_disease_comes_before_any_other_figure_with_the_films_behind_it(page: str) -> None:
    figures = re.findall(r'<dd class="value">(.*?)</dd>', page)
    metrics = evidence(predictions(refused=(4,))).metrics
    found = metrics.detection.sensitivity
    assert figures[0] == f"{100 * (found.value or 0):.1f} %"
    first_screen = page[: page.index("<nav")]
    assert f"{found.hits:,} of {found.films:,} diseased films found" in first_screen
    assert "Ten films are known." in first_screen
    assert NOTICE in first_screen


def test_names_from_strangers_are_escaped() -> None:
    nasty = "<script>alert(1)</script>"
    given = predictions()
    renamed = replace(given, classes=(nasty, *given.classes[1:]))
    page = render(evidence(renamed))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_refused_films_are_listed_with_their_reason(page: str) -> None:
    assert "/films/film_4.png" in page
    assert "truncated: the stream ends early; fetch it again" in page


def test_a_split_without_healthy_films_gives_a_page_that_says_so() -> None:
    given = predictions(30)
    sick = np.flatnonzero(given.sick[given.labels])
    only = Predictions(
        given.films.take(sick), given.classes, given.healthy, given.labels[sick], given.probabilities[sick],
        tuple(given.refused[row] for row in sick),
    )  # fmt: skip
    page = render(evidence(only))
    assert "not measured: no healthy film in this selection" in page
    assert "No curve can be drawn" in page
    assert "nan" not in re.sub(r"data:[^\"]+", "", page).lower().replace("finance", "")


def test_without_a_history_there_is_no_training_section() -> None:
    assert training(evidence()).blocks
    assert not training(replace(evidence(), history=())).blocks


def test_the_same_evidence_gives_the_same_page(page: str) -> None:
    assert render(evidence(predictions(refused=(4,)), ("Ten films are known.",))) == page


def test_the_terminal_shows_recall_of_disease_first_and_the_worst_disease() -> None:
    shown = lines(evidence().metrics, evidence().belief)
    assert shown[0].startswith("Recall of disease")
    assert "95 % interval" in shown[0]
    assert any(line.startswith("Worst disease") for line in shown)


def test_the_first_screen_has_recall_interval_and_verdict_together(page: str) -> None:
    shown = lines(evidence().metrics, evidence().belief)
    assert [line[:31].strip() for line in shown[:3]] == [
        "Recall of disease (sensitivity)", "Can this be believed?", "Within one source",
    ]  # fmt: skip
    assert "tells COVID-19 (AUC 0.98)" in shown[1]
    assert "hospital_a 0." in shown[2]
    screen = page.partition("<nav")[0]
    assert 'class="verdict confounded"' in screen
    assert "tells COVID-19 (AUC 0.98)" in screen
    assert screen.index("Recall of disease") < screen.index("tells COVID-19 (AUC 0.98)")


def test_what_the_model_was_taught_with_is_said_where_it_is_of_another_catalogue() -> None:
    own = replace(evidence().belief, trained=CONFOUNDED)
    assert own.lines()[-1] == ("The films it was taught with", CONFOUNDED.sentence)
    assert own.to_dict()["trained"]["grade"] == "confounded"


def test_a_source_without_both_sides_has_no_figure_of_its_own() -> None:
    sick = predictions()
    only = replace(sick, labels=np.zeros_like(sick.labels))
    assert within_sources(only) == {}
    said = dict(Belief(CONFOUNDED, {}).lines())
    assert said["Within one source"] == "no source has films enough of both health and disease"


def test_samples_are_drawn_from_each_class_and_never_twice() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2])
    rows = sample_rows(labels, 4, seed=0)
    assert np.bincount(labels[rows]).tolist() == [4, 3, 1]
    assert len(set(rows.tolist())) == len(rows)
