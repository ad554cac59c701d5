"""A promise held against other films: kept, open, or broken; and what the page says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from carina.errors import ClaimError
from carina.evaluation.calibrate import calibrate
from carina.evaluation.claim_sections import (
    first,
    lines,
    meaning,
    operating_points,
    probabilities,
    spoken,
)
from carina.evaluation.evaluate import Evaluation, evaluate
from carina.evaluation.people import People
from carina.evaluation.promises import Claims, claims, held
from carina.evaluation.thresholds import operating_point
from tests.bundles import tiny_bundle
from tests.evaluation import worlds


def shown(ill: np.ndarray, well: np.ndarray | None = None) -> People:
    well = np.linspace(0, 0.4, 100) if well is None else well
    return People(ill, {"COVID-19": ill}, well, np.concatenate([ill, well]))


POINT = operating_point(shown(np.linspace(0.3, 1, 300)), 0.95, 0.95)


@pytest.mark.parametrize(
    ("found", "people", "verdict"),
    [
        (290, 300, "kept"),
        (285, 300, "kept"),
        (280, 300, "open"),
        (260, 300, "broken"),
        (2, 3, "open"),
        (0, 3, "broken"),
        (0, 0, "nobody to find"),
    ],
)
def test_a_promise_is_broken_only_where_the_upper_limit_lies_below_it(
    found: int, people: int, verdict: str
) -> None:
    scores = np.where(np.arange(people) < found, 1.0, 0.0)
    assert held(POINT, shown(scores)).verdict == verdict


def test_films_like_those_of_the_calibration_break_a_promise_in_no_more_worlds_than_said() -> None:
    """α is spent twice, once here and once there: a kept promise is called broken in fewer than 1 of 20."""
    rng, broken = np.random.default_rng(1), 0
    for _ in range(500):
        point = operating_point(shown(rng.beta(4, 1.5, 200)), 0.9, 0.95)
        broken += held(point, shown(rng.beta(4, 1.5, 200))).verdict == "broken"
    assert broken / 500 <= 0.05


def test_another_hospital_is_noticed() -> None:
    elsewhere = claims_of([held(POINT, shown(np.linspace(0.0, 1, 200)))])
    assert spoken(elsewhere)[0].startswith("The promise of 95 % is broken on these films")
    assert ": broken;" in lines(elsewhere)[0]


def claims_of(points: list[object]) -> Claims:
    return Claims(reliability=None, site="north", points=tuple(points))  # type: ignore[arg-type]


def test_the_page_has_promise_and_finding_side_by_side() -> None:
    section = operating_points(claims_of([held(POINT, shown(np.linspace(0.3, 1, 100)))]))
    (row,) = section.blocks[0].rows  # type: ignore[union-attr]
    assert row[0] == "95 %"
    assert row[1] == "95.2 %"
    assert row[4] == "kept"
    assert not operating_points(Claims(None)).blocks


def test_what_a_flag_means_is_said_by_prevalence_never_at_the_mixture_of_the_films() -> None:
    section = meaning(claims_of([held(POINT, shown(np.linspace(0.3, 1, 100)))]))
    text, chart, by_prevalence = section.blocks
    assert "The same film through the same model again adds nothing" in text.text  # type: ignore[union-attr]
    assert chart.uri.startswith("data:image/svg+xml;base64,")  # type: ignore[union-attr]
    assert [line[0] for line in by_prevalence.rows] == ["1 %", "5 %", "10 %", "30 %"]  # type: ignore[union-attr]
    assert not meaning(Claims(None)).blocks


def test_the_first_screen_has_the_recall_at_the_highest_point_with_its_limit_and_its_people() -> None:
    point = held(POINT, shown(np.linspace(0.3, 1, 100)))
    ((label, text),) = first(claims_of([point]))
    assert label == "Recall at the 95 % point of north"
    assert f"{point.sensitivity.hits} of 100 diseased people" in text
    assert "at least 95.2 % at 95 % confidence; kept" in text


def test_reliability_is_shown_without_any_site() -> None:
    section = probabilities(claims(worlds.predictions(300), None))
    table, chart = section.blocks
    assert len(table.rows) == 1  # type: ignore[union-attr]
    assert chart.uri.startswith("data:image/svg+xml;base64,")  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("promises")
    films = worlds.write_films(folder / "films", 120, size=64)
    catalogue = worlds.write_catalogue(folder / "catalogue", films, films_per_patient=1)
    known = catalogue.table("train")["sha256"].to_pylist()[:1]
    bundle = tiny_bundle(folder / "bundle", worlds.CLASSES, 64, trained_on=known)
    calibrate(bundle, catalogue, targets=(0.8, 0.9), out=folder / "calibrated", site="north")
    return evaluate(folder / "calibrated", catalogue, split="train", out=folder / "out")


def test_an_evaluation_holds_the_only_site_against_its_films(evaluation: Evaluation) -> None:
    written = json.loads((evaluation.out / "metrics.json").read_text())["claims"]
    assert written["site"] == "north"
    assert [point["target"] for point in written["points"]] == [0.8, 0.9]
    assert written["same_films"] is False
    assert written["corrected"]["ece"] >= 0
    assert sum("Target 9" in line for line in evaluation.lines()) == 1
    page = (evaluation.out / "report.html").read_text()
    assert 'id="promises"' in page
    assert 'id="reliability"' in page
    assert 'id="meaning"' in page
    assert 'id="likeness"' in page
    assert "Recall at the 90 % point of north" in page.partition("<nav")[0]
    assert "watch" not in written
    assert written["shift"]["index"] >= 0


def test_the_films_of_the_calibration_cannot_test_it(evaluation: Evaluation, tmp_path: Path) -> None:
    folder = evaluation.out.parent
    again = evaluate(folder / "calibrated", folder / "catalogue", split="valid", out=tmp_path / "out")
    assert "chosen on these very films" in again.lines()[0]
    written = json.loads((again.out / "metrics.json").read_text())["claims"]
    assert {point["verdict"] for point in written["points"]} == {"not tested"}
    assert sum(": not tested;" in line for line in again.lines()) == 2
    with pytest.raises(ClaimError, match="no operating point for the site 'south'"):
        evaluate(folder / "calibrated", folder / "catalogue", site="south", out=tmp_path / "out")
