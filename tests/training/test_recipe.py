from __future__ import annotations

from pathlib import Path

import pytest

from carina.data.labels import LabelMap
from carina.errors import RecipeError
from carina.images.prepare import Preparation
from carina.training.recipe import Augment, load_recipe, overridden, parse_recipe
from carina.training.study_file import load_study

RECIPES = Path(__file__).parents[2] / "recipes"
TWO_STAGES = """
[model]
backbone = "resnet34"
[[stage]]
size = 224
frozen = true
epochs = 4
lr = 3e-3
[[stage]]
size = 224
epochs = 2
lr = [1e-5, 1e-4]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(TWO_STAGES, encoding="utf-8")
    return file


def test_a_recipe_is_read_with_its_stages_in_order(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert [stage.frozen for stage in recipe.stage] == [True, False]
    assert [stage.rates for stage in recipe.stage] == [(3e-3, 3e-3), (1e-5, 1e-4)]


@pytest.mark.parametrize("shipped", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_that_ships_is_valid(shipped: Path) -> None:
    text = shipped.read_text(encoding="utf-8")
    if "[[row]]" in text:
        assert load_study(shipped).rows
    elif "[[stage]]" in text:
        assert load_recipe(shipped).stage
    else:
        assert LabelMap.load(shipped)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("model.backbone=local-dir:weights/x", lambda r: r.model.backbone == "local-dir:weights/x"),
        ('model.backbone="resnet18"', lambda r: r.model.backbone == "resnet18"),
        ("model.pretrained=false", lambda r: r.model.pretrained is False),
        ("stage.1.epochs=7", lambda r: [s.epochs for s in r.stage] == [7, 2]),
        ("stage.2.lr=[1e-6, 1e-3]", lambda r: r.stage[1].lr == (1e-6, 1e-3)),
        ("data.batch = 8", lambda r: [r.batch(0), r.batch(1)] == [8, 8]),
        ("stage.2.batch=4", lambda r: [r.batch(0), r.batch(1)] == [64, 4]),
        ("train.augment=none", lambda r: r.train.augment.is_off),
        ("train.augment.rotate=10", lambda r: r.train.augment == Augment(rotate=10)),
        ("data.crop=0.07", lambda r: r.data.preparation(64) == Preparation(64, "stretch", crop=0.07)),
        ("data.tone=equalised", lambda r: r.data.preparation(64).tone == "equalised"),
        ("data.trim=true", lambda r: r.data.preparation(64).to_dict()["trim"] is True),
        ("data.mask_letters=true", lambda r: r.data.preparation(64).mask_letters),
        ('data.classes=["Normal", "TB"]', lambda r: r.data.classes == ("Normal", "TB")),
    ],
)
def test_any_key_can_be_set_from_outside(path: Path, override: str, read: object) -> None:
    assert read(load_recipe(path, [override]))  # type: ignore[operator]
    assert read(overridden(load_recipe(path), [override]))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stage.2.epoch=3", "stage 2: unknown key 'epoch'; did you mean 'epochs'?"),
        ("modle.backbone=x", "unknown key 'modle'; did you mean 'model'?"),
        ("model.backbon=x", "[model]: unknown key 'backbon'; did you mean 'backbone'?"),
        ("train.augment.rotation=3", "[train].augment: unknown key 'rotation'; did you mean 'rotate'?"),
        ("train.zzz=3", "[train]: unknown key 'zzz'; known here: "),
        ("model.drop_rate=2", "[model]: drop_rate: give less than 1 (given: 2)"),
        (
            "stage.1.lr=fast",
            'stage 1: lr: give one rate (3e-3), two: [first layers, last layers], or "find" (given:',
        ),
        ("stage.1.lr=[1e-3, 1e-5]", "stage 1: lr: the first layers' rate comes first"),
        ("stage.1.lr=-1", "stage 1: lr: a learning rate is above 0"),
        ("stage.1.lr=nan", "stage 1: lr: give one rate"),
        ("train.augment=strong", '[train]: augment: say "film" for the mild set'),
        ("stage.1.freeze_to=2", "frozen = true keeps all layer groups already"),
        ("data.classes=['TB']", "[data]: classes: name at least two classes"),
        ("stage.5.epochs=3", "--set stage.5.epochs=3: no item 5 in a list of 2; count from 1"),
        ("stage.0.epochs=3", "no item 0 in a list of 2; count from 1, as in stage.1.epochs"),
        ("data.classes=TB", '[data]: classes: give a list of names, such as ["Normal", "TB"] (given: "TB")'),
        ("data.batch=many", '[data]: batch: give a whole number (given: "many")'),
        ("data.batch=2.5", "[data]: batch: give a whole number (given: 2.5)"),
        ("data.batch=1", "[data]: batch: give at least 2 (given: 1)"),
        ("data=3", "data: is a table of keys, not a value; set one of its keys (given: 3)"),
        ("stage.1=3", "stage 1: is a table of keys, not a value; set one of its keys (given: 3)"),
        ("stage.1.frozen=maybe", 'stage 1: frozen: give true or false (given: "maybe")'),
        ("data.classes=[1, 2]", "data.classes 1: give a text in quotes (given: 1)"),
        ("train.precision=half", 'choose auto, 32-true, bf16-mixed or 16-mixed (given: "half")'),
        ("train.batch=8", "[train]: unknown key 'batch'; 'batch' belongs under [data]"),
        ("epochs=8", "unknown key 'epochs'; 'epochs' belongs under [[stage]]"),
        ("stage.1.learning_rate=1", "stage 1: unknown key 'learning_rate'; did you mean 'lr'?"),
        ("train.metric=f1", "[train]: metric: choose accuracy, balanced_accuracy, "),
        ("train.mixup=-1", "[train]: mixup: give at least 0"),
        ("stage.2.ratio=10", "stage 2: lr gives two rates, and ratio their ratio once more"),
        ("stage.1.ratio=0.5", "stage 1: ratio: give at least 1"),
        ("stage.first.epochs=3", "no item first in a list of 2"),
        ("model", "--set model: write it as key=value"),
        ("model.backbone.name=x", "backbone is a single value"),
    ],
)
def test_a_wrong_key_is_named_with_its_cure(path: Path, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, [override])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no stage; add at least one [[stage]]"),
        ("[stage]\nepochs = 1\nlr = 1e-3", "with double brackets"),
        ("[[stage]]\nlr = 1e-3", "stage 1: missing key 'epochs'; add it"),
        ("[model", "not valid TOML"),
        ("[data]\nbatch = 1\n[[stage]]\nlr = 1e-3\nepochs = 0", "(and 1 more)"),
    ],
)
def test_a_broken_file_is_named_with_its_cure(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load_recipe(file)
    assert str(error.value).startswith(str(file))
    assert says in str(error.value)


def test_a_missing_file_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "nowhere.toml")


def test_a_recipe_survives_the_way_through_its_own_plain_data(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(recipe.to_dict()) == recipe


def test_a_frozen_stage_takes_the_last_of_two_rates() -> None:
    recipe = parse_recipe({"stage": [{"epochs": 1, "frozen": True, "lr": [1e-5, 1e-3]}]})
    assert recipe.stage[0].rates == (1e-3, 1e-3)


def test_a_bare_name_is_a_recipe_that_ships_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_recipe("demo").stage[0].size == 64


def test_two_cures_for_rare_classes_at_once_are_refused(path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"\[train\]: sampling = \"balanced\" and class_weights = .* choose one"
    ):
        load_recipe(path, ["train.sampling=balanced", "train.class_weights=balanced"])


@pytest.mark.parametrize("change", ["train.sampling=balanced", "train.class_weights=balanced"])
def test_a_prevalence_and_balance_contradict_each_other(path: Path, change: str) -> None:
    with pytest.raises(
        RecipeError, match=r"\[train\]: prevalence and \"balanced\" both .* leave one of them out"
    ):
        load_recipe(path, ["train.prevalence={Normal = 9, TB = 1}", change])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{Normal = 9, TB = 0}", r"\[train\]\.prevalence: TB: give more than 0"),
        ("{Normal = 9, TB = true}", r"\[train\]\.prevalence: TB: give a number"),
        ("{Normal = 9, TB = '3'}", r"\[train\]\.prevalence: TB: give a number"),
        ("{Normal = 9, TB = nan}", r"\[train\]\.prevalence: TB: give (a number|more than 0)"),
        (
            "{Normal = 1e9, TB = 1}",
            r"\[train\]: prevalence: one class is (more than|over) 1,000,000 times as frequent",
        ),
        ("5", r"\[train\]: prevalence: give a number of films for each class, names with spaces in quotes"),
        ("{Other Findings = 3}", r"\[train\]: prevalence: give a number of films for each class"),
    ],
)
def test_what_is_no_prevalence_is_said_with_what_to_write(path: Path, value: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(path, [f"train.prevalence={value}"])


def test_no_prevalence_can_be_said(path: Path) -> None:
    assert load_recipe(path, ["train.prevalence={}"]).train.prevalence == {}


def test_a_ratio_slows_the_first_layers_of_a_single_or_a_found_rate() -> None:
    stages = [{"epochs": 1, "lr": lr, "ratio": 100} for lr in (1e-2, "find")]
    single, found = parse_recipe({"stage": stages}).stage
    assert single.rates == pytest.approx((1e-4, 1e-2))
    assert found.rates == pytest.approx((0.01, 1.0))
    assert found.at(1e-3).rates == pytest.approx((1e-5, 1e-3))
