from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from carina.evaluation import conformal
from carina.evaluation.predictions import Predictions
from carina.scoring.sets import Sets

CLASSES = ("TB", "Other", "Normal")
SHARES = (0.1, 0.3, 0.6)


def world(people: int, rng: np.random.Generator, *, films: int = 2) -> Predictions:
    """People of one class each with some films; scores that overlap, the rare class the worst."""
    labels = np.repeat(rng.choice(3, people, p=SHARES), films)
    logits = rng.normal(0, 1.2, (people * films, 3))
    logits += np.repeat(rng.normal(0, 0.8, (people, 3)), films, axis=0)
    logits[np.arange(len(labels)), labels] += np.array([0.8, 1.4, 2.4])[labels]
    powers = np.exp(logits)
    names = [f"p{number}" for number in range(people) for _ in range(films)]
    table = pa.table(
        {"patient": names, "group": [f"g{row}" for row in range(len(labels))], "source": ["x"] * len(labels)}
    )
    return Predictions(
        table, CLASSES, frozenset({"Normal"}), labels, powers / powers.sum(1, keepdims=True),
        (None,) * len(labels),
    )  # fmt: skip


def test_the_sets_hold_each_class_as_often_as_promised_over_drawn_worlds() -> None:
    rng = np.random.default_rng(0)
    covered: dict[str, list[float]] = {name: [] for name in CLASSES}
    for _ in range(120):
        sets = conformal.choose(world(150, rng), 0.9)
        for name, each in conformal.held(world(150, rng), sets).classes.items():
            if each.value is not None:
                covered[name].append(each.value)
    for name, shares in covered.items():
        noise = float(np.std(shares) / np.sqrt(len(shares)))
        assert np.mean(shares) >= 0.9 - 2.5 * noise, name
    assert np.mean(covered["Normal"]) <= 0.93  # no wider than need be, where there are people enough


def test_a_floor_is_the_order_statistic_of_people_not_of_films() -> None:
    rng = np.random.default_rng(1)
    once, twice = world(100, rng, films=1), None
    tripled = once.films.take(np.repeat(np.arange(100), 3))
    twice = Predictions(
        tripled, CLASSES, once.healthy, np.repeat(once.labels, 3), np.repeat(once.probabilities, 3, axis=0),
        (None,) * 300,
    )  # fmt: skip
    assert conformal.choose(once, 0.9).floors == conformal.choose(twice, 0.9).floors
    assert conformal.choose(twice, 0.9).people == conformal.choose(once, 0.9).people


def test_few_people_rule_nothing_out() -> None:
    sets = conformal.choose(world(20, np.random.default_rng(2)), 0.99)
    assert set(sets.floors.values()) == {0.0}
    assert sets.of(CLASSES, (0.98, 0.01, 0.01)) == CLASSES


@pytest.mark.parametrize(
    ("shares", "names"),
    [
        ((0.7, 0.2, 0.1), ("TB", "Other")),
        ((0.05, 0.05, 0.9), ("Normal",)),
        ((0.25, 0.15, 0.6), ("Normal", "TB")),
        ((0.34, 0.33, 0.33), ("TB", "Other")),
        ((0.1, 0.1, 0.8), ("Normal",)),
    ],
)
def test_a_set_holds_what_cannot_be_ruled_out_and_is_never_empty(
    shares: tuple[float, ...], names: tuple[str, ...]
) -> None:
    sets = Sets(
        coverage=0.9,
        floors={"TB": 0.2, "Other": 0.2, "Normal": 0.95 if shares[2] < 0.9 else 0.5},
        people={"TB": 50, "Other": 50, "Normal": 50},
    )
    assert sets.of(CLASSES, shares) == names


def test_a_floor_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="floor between 0 and 1"):
        Sets(coverage=0.9, floors={"TB": 1.2}, people={"TB": 3})
