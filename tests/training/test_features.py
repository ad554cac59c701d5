from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from carina.errors import RecipeError
from carina.records import Progress
from carina.training.checkpoint import Checkpoint
from carina.training.features import CachedLessons, cached_views
from carina.training.recipe import TrainPart, parse_recipe
from tests.training.test_loop import figures_of, kept

FROZEN = {"size": 32, "epochs": 3, "lr": 1e-2, "frozen": True}


def plain(small: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same training with the body run anew in every step."""
    monkeypatch.setattr("carina.training.loop.cached_views", lambda train: 0)
    loop = small.train(recipe)
    monkeypatch.undo()
    return loop


@pytest.mark.parametrize(
    "train",
    [
        {"augment": "none"},
        {"augment": "none", "sampling": "balanced", "ema": 0.9, "patience": 2},
        {"frozen_views": 3},
        {"frozen_views": 5, "clip": 0.5},
    ],
    ids=["nothing random", "balanced and averaged", "as many views as epochs", "more views than epochs"],
)
def test_it_learns_what_the_plain_path_learns(
    small: Any, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any]
) -> None:
    exact = {"precision": "32-true"}  # in bfloat16 the two agree to its rounding, and batches differ there
    recipe = small.recipe(FROZEN, model={"drop_rate": 0.3}, train=train | exact)
    cached = small.train(recipe)
    assert isinstance(cached.lessons, CachedLessons)
    anew = plain(small, recipe, monkeypatch)
    assert not isinstance(anew.lessons, CachedLessons)
    for name, tensor in anew.network.state_dict().items():
        torch.testing.assert_close(cached.network.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)
    for one, other in zip(figures_of(cached), figures_of(anew), strict=True):
        assert one["valid_loss"] == pytest.approx(other["valid_loss"], abs=1e-5)
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)


def test_the_body_sees_each_film_once(small: Any) -> None:
    told: list[Progress] = []
    small.train(small.recipe(FROZEN, train={"augment": "none"}), tell=told.append)
    seen = [(event.done, event.total) for event in told if event.stage == "features"]
    assert seen == [(60, 60), (18, 18)]
    text = next(event.detail["text"] for event in told if event.stage == "stage")
    assert text.endswith("the body sees each film once")


def test_of_two_views_every_second_epoch_shows_the_same(small: Any) -> None:
    told: list[Progress] = []
    recipe = small.recipe(FROZEN | {"epochs": 5}, train={"frozen_views": 2})
    loop = small.train(recipe, tell=told.append)
    seen = [event.total for event in told if event.stage == "features"]
    assert seen == [60, 18, 60]
    text = next(event.detail["text"] for event in told if event.stage == "stage")
    assert text.endswith("the body sees 2 augmented views of each film once")
    assert [record["views"] for record in loop.position.history] == [2] * 5
    share = loop.lessons.epoch(0, 4)[0]
    one, two, three = (loop.lessons.batch(share, epoch).seen for epoch in (0, 1, 2))
    assert torch.equal(one, three)
    assert not torch.equal(one, two)


def test_it_resumes_at_any_step_to_the_same_bits(small: Any) -> None:
    stages = [FROZEN, {"size": 32, "epochs": 1, "lr": 1e-3}, FROZEN | {"size": 48}]
    train = {"frozen_views": 2, "checkpoint_minutes": 0, "ema": 0.9}
    recipe = small.recipe(*stages, train=train, data={"batch": 24}, model={"drop_rate": 0.3})
    checkpoints: list[Checkpoint] = []
    whole = small.train(recipe, save=kept(checkpoints))
    assert len(checkpoints) == whole.plan.steps
    for checkpoint in checkpoints:
        resumed = small.train(recipe, checkpoint=checkpoint)
        assert small.same(resumed.network, whole.network), checkpoint.position
        assert figures_of(resumed) == figures_of(whole)


def test_short_epochs_write_a_checkpoint_at_the_end_of_their_stage_only(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    recipe = small.recipe(FROZEN, {"size": 32, "epochs": 2, "lr": 1e-3}, train={"augment": "none"})
    small.train(recipe, save=kept(checkpoints))
    assert [len(c.position.history) for c in checkpoints] == [3, 4, 5]


def test_a_heads_epoch_takes_milliseconds(small: Any) -> None:
    recipe = small.recipe(FROZEN | {"epochs": 30}, train={"augment": "none"}, data={"batch": 60})
    began = time.process_time()
    loop = small.train(recipe)
    epochs = sorted(record["seconds"] for record in loop.position.history)
    assert epochs[len(epochs) // 2] < 0.05
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("train", "views"),
    [
        ({}, 0),
        ({"augment": "none"}, 1),
        ({"augment": "none", "frozen_views": 4}, 1),
        ({"frozen_views": 4}, 4),
        ({"augment": "none", "mixup": 0.2}, 0),
        ({"cutmix": 1.0}, 0),
    ],
)
def test_features_are_kept_only_where_it_is_exact_or_asked_for(train: dict[str, Any], views: int) -> None:
    assert cached_views(TrainPart(**train)) == views


def test_views_of_mixtures_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"\[train\]: frozen_views keeps the features of single films, and mixup"
    ):
        parse_recipe({"train": {"frozen_views": 2, "mixup": 0.2}, "stage": [FROZEN]})
