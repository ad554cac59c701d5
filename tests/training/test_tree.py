"""Which runs a study consists of, and what a study file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carina.errors import RecipeError
from carina.training.recipe import Recipe, TrainPart, parse_recipe
from carina.training.study_file import load_study, parse_study
from carina.training.tree import identity, own_epochs, tree

RECIPES = Path(__file__).parents[2] / "recipes"


def stage(size: int, epochs: int = 1, **keys: Any) -> dict[str, Any]:
    return {"size": size, "epochs": epochs, "lr": 1e-3, **keys}


def recipe(*stages: dict[str, Any], **parts: Any) -> Recipe:
    return parse_recipe({"stage": list(stages), **parts})


def row(name: str, *stages: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": name, "stage": list(stages), **keys}


def test_rows_with_the_same_beginning_share_its_run() -> None:
    rows = [("a", recipe(stage(64, 4))), ("b", recipe(stage(64, 4), stage(128, 2)))]
    first, second = tree(rows)
    assert (first.rows, first.parent) == (("a",), None)
    assert (second.rows, second.parent) == (("b",), first.name)
    assert own_epochs((first, second)) == 6  # not 10


def test_where_rows_part_there_is_a_run_though_none_ends_there() -> None:
    rows = [("a", recipe(stage(64), stage(96), stage(96))), ("b", recipe(stage(64), stage(96), stage(128)))]
    nodes = tree(rows)
    assert [node.rows for node in nodes] == [(), ("a",), ("b",)]
    assert [len(node.recipe.stage) for node in nodes] == [2, 3, 3]
    assert {node.parent for node in nodes[1:]} == {nodes[0].name}
    assert own_epochs(nodes) == 4


def test_equal_rows_are_one_run() -> None:
    nodes = tree([("a", recipe(stage(64))), ("b", recipe(stage(64)))])
    assert [node.rows for node in nodes] == [("a", "b")]


@pytest.mark.parametrize(
    "parts", [{"train": {"seed": 1}}, {"data": {"batch": 32}}, {"model": {"backbone": "resnet18"}}]
)
def test_nothing_is_shared_where_anything_else_differs(parts: dict[str, Any]) -> None:
    nodes = tree([("a", recipe(stage(64))), ("b", recipe(stage(64), stage(128), **parts))])
    assert [node.parent for node in nodes] == [None, None]


@pytest.mark.parametrize("parts", [{"data": {"workers": 3}}, {"train": {"checkpoint_minutes": 0}}])
def test_what_decides_no_weight_does_not_part_rows(parts: dict[str, Any]) -> None:
    assert identity(recipe(stage(64)), 1) == identity(recipe(stage(64), **parts), 1)


def test_a_row_goes_on_after_another_with_its_keys_and_stages() -> None:
    study = parse_study(
        {
            "data": {"batch": 32},
            "row": [row("1", stage(64), train={"seed": 7}), row("2", stage(128), after="1")],
        }
    )
    second = study.rows[1]
    assert [each.size for each in second.recipe.stage] == [64, 128]
    assert (second.recipe.data.batch, second.recipe.train.seed, second.against) == (32, 7, "1")


def test_one_row_can_be_overridden_and_what_goes_on_after_it_follows() -> None:
    keys = {"row": [row("a", stage(64)), row("b", stage(64)), row("c", stage(96), after="b")]}
    study = parse_study(keys, ["row.2.data.per_class=5", "train.seed=3"])
    assert [each.recipe.data.per_class for each in study.rows] == [None, 5, 5]
    assert {each.recipe.train.seed for each in study.rows} == {3}
    assert keys["row"][1] == row("b", stage(64))
    with pytest.raises(RecipeError, match=r"no item 4 in a list of 3"):
        parse_study(keys, ["row.4.data.per_class=5"])


def test_what_was_not_reported_stays_unknown() -> None:
    study = parse_study({"row": [row("1", stage(64), reported={"accuracy": 0.9})]})
    assert study.rows[0].reported.known() == {"accuracy": 0.9}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"stage": [stage(64)]}, r"a \[\[stage\]\] outside of a row"),
        ({"row": []}, "row"),
        ({"row": [row("1", stage(64)), row("1", stage(64))]}, "two rows are called '1'"),
        ({"row": [row("a/b", stage(64))]}, "it names a folder"),
        ({"row": [row("2", stage(64), after="1")]}, "after = '1' is no row before it; it is the first row"),
        (
            {"row": [row("1", stage(64)), row("2", stage(64), after="1", data={"batch": 8})]},
            r"\[row.data\] cannot change after other stages were trained without it",
        ),
        ({"row": [row("1", {"size": 64, "epochs": 0, "lr": 1})]}, "row 1: stage 1: epochs"),
        ({"row": [row("1", stage(64), reported={"acuracy": 0.9})]}, "row.0.reported.acuracy: unknown key"),
    ],
)
def test_a_wrong_study_is_told_where_and_how_to_mend_it(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_study(keys)


def test_the_shipped_studies_can_be_read_and_the_report_has_eleven_rows() -> None:
    assert len(load_study("report").rows) == 11
    assert len(load_study(RECIPES / "report-small.toml").rows) == 3


def test_the_report_learns_from_the_mix_it_is_judged_by() -> None:
    report = load_study("report")
    assert all(row.recipe.train.prevalence == report.mix for row in report.rows)


def test_runs_from_before_there_were_prevalences_are_the_same_runs() -> None:
    plain = parse_recipe({"name": "x", "stage": [{"size": 64, "epochs": 4, "lr": 1e-3}]})
    assert identity(plain, 1).startswith("9c4eddd24cb2bd14")  # as it was before
    there = {"Normal": 9, "TB": 1}
    assert identity(plain.model_copy(update={"train": TrainPart(prevalence=there)}), 1) != identity(plain, 1)


def test_the_reports_shared_stages_are_trained_once() -> None:
    nodes = tree([(each.name, each.recipe) for each in load_study("report").rows])
    rows = load_study("report").rows
    alone = sum(each.epochs for one in rows for each in one.recipe.stage)
    assert own_epochs(nodes) < 0.75 * alone
