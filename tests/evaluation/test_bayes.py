"""One patient, some results: the exact posterior, its credible interval, and what dependence takes away."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.errors import ClaimError
from carina.evaluation.bayes import Share, Test, posterior, predictive_values, share
from carina.evaluation.bayes_page import write_chart
from carina.evaluation.dependence import Pairs, by_covariance, by_share, combine, counted, read_pairs
from carina.evaluation.posteriors import answer
from carina.evaluation.wording import chance

REPORT = Test(Share("0.95", 0.95), Share("0.90", 0.90))


def at(prevalence: str) -> Share:
    return share(prevalence, "the prevalence")


@pytest.mark.parametrize(
    ("results", "ill", "well"),
    [
        ("+", Fraction(95, 100), Fraction(10, 100)),
        ("++", Fraction(95, 100) ** 2, Fraction(10, 100) ** 2),
        ("+-", Fraction(95 * 5, 100**2), Fraction(10 * 90, 100**2)),
        ("---", Fraction(5, 100) ** 3, Fraction(90, 100) ** 3),
    ],
)
def test_the_posterior_is_bayes_theorem(results: str, ill: Fraction, well: Fraction) -> None:
    expected = Fraction(1, 20) * ill / (Fraction(1, 20) * ill + Fraction(19, 20) * well)
    last = posterior(at("0.05"), [REPORT], results)[-1].probability
    assert last.value == pytest.approx(float(expected), rel=1e-12)
    assert last.low is None


def test_the_order_of_results_does_not_matter_and_each_step_is_there() -> None:
    one, other = posterior(at("0.05"), [REPORT], "+-"), posterior(at("0.05"), [REPORT], "-+")
    assert one[-1].probability.value == pytest.approx(other[-1].probability.value)
    assert [step.results for step in one] == ["", "+", "+-"]


def test_counts_give_an_interval_that_holds_the_truth_as_often_as_it_says() -> None:
    """The rates are drawn from the prior, then counted: a Bayesian interval must then hold in 95 %."""
    rng, held, rounds = np.random.default_rng(4), 0, 300
    for number in range(rounds):
        sensitivity, specificity = rng.beta(0.5, 0.5, size=2)
        hits, spared = rng.binomial(80, sensitivity), rng.binomial(120, specificity)
        truth = 0.2 * sensitivity / (0.2 * sensitivity + 0.8 * (1 - specificity))
        test = Test(share(f"{hits}/80", "a rate"), share(f"{spared}/120", "a rate"))
        found = posterior(at("0.2"), [test], "+", seed=number, draws=4000)[-1].probability
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert abs(held / rounds - 0.95) <= 3 * (0.05 * 0.95 / rounds) ** 0.5


def test_a_test_that_never_failed_is_not_believed_to_be_faultless() -> None:
    faultless = Test(share("60/60", "a rate"), share("40/40", "a rate"))
    (_, after) = posterior(at("0.05"), [faultless], "-")
    assert after.probability.value > 0
    assert after.probability.high is not None
    assert after.probability.high > 0.001


def test_a_prevalence_may_be_counted_too() -> None:
    known, unsure = (posterior(at(p), [REPORT], "+")[-1].probability for p in ("0.05", "12/240"))
    assert known.low is None
    assert unsure.low is not None
    assert unsure.low < known.value < (unsure.high or 0)


def test_predictive_values_are_those_of_the_stated_prevalence() -> None:
    values = predictive_values(REPORT, at("0.05"))
    assert values.positive.value == pytest.approx(1 / 3)
    assert values.negative.value == pytest.approx(0.855 / (0.855 + 0.0025))
    assert predictive_values(REPORT, at("0.5")).positive.value == pytest.approx(0.95 / 1.05)


@pytest.mark.parametrize("results", ["++", "+-", "-+", "--"])
def test_without_covariance_two_tests_multiply(results: str) -> None:
    other = Test(Share("0.8", 0.8), Share("0.99", 0.99))
    found = combine(at("0.05"), by_share(REPORT, other, 0.0), results)
    naive = posterior(at("0.05"), [REPORT, other], results)[-1].probability.value
    assert found.joint.value == pytest.approx(naive)
    assert found.overstated.value == pytest.approx(0, abs=1e-12)


def test_covariance_follows_vacek() -> None:
    c_ill, c_well = 0.02, 0.03
    found = combine(at("0.05"), by_covariance(REPORT, REPORT, c_ill, c_well), "++")
    ill, well = 0.95**2 + c_ill, 0.1**2 + c_well
    assert found.joint.value == pytest.approx(0.05 * ill / (0.05 * ill + 0.95 * well))
    assert found.naive.value == pytest.approx(0.82608695652)
    assert found.overstated.value == pytest.approx(found.naive.value - found.joint.value)
    assert found.covariance_well.value == pytest.approx(c_well)
    assert found.dependence_well.value == pytest.approx(c_well / 0.09)


def test_as_dependent_as_can_be_is_one_test() -> None:
    once = posterior(at("0.05"), [REPORT], "+")[-1].probability.value
    assert combine(at("0.05"), by_share(REPORT, REPORT, 1.0), "++").joint.value == pytest.approx(once)
    with pytest.raises(ClaimError, match="cannot happen"):
        combine(at("0.05"), by_share(REPORT, REPORT, 1.0), "+-")


def test_rates_bound_the_covariance() -> None:
    with pytest.raises(ClaimError, match=r"among the healthy: these rates allow -0\.0100 to 0\.0900"):
        by_covariance(REPORT, REPORT, 0.0, 0.1)


def test_pairs_give_rates_and_covariance_back() -> None:
    """20,000 people drawn with a known covariance: it is found, and the naive posterior is far off."""
    rng, cells = np.random.default_rng(9), np.array([0.02 + 0.95**2, 0.0275, 0.0275, 0.0225])
    wells = np.array([0.03 + 0.01, 0.06, 0.06, 0.84])
    pairs = Pairs(*(tuple(int(n) for n in rng.multinomial(10_000, c / c.sum())) for c in (cells, wells)))
    found = combine(at("0.05"), counted(pairs), "++")
    for estimate, truth in ((found.covariance_ill, 0.02), (found.covariance_well, 0.03)):
        assert (estimate.low or 1) < truth < (estimate.high or 0)
    assert found.overstated.low is not None
    assert found.overstated.low > 0.2


def test_too_few_errors_tell_no_dependence_and_erring_apart_has_its_own_bound(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    head = "truth,first,second,people\n"
    path.write_text(head + "1,1,1,80\n1,1,0,10\n1,0,1,10\n0,0,0,60\n0,1,0,3\n", "utf-8")
    said = answer("0.05", "++", (), (), paired=path).lines
    assert said[-1].endswith("too few to tell how far both err together.")
    assert "they err apart" in said[-2]
    share = combine(at("0.05"), counted(Pairs((80, 10, 10, 0), (0, 3, 0, 60))), "++").dependence_ill.value
    assert -1 <= share < -0.5  # of the smallest covariance, -0.01; the largest, 0.09, is no bound for it


def test_an_interval_holds_the_value_that_stands_before_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "truth,first,second,people\n1,1,1,104\n1,1,0,8\n1,0,1,5\n1,0,0,3\n0,1,1,11\n0,1,0,13\n0,0,1,9\n0,0,0,207\n"
    )
    for results, verb in (("++", "overstates"), ("+-", "understates"), ("--", "understates")):
        (said,) = (line for line in answer("0.05", results, (), (), paired=path).lines if verb in line)
        value, low, high = (float(each) for each in re.findall(r"-?\d+\.\d+", said.partition(";")[0]))
        assert low < value < high
    assert "the chance is 3.7 times what multiplying says" in said, (
        "on the side on which disease is missed a small difference is a large factor"
    )


def test_pairs_are_read_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("truth,first,second,people\n1,+,-,3\nyes,1,1,2\n0,no,positive,4\n")
    assert read_pairs(path) == Pairs((2, 3, 0, 0), (0, 0, 4, 0))
    for content, said in (
        ("truth,first\n1,1\n", "no column 'second'"),
        ("truth,first,second\n1,1,maybe\n", "line 2: 'maybe' is no answer"),
        ("truth,first,second,people\n1,1,1,x\n", "line 2: 'x' is no number of people"),
    ):
        path.write_text(content)
        with pytest.raises(ClaimError, match=said):
            read_pairs(path)
    with pytest.raises(ClaimError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"prevalence": "5"}, "the prevalence '5' is no share"),
        ({"prevalence": "3/0"}, "3 of 0 is no share"),
        ({"results": "+x"}, "is no row of results"),
        ({"sensitivity": ("0.9", "0.8")}, "2 sensitivities and 1 specificities"),
        ({"dependence": 0.5, "same_film": True}, "depend on each other in one way"),
        ({"dependence": 2.0}, "a dependence of 2"),
        ({"covariance": "0.1"}, "no pair of covariances"),
        ({"same_film": True, "results": "+-"}, "always gives the same result"),
        ({"results": "+++", "dependence": 0.5}, "known for two results"),
        ({"specificity": ("1",)}, None),
    ],
)
def test_questions_that_make_no_sense_are_refused(words: dict[str, object], said: str | None) -> None:
    question = {
        "prevalence": "0.05",
        "results": "++",
        "sensitivity": ("0.95",),
        "specificity": ("0.9",),
    } | words
    if said is None:
        assert answer(**question).table[1][-1][1] == "100.0 %"  # type: ignore[arg-type]
        return
    with pytest.raises(ClaimError, match=said):
        answer(**question)  # type: ignore[arg-type]


def test_impossible_results_are_said_to_be_impossible() -> None:
    sure = Test(Share("1", 1.0), Share("1", 1.0))
    with pytest.raises(ClaimError, match="cannot happen with these rates"):
        posterior(at("0.05"), [sure], "+-")


def test_a_probability_keeps_its_first_digits_at_both_ends() -> None:
    assert [chance(p) for p in (0.82608, 0.000154, 0.99985, 0.0, 1.0, 0.01)] == [
        "82.6 %", "0.015 %", "99.985 %", "0.0 %", "100.0 %", "1.0 %",
    ]  # fmt: skip


@pytest.mark.parametrize(("results", "said"), [("+", "above 99.9999 %"), ("-", "below 0.0001 %")])
def test_no_row_of_results_is_rounded_into_certainty(results: str, said: str) -> None:
    known = Test(Share("", 0.95), Share("", 0.90))
    steps = posterior(at("0.05"), [known], 40 * results)
    assert all(0 < step.probability.value < 1 for step in steps)
    assert chance(steps[-1].probability.value) == said
    assert chance(1 - 0.00000002) == "above 99.9999 %"


def test_the_verb_says_that_the_same_film_adds_nothing(tmp_path: Path) -> None:
    words = ["bayes", "--prevalence", "0.05", "--sensitivity", "0.95", "--specificity", "0.90"]
    said = CliRunner().invoke(app, [*words, "--tests", "++"]).stdout
    assert "82.6 %" in said
    assert "adds nothing: that would be 33.3 %, not 82.6 %" in said
    said = CliRunner().invoke(app, [*words, "--tests", "++", "--same-film"]).stdout
    assert "33.3 %" in said
    assert "82.6 %" not in said


def test_the_chart_is_one_svg_file(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    write_chart(answer("0.05", "++", ("0.95",), ("0.9",), dependence=0.5), path)
    assert path.read_bytes().lstrip().startswith(b"<?xml")
    assert b"http://" not in path.read_bytes().replace(b"http://www.w3.org", b"").replace(
        b"http://purl.org", b""
    ).replace(b"http://creativecommons.org", b"").replace(b"http://matplotlib.org", b"")
