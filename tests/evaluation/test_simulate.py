"""A department for some weeks: what an ordered list gives, what it takes, and what a maximum wait saves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.data.confounding.verdict import Grade, Verdict
from carina.errors import ClaimError
from carina.evaluation import department_page, waiting
from carina.evaluation.department import Department, read_department
from carina.evaluation.simulate import ANY, Policy, Simulation, row, simulate
from carina.scoring.operating import OperatingPoint, Recall, Spared
from tests.evaluation.outline import check_whole, text_of

BUSY: dict[str, Any] = {
    "days": 7,
    "repetitions": 8,
    "arrivals_per_hour": [3, 2, 2, 2, 2, 3, 6, 10, 16, 18, 18, 17, 14, 15, 16, 15, 13, 11, 9, 7, 6, 5, 4, 3],
    "readers": [1] * 8 + [2] * 10 + [1] * 6,
    "reading": {"mean_minutes": 8.4, "sd_minutes": 6.0},
    "model": {"specificity": 0.6, "not_analysed": 0.02},
    "finding": [
        {"name": "Pneumothorax", "share": 0.03, "urgency": "now", "sensitivity": 0.85},
        {"name": "Pneumonia", "share": 0.20, "urgency": "soon", "sensitivity": 0.9},
    ],
}

CONFOUNDED = Verdict(Grade.CONFOUNDED, "Confounded: the source of a film alone tells TB (AUC 0.99).")


def department(**changes: object) -> Department:
    return Department.model_validate(BUSY | changes)


@pytest.fixture(scope="module")
def busy() -> Simulation:
    return simulate(department())


def test_ordering_halves_the_mean_of_the_flagged_and_lengthens_the_longest_wait_of_the_missed(
    busy: Simulation,
) -> None:
    """The shape of published simulations (Baltruschat et al. 2021): mean down, maximum of the missed up."""
    plain, urgent = busy.outcomes[Policy(by_urgency=False)], busy.outcomes[Policy(by_urgency=True)]
    for group in (ANY, "Pneumothorax", "Pneumonia"):
        before, after = (
            row(plain, group, missed=False).mean.value,
            row(urgent, group, missed=False).mean.value,
        )
        assert before is not None
        assert after is not None
        assert after < 0.5 * before
    change = row(urgent, ANY, missed=True).longest.minus(row(plain, ANY, missed=True).longest).interval
    before = row(plain, ANY, missed=True).longest.value
    assert change is not None
    assert before is not None
    assert change[0] > 0.25 * before
    assert change[1] > 0  # in every repetition's terms, not by luck


def test_the_recommended_maximum_wait_brings_the_missed_back_and_keeps_most_of_the_gain(
    busy: Simulation,
) -> None:
    assert busy.recommended is not None
    assert busy.recommended.cap is not None
    plain, capped = busy.outcomes[Policy(by_urgency=False)], busy.outcomes[busy.recommended]
    longest = [row(rows, ANY, missed=True).longest.value or 0 for rows in (plain, capped)]
    means = [row(rows, ANY, missed=False).mean.value or 0 for rows in (plain, capped)]
    assert longest[1] <= 1.05 * longest[0]
    assert means[1] < 0.85 * means[0]


def test_no_policy_saves_reading_time_only_its_order(busy: Simulation) -> None:
    """The mean over all films hardly moves: what one gains another pays."""
    means = []
    for rows in busy.outcomes.values():
        parts = [each for each in rows if each.group != ANY and each.mean.value is not None]
        weights = [each.films for each in parts]
        means.append(float(np.average([each.mean.value or 0 for each in parts], weights=weights)))
    assert max(means) - min(means) < 0.06 * means[0]


def test_what_could_not_be_analysed_never_sinks(busy: Simulation) -> None:
    rows = busy.outcomes[Policy(by_urgency=True)]
    refused, unflagged = row(rows, "not analysed", missed=False), row(rows, ANY, missed=True)
    assert (refused.mean.value or 0) < 0.5 * (unflagged.mean.value or 0)


def test_the_same_seed_gives_the_same_figures() -> None:
    said = [
        repr(simulate(department(days=3, repetitions=2, caps_minutes=[60], seed=seed)).outcomes)
        for seed in (0, 0, 1)
    ]
    assert said[0] == said[1] != said[2]


def test_one_reader_and_first_come_first_served_is_a_known_queue() -> None:
    """M/M/1 has mean wait ρ / (μ - λ): 6 films an hour, 7.5 minutes each, gives 22.5 minutes."""
    # Pollaczek and Khinchine ask for mean and variance only: those of an exponential will do.
    reading = {"mean_minutes": 7.5, "sd_minutes": 7.5}
    one_reader = department(
        days=60,
        repetitions=6,
        arrivals_per_hour=[6] * 24,
        readers=[1] * 24,
        reading=reading,
        caps_minutes=[1e9],
    )
    found = simulate(one_reader)
    mean = row(found.outcomes[Policy(by_urgency=False)], "no finding", missed=False).mean.interval
    assert mean is not None
    assert mean[0] == pytest.approx(22.5, rel=0.12)


def test_a_list_that_is_never_long_gains_nothing_and_that_is_said() -> None:
    quiet = simulate(department(days=3, repetitions=3, readers=[6] * 24, caps_minutes=[30]))
    assert any("gains next to nothing" in line for line in waiting.lines(quiet))


def test_the_words_say_gain_price_and_advice(busy: Simulation) -> None:
    said = waiting.lines(busy)
    assert said[0].startswith("Ordered by urgency, flagged disease waits ")
    assert said[1].startswith("The price: the longest wait of missed disease is ")
    assert said[2].startswith(f"Advised: read first what has waited {busy.recommended.cap:.0f} minutes")  # type: ignore[union-attr]
    head, rows = waiting.table(busy, Policy(by_urgency=True))
    assert [name for name, *_ in rows][:4] == [
        "any disease, flagged",
        "any disease, missed",
        "Pneumothorax (now), flagged",
        "Pneumothorax (now), missed",
    ]
    assert len(head) == len(rows[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"readers": [1] * 24}, "readers are needed 127 % of their time"),
        ({"readers": [0] * 24}, "readers are needed inf % of their time"),
        ({"arrivals_per_hour": [1] * 23}, "arrivals_per_hour"),
        ({"warm_up_days": 7}, "warm_up_days must be fewer"),
        ({"caps_minutes": [0]}, "more than 0 minutes"),
        ({"finding": []}, "finding"),
        (
            {"finding": [{"name": "TB", "share": 0.6, "urgency": "now", "sensitivity": 1}] * 2},
            "name of its own",
        ),
        ({"beds": 4}, "beds"),
    ],
)
def test_a_department_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        department(**changes)


MEASURED = """
arrivals_per_hour = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
readers = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
reading = { mean_minutes = 8.0, sd_minutes = 5.0 }
[model]
[[finding]]
name = "Pneumonia"
share = 0.1
urgency = "soon"
[[finding]]
name = "Pneumothorax"
share = 0.1
urgency = "now"
sensitivity = 0.85
"""


def test_measured_recall_stands_where_the_file_says_none_and_over_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "dept.toml"
    path.write_text(MEASURED, "utf-8")
    point = OperatingPoint(
        target=0.9, confidence=0.95, per_class=False, threshold=0.3,
        sensitivity=Recall(found=95, people=100, limit=0.9), films=200, below=50,
        specificity=Spared(spared=70, people=100, low=0.6, high=0.8),
        classes={"Pneumonia": Recall(found=94, people=100, limit=0.88)},
    )  # fmt: skip
    with pytest.raises(ClaimError, match=r"model\.specificity: is missing"):
        read_department(path)
    changed = read_department(path, point)
    assert [each.sensitivity for each in changed.finding] == [0.94, 0.85]
    assert changed.model.specificity == 0.7
    assert [each.measured for each in changed.finding] == [(94, 100), None]
    assert changed.model.measured == (70, 100)
    path.write_text(MEASURED.replace("[model]", "[model]\nspecificity = 0.1"), "utf-8")
    assert read_department(path, point).model.specificity == 0.7
    with pytest.raises(ClaimError, match=r"dept\.toml: no finding is one of the bundle's diseases"):
        read_department(path, point.model_copy(update={"classes": {}}))


def test_a_small_sample_without_a_miss_does_not_make_the_model_perfect() -> None:
    known = {"name": "TB", "share": 0.2, "urgency": "now", "sensitivity": 1.0}
    sure = simulate(department(days=3, repetitions=20, finding=[known]))
    few = simulate(department(days=3, repetitions=20, finding=[known | {"measured": [11, 11]}]))
    missed = [row(each.outcomes[Policy(by_urgency=True)], "TB", missed=True).films for each in (sure, few)]
    found = row(few.outcomes[Policy(by_urgency=True)], "TB", missed=False).films
    assert missed[0] == 0
    assert 0.01 < missed[1] / (missed[1] + found) < 0.10  # Jeffreys' mean is 0.5 of 12, 4.2 %
    assert waiting.rates(few)[0].startswith("Measured: recall of TB 11 of 11; what such counts leave open")
    assert waiting.rates(few)[1].startswith("Assumed by the file, not measured: specificity")
    with pytest.raises(ValueError, match="12 of 11 people"):
        department(finding=[known | {"measured": [12, 11]}])


def test_the_verb_reads_a_file_and_names_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "dept.toml"
    example = Path(__file__).parents[2] / "docs" / "examples" / "department.toml"
    path.write_text(
        example.read_text("utf-8")
        .replace("days = 15", "days = 2")
        .replace("repetitions = 12", "repetitions = 2"),
        "utf-8",
    )
    said = CliRunner().invoke(app, ["simulate", "--config", str(path)])
    assert said.exit_code == 0
    assert "first come first served" in said.stdout
    assert "TB (soon), missed" in said.stdout
    path.write_text("days = 'many'")
    with pytest.raises(ClaimError, match=r"dept\.toml: days: "):
        read_department(path)
    path.write_text("days =")
    with pytest.raises(ClaimError, match="is not valid TOML"):
        read_department(path)


def test_without_simpy_the_cure_is_named() -> None:
    code = """
import sys
sys.modules["simpy"] = None
try:
    import carina.evaluation.simulate
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        "carina simulate needs an optional part; install it with: pip install 'carina[report]'" in done.stdout
    )


def test_the_page_shows_the_wait_that_was_won_beside_the_price_and_what_was_only_assumed(
    busy: Simulation,
) -> None:
    page = department_page.render(busy, None)
    assert check_whole(page).headings == [
        "What an order gives, and what it takes",
        "Who waits how long",
        "What went in",
    ]
    text = text_of(page)
    best = busy.recommended
    assert best is not None
    plain, advised = (
        row(busy.outcomes[each], ANY, missed=False).mean.value for each in (Policy(by_urgency=False), best)
    )
    assert f"Flagged disease waits, mean {advised:.0f} min" in text
    assert f"instead of {plain:.0f} min; {best.name}" in text
    assert "Recall of Pneumothorax 85.0 % assumed by the file" in text
    assert "Pneumonia (soon), missed" in text


def test_a_recall_that_was_measured_stands_on_the_page_with_its_limit_and_its_people(
    busy: Simulation,
) -> None:
    finding = [BUSY["finding"][0] | {"sensitivity": 1.0, "measured": (11, 11)}]
    here = department(finding=finding)
    text = text_of(department_page.render(replace(busy, department=here), CONFOUNDED))
    assert f"Can this be believed? {CONFOUNDED.sentence}" in text
    assert "Recall of Pneumothorax 100.0 % at least 76.1 % at 95 % confidence 11 of 11 people" in text
