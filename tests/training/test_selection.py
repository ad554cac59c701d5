from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carina.data.catalogue import Catalogue
from carina.errors import CarinaError, DataError, RecipeError
from carina.evaluation.evaluate import evaluate
from carina.scoring.bundle import Bundle
from carina.training.augment import shown
from carina.training.recipe import Augment, Recipe, parse_recipe
from carina.training.selection import Part, select
from carina.training.train import train
from tests.training.small import Small

CLASSES = Small.classes


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """60 films to learn from, 18 to check on, of three classes in equal parts."""
    return Small().catalogue(tmp_path_factory.mktemp("data"), {"train": 60, "valid": 18, "test": 3})


def recipe(seed: int = 0, **data: Any) -> Recipe:
    return parse_recipe({"train": {"seed": seed}, "data": data, "stage": [{"epochs": 1, "lr": 1e-3}]})


def counts(part: Part, classes: int = 3) -> list[int]:
    return np.bincount(part.labels, minlength=classes).tolist()


def test_all_films_of_the_catalogue_are_taken_in_its_order(catalogue: Catalogue) -> None:
    classes, parts = select(catalogue, recipe())
    assert classes == CLASSES
    assert list(parts["train"].sha256s) == catalogue.table("train").column("sha256").to_pylist()
    assert counts(parts["valid"]) == [6, 6, 6]


def test_a_balanced_subset_has_so_many_training_films_of_each_class_and_leaves_validation_whole(
    catalogue: Catalogue,
) -> None:
    _, parts = select(catalogue, recipe(per_class=7))
    assert counts(parts["train"]) == [7, 7, 7]
    assert counts(parts["valid"]) == [6, 6, 6]
    assert len(set(parts["train"].sha256s)) == 21


def test_the_subset_is_the_seeds_and_a_smaller_one_lies_within_a_larger_one(catalogue: Catalogue) -> None:
    few, more, again, other = (
        set(select(catalogue, recipe(seed, per_class=n))[1]["train"].sha256s)
        for seed, n in ((0, 5), (0, 12), (0, 5), (1, 5))
    )
    assert few == again < more
    assert few != other


def test_every_third_film_of_one_class_gets_copies_on_the_training_side_only(catalogue: Catalogue) -> None:
    wanted = {"class": CLASSES[1], "every": 3, "copies": 5}
    _, parts = select(catalogue, recipe(augment=wanted))
    train = parts["train"]
    assert counts(train) == [20, 20 + 7 * 5, 20]  # 7 of 20 films
    assert counts(train.films()) == [20, 20, 20]
    assert counts(parts["valid"]) == [6, 6, 6]
    assert set(train.labels[train.copies > 0]) == {1}
    copied = [sha256 for sha256, copy in zip(train.sha256s, train.copies, strict=True) if copy]
    assert len(set(copied)) == 7
    assert not set(copied) & set(parts["valid"].sha256s)
    assert len(set(train.ids.tolist())) == len(train)  # each copy draws numbers of its own


def test_the_distractor_takes_films_from_both_sides_in_proportion_and_none_has_two_labels(
    catalogue: Catalogue,
) -> None:
    wanted = {"name": "Random subset", "from": list(CLASSES[1:]), "count": 13}
    classes, parts = select(catalogue, recipe(distractor=wanted))
    assert classes == (*CLASSES, "Random subset")
    assert counts(parts["train"], 4)[3] == 10
    assert counts(parts["valid"], 4)[3] == 3
    assert counts(parts["train"], 4)[0] == 20
    assert len(set(parts["train"].sha256s)) == 60


def test_subset_distractor_and_copies_go_together(catalogue: Catalogue) -> None:
    chosen = recipe(
        per_class=10,
        distractor={"name": "Random subset", "from": list(CLASSES[:2]), "count": 12},
        augment={"class": CLASSES[2], "every": 5, "copies": 2},
    )
    _, parts = select(catalogue, chosen)
    assert counts(parts["train"], 4) == [10, 10, 10 + 2 * 2, 9]


@pytest.mark.parametrize(
    ("data", "fault", "says"),
    [
        ({"per_class": 21}, DataError, r"per_class = 21: .* has 20 training films of .*; take at most 20"),
        (
            {"augment": {"class": "Flu", "copies": 2}},
            RecipeError,
            r"\[data\]: augment: 'Flu' is not in the catalogue .* it has Normal, Band in the middle",
        ),
        (
            {"classes": list(CLASSES[:2]), "augment": {"class": CLASSES[2], "copies": 2}},
            RecipeError,
            "augment: 'Band below' is left out of this run's classes",
        ),
        (
            {"distractor": {"name": "x", "from": ["Flu"], "count": 5}},
            RecipeError,
            r"distractor: 'Flu' is not in the catalogue",
        ),
        (
            {"distractor": {"name": "Normal", "from": [CLASSES[1]], "count": 5}},
            RecipeError,
            "distractor: 'Normal' is a class of the catalogue; give it another name",
        ),
        (
            {"distractor": {"name": "x", "from": [CLASSES[1]], "count": 26}},
            DataError,
            r"distractor: count = 26 leaves no train film of Band in the middle \(20 of .* lower the count",
        ),
    ],
)
def test_what_the_films_cannot_give_is_said(
    catalogue: Catalogue, data: dict[str, Any], fault: type[CarinaError], says: str
) -> None:
    with pytest.raises(fault, match=says):
        select(catalogue, recipe(**data))


@pytest.mark.parametrize(
    ("prevalence", "says"),
    [
        (
            {"Flu": 1, **dict.fromkeys(CLASSES, 1)},
            r"\[train\]: prevalence: 'Flu' not among the classes of this run; give",
        ),
        (
            {CLASSES[0]: 1},
            rf"\[train\]: prevalence: no number for {CLASSES[1]}, {CLASSES[2]}; give the films",
        ),
    ],
)
def test_a_prevalence_names_every_class_and_no_other(
    catalogue: Catalogue, prevalence: dict[str, float], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        select(
            catalogue,
            parse_recipe({"train": {"prevalence": prevalence}, "stage": [{"epochs": 1, "lr": 1e-3}]}),
        )


def test_copies_before_the_split_are_refused_because_they_leak() -> None:
    with pytest.raises(
        RecipeError, match=r"\[data\]\.augment: before_split: copies made before the split leak"
    ):
        recipe(augment={"class": "COVID-19", "every": 3, "copies": 5, "before_split": True})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            {"augment": {"clas": "TB", "copies": 5}},
            r"\[data\]\.augment: unknown key 'clas'; did you mean 'class'",
        ),
        ({"augment": {"class": "TB"}}, r"\[data\]\.augment: missing key 'copies'"),
        ({"distractor": {"name": "x", "from": "TB", "count": 5}}, r"\[data\]\.distractor: from: "),
        ({"per_class": 0}, r"\[data\]: per_class: give at least 2"),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(data: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        recipe(**data)


def test_the_options_survive_the_way_through_plain_data(tmp_path: Path) -> None:
    made = recipe(
        augment={"class": "TB", "every": 3, "copies": 5}, distractor={"name": "x", "from": ["TB"], "count": 9}
    )
    assert made.to_dict()["data"]["augment"]["class"] == "TB"
    assert parse_recipe(made.to_dict()) == made


def test_a_copy_is_changed_once_for_good_where_films_are_not() -> None:
    pixels = torch.rand(4, 1, 32, 32) * 255
    copies, ids = np.array([False, True, False, True]), np.arange(4).astype(np.uint64)
    off = Augment(rotate=0, scale=0, shift=0, brightness=0, contrast=0)
    first, second = (shown(pixels.clone(), ids, copies, off, seed=0, epoch=e) for e in (0, 1))
    assert torch.equal(first, second)
    assert [torch.equal(one, other) for one, other in zip(first, pixels, strict=True)] == [True, False] * 2
    anew = [shown(pixels.clone(), ids, copies, Augment(), seed=0, epoch=e) for e in (0, 1)]
    assert not torch.equal(*anew)


def test_copies_are_learned_from_and_a_bundle_counts_only_films(catalogue: Catalogue, tmp_path: Path) -> None:
    chosen = Small().recipe(
        {"size": 32, "epochs": 1, "lr": 1e-2},
        data={"augment": {"class": CLASSES[1], "every": 2, "copies": 3}, "batch": 30},
        train={"augment": "none"},
    )
    out = tmp_path / "run"
    manifest = Bundle.open(train(catalogue, chosen, out)).manifest
    assert manifest.training["steps"] == 3  # 60 films and 30 copies
    assert manifest.data.images == 60
    assert sum(sum(of.values()) for of in manifest.data.counts.values()) == 60


def test_a_bundle_with_a_distractor_has_its_class_and_is_evaluated(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    wanted = {"name": "Random subset", "from": list(CLASSES[1:]), "count": 12}
    chosen = Small().recipe({"size": 32, "epochs": 1, "lr": 1e-2}, data={"distractor": wanted})
    bundle = train(catalogue, chosen, tmp_path / "run")
    assert Bundle.open(bundle).manifest.classes == (*CLASSES, "Random subset")
    result = evaluate(bundle, catalogue.root, split="valid", out=tmp_path / "evaluation")
    assert result.lines()
