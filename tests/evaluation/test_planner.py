"""How many positives a claim needs: against exact rational arithmetic, and by drawing worlds."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.errors import ClaimError
from carina.evaluation.planner import (
    allowed_misses,
    best_claim,
    lower_limit,
    needed,
    plan,
    shortfall,
    showing,
    upper_limit,
)


def exactly_at_most(misses: int, positives: int, rate: Fraction) -> Fraction:
    """P(X ≤ misses) for a binomial X, without any rounding."""
    return sum(
        (
            comb(positives, k) * rate**k * (1 - rate) ** (positives - k)
            for k in range(misses + 1)
        ),
        Fraction(0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sensitivity", "misses", "positives"),
    [
        ("0.90", 0, 29), ("0.90", 1, 46),
        ("0.95", 0, 59), ("0.95", 1, 93),
        ("0.98", 0, 149), ("0.98", 1, 236),
        ("0.99", 0, 299), ("0.99", 1, 473), ("0.99", 2, 628), ("0.99", 5, 1049),
        ("0.995", 0, 598),
        ("0.999", 0, 2995),
    ],
)  # fmt: skip
def test_the_fewest_positives_are_enough_and_one_less_is_not(
    sensitivity: str, misses: int, positives: int
) -> None:
    assert needed(float(sensitivity), 0.95, misses) == positives
    rate, alpha = 1 - Fraction(sensitivity), Fraction(1, 20)
    assert exactly_at_most(misses, positives, rate) <= alpha
    assert exactly_at_most(misses, positives - 1, rate) > alpha


def test_limit_and_plan_say_the_same() -> None:
    for misses in range(6):
        positives = needed(0.97, 0.9, misses)
        assert lower_limit(positives - misses, positives, 0.9) >= 0.97
        assert lower_limit(positives - 1 - misses, positives - 1, 0.9) < 0.97
        assert allowed_misses(positives, 0.97, 0.9) == misses
        assert allowed_misses(positives - 1, 0.97, 0.9) == (misses - 1 if misses else None)


def test_nobody_examined_shows_nothing() -> None:
    assert allowed_misses(0, 0.9, 0.95) is None
    assert lower_limit(0, 0, 0.95) == 0.0
    assert upper_limit(0, 0, 0.95) == 1.0
    assert upper_limit(0, 300, 0.95) == pytest.approx(1 - 0.05 ** (1 / 300))


def test_what_the_data_cannot_carry_is_said_with_the_cure() -> None:
    assert best_claim(112, 0.95) == pytest.approx(0.05 ** (1 / 112))
    assert shortfall(112, 0.99, 0.95) == (
        "112 positives can show at most 97.4 % at 95 % confidence; 299 without a miss are needed for 99 %"
    )
    assert shortfall(0, 0.9, 0.95, "TB").startswith("TB: 0 positives can show nothing at 95 % confidence")


def test_a_published_figure_is_put_in_its_place() -> None:
    """195 of 200 is quoted as 97.5 %. It shows 94.8 %; a two-sided interval would begin at 94.3 %."""
    assert lower_limit(195, 200, 0.95) == pytest.approx(0.948, abs=5e-4)
    assert lower_limit(195, 200, 0.975) == pytest.approx(0.943, abs=5e-4)


def test_the_limit_fails_in_no_more_worlds_than_promised() -> None:
    rng = np.random.default_rng(5)
    for truth in (0.9, 0.95, 0.99):
        found, times = np.unique(rng.binomial(120, truth, size=20_000), return_counts=True)
        failed = sum(n for k, n in zip(found, times, strict=True) if lower_limit(int(k), 120, 0.95) > truth)
        assert failed / 20_000 <= 0.05 + 3 * (0.05 * 0.95 / 20_000) ** 0.5


def test_the_chance_to_pass_grows_with_the_misses_allowed() -> None:
    rows = plan(0.99, 0.95, (5, 0, 1), expected=0.995, prevalence=0.05)
    assert [row.misses for row in rows] == [0, 1, 5]
    chances = [row.chance for row in rows if row.chance is not None]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(0.995**299)
    assert rows[0].to_examine == 5980


def test_positives_turned_round_are_rounded_down() -> None:
    assert showing(112, 0.95, (0, 1)) == [(0, "97.3 %"), (1, "95.8 %")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--misses", "113"], "112 positives and these misses (113): name a number of misses from 0 to 112"),
        (["--positives", "99999999999999"], "no plan means more than 10,000,000"),
        (["--expected", "0.995"], "leave out --expected and --prevalence"),
        (["--prevalence", "0.05"], "leave out --expected and --prevalence"),
    ],
)
def test_a_question_turned_round_that_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["plan", "--positives", "112", *words])
    assert isinstance(done.exception, ClaimError)
    assert said in str(done.exception)


@pytest.mark.parametrize("sensitivity", [0.0, 1.0, 99.0, float("nan")])
def test_what_is_no_rate_is_refused(sensitivity: float) -> None:
    with pytest.raises(ClaimError, match="give a share between 0 and 1"):
        needed(sensitivity, 0.95)


def test_a_claim_beyond_all_plans_is_refused() -> None:
    with pytest.raises(ClaimError, match=r"99\.9999999 % .* needs more than 10,000,000 positives"):
        needed(0.999999999, 0.95)


def test_the_verb_prints_the_planner() -> None:
    said = CliRunner().invoke(app, ["plan", "--sensitivity", "0.99", "--misses", "0,1,2,5"]).stdout
    assert [line.split()[:2] for line in said.splitlines()[3:7]] == [
        ["0", "299"], ["1", "473"], ["2", "628"], ["5", "1049"],
    ]  # fmt: skip
    said = CliRunner().invoke(app, ["plan", "--positives", "112"]).stdout
    assert "299 without a miss are needed for 99 %" in said


def test_what_is_shown_has_the_digits_of_the_claim() -> None:
    said = CliRunner().invoke(app, ["plan", "--sensitivity", "0.9995", "--misses", "0"]).stdout
    assert said.splitlines()[3].split() == ["0", "5990", "99.95", "%"]


def test_no_number_of_misses_is_no_question() -> None:
    done = CliRunner().invoke(app, ["plan", "--sensitivity", "0.99", "--misses", ""])
    assert isinstance(done.exception, ClaimError)
    assert "whole numbers with commas between" in str(done.exception)
