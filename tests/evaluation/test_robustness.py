"""The same films, framed, exposed and shrunk otherwise: what changes, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carina.errors import DataError
from carina.evaluation.answers import squares
from carina.evaluation.bootstrap import Area, Rate
from carina.evaluation.evaluate import evaluate
from carina.evaluation.promises import Found, Held
from carina.evaluation.results import for_card
from carina.evaluation.robustness import (
    AS_THEY_ARE,
    CHANGES,
    Changed,
    blurred,
    changes,
    cropped,
    framed,
    toned,
)
from carina.evaluation.robustness_sections import lines
from carina.evaluation.robustness_sections import robustness as robustness_section
from carina.images.preparation import Preparation
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer
from tests.bundles import tiny_bundle
from tests.evaluation.worlds import CLASSES, write_catalogue, write_films

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))  # dark at the left, bright at the right


def test_every_change_gives_a_square_of_the_old_size_and_another_picture() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for name, change in CHANGES.items():
        there = change(grain)
        assert (there.shape, there.dtype) == ((64, 64), np.uint8), name
        assert np.abs(there.astype(int) - grain).mean() > 1, name


def test_a_crop_shows_the_middle_larger() -> None:
    there = cropped(RAMP, 0.25)
    assert abs(int(there[32, 0]) - int(RAMP[32, 16])) <= 4
    assert abs(int(there[32, -1]) - int(RAMP[32, 47])) <= 4


def test_a_frame_is_black_and_holds_the_whole_film() -> None:
    there = framed(RAMP + 3, 0.125, 0.0)
    assert not there[:8].any()
    assert not there[-8:].any()
    assert np.abs(there[32].astype(int) - (RAMP[32] + 3)).max() <= 1


@pytest.mark.parametrize(
    ("options", "black", "middle", "white"),
    [
        ({"exponent": 0.5}, 0, 180, 255),
        ({"gain": 0.6, "lift": 40}, 40, 116, 193),
        ({"lift": 300}, 255, 255, 255),
    ],
)
def test_tones_follow_their_curve_and_stay_gray_values(
    options: dict[str, float], black: int, middle: int, white: int
) -> None:
    assert toned(np.array([[0, 127, 255]], np.uint8), **options).tolist() == [[black, middle, white]]


def test_a_small_copy_loses_what_is_fine_and_keeps_what_is_coarse() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.ptp(blurred(stripes, 0.5)[:, 8:-8].astype(int)) < 60
    assert np.abs(blurred(RAMP, 0.5).astype(int) - RAMP)[:, 4:-4].max() <= 2


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An evaluation with --robustness, and one without, of the same films."""
    folder = tmp_path_factory.mktemp("robust")
    catalogue = write_catalogue(folder / "catalogue", write_films(folder / "films", 24))
    bundle = tiny_bundle(folder / "bundle", CLASSES, 64)
    told: list[Any] = []
    with_it = evaluate(bundle, catalogue, out=folder / "with", robust=True, progress=told.append)
    without = evaluate(bundle, catalogue, out=folder / "without")
    return {"with": with_it, "without": without, "told": told, "catalogue": catalogue, "bundle": bundle}


def test_the_films_as_they_are_stand_first_with_the_figures_of_the_evaluation(asked: dict[str, Any]) -> None:
    found = json.loads((asked["with"].out / "metrics.json").read_text())
    first, *changed = found["robustness"]
    assert first["change"] == AS_THEY_ARE
    assert [each["change"] for each in changed] == list(CHANGES)
    assert first["recall"] == found["metrics"]["detection"]["sensitivity"]
    assert first["specificity"] == found["metrics"]["detection"]["specificity"]
    assert first["area"] == found["metrics"]["disease_auc"]
    assert len({json.dumps([each["area"], each["recall"]]) for each in changed}) > 1
    said = [event for event in asked["told"] if event.stage == "robustness"]
    assert (said[-1].done, said[-1].total) == (12, 12)


def test_the_card_has_the_worst_of_it(asked: dict[str, Any]) -> None:
    found = for_card(asked["with"].metrics)["rates"]
    worst = min(asked["with"].metrics["robustness"][1:], key=lambda each: each["recall"]["value"])
    assert found[f"recall of disease, worst of 8 changes to the films: {worst['change']}"] == worst["recall"]
    assert not any("changes to the films" in name for name in for_card(asked["without"].metrics)["rates"])


def test_page_and_terminal_say_the_worst_of_it(asked: dict[str, Any]) -> None:
    page = (asked["with"].out / "report.html").read_text()
    assert "framed, exposed or shrunk otherwise" in page
    assert "12 % black on each side" in page
    assert any(line.startswith("Framed or exposed otherwise") for line in asked["with"].headline)


def test_the_terminal_names_the_lowest_figures_and_the_promises_that_break() -> None:
    usual = changed(AS_THEY_ARE, 0.9, 0.5, "kept")
    assert lines([usual, changed("b", 0.8, 0.5, "kept"), changed("a", 0.85, 0.7, "broken")]) == (
        "Framed or exposed otherwise     recall of disease 80.0 % with b; as they are 90.0 %",
        "                                specificity nowhere below 50.0 %",
        "                                the 95 % promise would be broken: a",
    )


def changed(name: str, recall: float, specificity: float, verdict: Any) -> Changed:
    """Made-up figures under one change, of a bundle with one operating point."""
    rates = (Rate(value, value, value, 9, 10, 10) for value in (recall, specificity))
    found = Found(9, 10, recall, recall, recall)
    point = Held(0.95, 0.95, False, 0.5, 0.95, verdict, found, found, {}, 20, 5)
    return Changed(name, Area(0.9, 0.8, 1.0, 10, 10), *rates, (point,))


def test_a_promise_for_each_disease_shows_the_one_that_is_found_worst() -> None:
    worst, better = Found(1, 10, 0.1, 0.0, 0.4), Found(9, 10, 0.9, 0.6, 1.0)
    usual = changed(AS_THEY_ARE, 0.9, 0.5, "not tested")
    point = dataclasses.replace(usual.points[0], per_class=True, classes={"TB": worst, "Flu": better})
    table = robustness_section([dataclasses.replace(usual, points=(point,))]).blocks[-1]
    assert table.rows[0][1:] == ("10.0 % (1 of 10)", "90.0 % (9 of 10)")
    assert "can only break a promise" in table.caption


def test_what_the_preparation_undoes_is_not_asked_and_the_page_says_so() -> None:
    left = changes(Preparation(64, trim=True, tone="equalised"))
    assert not any("black" in name or "bright" in name or "contrast" in name for name in left)
    assert changes(Preparation(64)) == dict(CHANGES)
    shown = [changed(name, 0.9, 0.5, "kept") for name in (AS_THEY_ARE, *left)]
    assert "brighter (exponent 0.6); darker" in robustness_section(shown).blocks[0].text


def test_nobody_is_asked_who_did_not_want_it(asked: dict[str, Any]) -> None:
    assert asked["without"].metrics["robustness"] == []
    assert "shrunk otherwise" not in (asked["without"].out / "report.html").read_text()
    assert lines(()) == ()


def test_without_packed_pixels_the_files_give_the_same_squares_or_say_which_is_gone(
    asked: dict[str, Any],
) -> None:
    scorer, films = Scorer(Bundle.open(asked["bundle"])), asked["catalogue"].table("valid")
    assert len(list(squares(scorer, films, None))) == 12
    gone = Path(films["path"][3].as_py())
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone.name}: missing: .* it could be read a moment ago"):
        list(squares(scorer, films, None))
