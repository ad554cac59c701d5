"""The pages of the verbs of a claim: whole, said in words, and each recall with its limit and its people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.evaluation import bayes_page, plan_page
from carina.evaluation.curves import PREVALENCES, apart
from carina.evaluation.planning import plan
from carina.evaluation.posteriors import answer
from tests.evaluation.outline import check_whole, text_of

PAIRED = Path(__file__).parents[2] / "docs" / "examples" / "paired.csv"


def test_the_page_of_two_tests_shows_naive_beside_dependent_with_their_intervals() -> None:
    said = answer("0.05", "++", (), (), paired=PAIRED)
    page = bayes_page.render(said)
    assert check_whole(page).headings == [
        "After each result",
        "At every prevalence",
        "The rates that went in",
    ]
    text = text_of(page)
    assert (
        "Probability of disease after ++, with their dependence 49.3 % 95 % interval 36.6 % to 64.8 %" in text
    )
    assert "++, as if independent 83.5 %" in text
    assert "test 1, sensitivity 93.3 % 88.2 % 112 of 120 people" in text  # value, limit, people behind it


def test_a_rate_that_was_only_stated_says_that_no_count_is_behind_it() -> None:
    text = text_of(bayes_page.render(answer("0.05", "+", ("0.95",), ("180/200",))))
    assert "sensitivity 95 % – stated; no count behind it" in text
    assert "specificity 90.0 % 85.8 % 180 of 200 people" in text


def test_a_curve_passes_through_the_answer_and_its_band_holds_it() -> None:
    counted = answer("0.05", "++", ("95/100",), ("180/200",))
    at = int(np.abs(PREVALENCES - 0.05).argmin())
    near = answer(f"{PREVALENCES[at]}", "++", ("95/100",), ("180/200",)).rows[-1][1]
    last = counted.curves[-1]
    assert last.low is not None
    assert last.high is not None
    assert last.values[at] == pytest.approx(near.value, abs=0.01)
    assert last.low[at] == pytest.approx(near.low, abs=0.02)
    assert last.high[at] == pytest.approx(near.high, abs=0.02)
    assert (last.low <= last.values).all()
    known = apart("++", answer("0.05", "+", ("0.95",), ("0.9",)).tests, "++")
    assert known.low is None
    assert known.values[at] == pytest.approx(
        answer(f"{PREVALENCES[at]}", "++", ("0.95",), ("0.9",)).rows[-1][1].value
    )


def test_naive_lies_above_dependent_at_every_prevalence() -> None:
    naive, real = answer("0.05", "++", ("0.95",), ("0.9",), dependence=0.5).curves
    assert naive.naive
    assert not real.naive
    assert (naive.values > real.values).all()


def test_the_page_of_a_plan_has_the_number_needed_and_what_it_then_shows() -> None:
    page = plan_page.render(plan(0.99, 0.95, expected=0.995, prevalence=0.05))
    assert check_whole(page).headings == ["By misses", "What so many people show"]
    text = text_of(page)
    assert "Positives needed 299 then shown: at least 99.0 %" in text
    assert "With 5 missed 1,049" in text
    assert "People to examine 20,980" in text


def test_the_page_of_a_plan_turned_round_says_what_cannot_be_shown() -> None:
    text = text_of(plan_page.render(plan(0.99, 0.95, positives=112)))
    assert "Sensitivity shown, at least 97.3 % by 112 of 112 found" in text
    assert "Misses that still show 99 % none: too few people" in text
    assert "299 without a miss are needed for 99 %" in text


def test_the_verbs_write_the_page_and_refuse_another_ending_before_they_work(tmp_path: Path) -> None:
    words = [
        "bayes",
        "--prevalence",
        "0.05",
        "--sensitivity",
        "0.95",
        "--specificity",
        "0.9",
        "--tests",
        "++",
    ]
    for line in (words, ["plan"]):
        path = tmp_path / "pages" / f"{line[0]}.html"
        done = CliRunner().invoke(app, [*line, "--report", str(path)], catch_exceptions=False)
        assert done.exit_code == 0
        check_whole(path.read_text("utf-8"))
        refused = CliRunner().invoke(app, [*line, "--report", str(tmp_path / "page.pdf")])
        assert "choose this ending with --report" in str(refused.exception)
        assert not refused.stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bayes.html", "pages", "plan.html"]
