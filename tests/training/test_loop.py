from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from carina.errors import RecipeError, RunError
from carina.records import Progress
from carina.training import snapshot
from carina.training.checkpoint import Checkpoint
from carina.training.films import Films
from carina.training.lessons import class_weights
from carina.training.loop import Split
from carina.training.optimizer import adamw
from carina.training.recipe import TrainPart
from carina.training.stopping import shipped

STAGES = (
    {"size": 32, "epochs": 1, "lr": 1e-2, "frozen": True},
    {"size": 32, "epochs": 2, "lr": [1e-3, 1e-2]},
    {"size": 48, "epochs": 1, "lr": 3e-3, "batch": 20},
)


def kept(checkpoints: list[Checkpoint]) -> Any:
    """A ``save`` that keeps copies: the loop goes on to change the tensors."""

    def save(checkpoint: Checkpoint) -> None:
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        checkpoints.append(Checkpoint(checkpoint.position, tensors, checkpoint.scaler))

    return save


def figures_of(loop: Any) -> list[dict[str, Any]]:
    """The history without what the clock wrote."""
    clock = ("seconds", "images_per_second")
    return [{k: v for k, v in record.items() if k not in clock} for record in loop.position.history]


def test_it_learns_films_that_can_be_told_apart(small: Any) -> None:
    loop = small.train(small.recipe({"size": 32, "epochs": 8, "lr": 1e-2}))
    last = loop.position.history[-1]
    assert last["accuracy"] == 1
    assert last["recall_disease"] == last["specificity"] == last["auc_disease"] == 1
    assert last["train_loss"] < 0.2


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_the_same_seed_gives_the_same_bits(small: Any, backbone: str) -> None:
    recipe = small.recipe(*STAGES[1:], model={"backbone": backbone, "drop_rate": 0.3})
    one, other = small.train(recipe), small.train(recipe)
    assert small.same(one.network, other.network)
    assert figures_of(one) == figures_of(other)


def test_another_seed_gives_other_weights(small: Any) -> None:
    one, other = (small.train(small.recipe(train={"seed": seed})) for seed in (0, 1))
    assert not small.same(one.network, other.network)


def test_resumed_at_any_step_it_ends_in_the_same_bits(small: Any) -> None:
    parts = {"model": {"drop_rate": 0.3}, "train": {"checkpoint_minutes": 0}, "data": {"batch": 24}}
    recipe = small.recipe(*STAGES, **parts)
    checkpoints: list[Checkpoint] = []
    whole = small.train(recipe, save=kept(checkpoints))
    places = {(c.position.stage, c.position.epoch, c.position.batch) for c in checkpoints}
    assert len(checkpoints) == len(places) == whole.plan.steps
    for checkpoint in checkpoints:
        torch.manual_seed(int(torch.randint(10**9, ()).item()))  # whatever state the new process is in
        resumed = small.train(recipe, checkpoint=checkpoint)
        assert small.same(resumed.network, whole.network), checkpoint.position
        assert figures_of(resumed) == figures_of(whole)


def test_a_vision_transformer_resumes_across_sizes(small: Any) -> None:
    stages = [{"size": 32, "epochs": 1, "lr": 1e-3}, {"size": 48, "epochs": 2, "lr": 1e-3}]
    recipe = small.recipe(*stages, model={"backbone": "test_vit"})
    checkpoints: list[Checkpoint] = []
    whole = small.train(recipe, save=kept(checkpoints))
    for checkpoint in checkpoints:
        assert small.same(small.train(recipe, checkpoint=checkpoint).network, whole.network)


def test_checkpoints_come_by_the_clock_and_after_each_epoch(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    small.train(small.recipe(*STAGES, train={"checkpoint_minutes": 60}), save=kept(checkpoints))
    assert [(c.position.batch, len(c.position.history)) for c in checkpoints] == [
        (0, n) for n in (1, 2, 3, 4)
    ]


def test_heavy_checkpoints_wait_for_the_end_of_a_stage_where_epochs_are_short(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carina.training.loop.LIGHT", 0)
    monkeypatch.setattr("carina.training.loop.PACE", 1)  # bytes a second
    checkpoints: list[Checkpoint] = []
    whole = small.train(small.recipe(*STAGES), save=kept(checkpoints))
    ends = list(itertools.accumulate(stage["epochs"] for stage in STAGES))
    assert [len(c.position.history) for c in checkpoints] == ends
    for checkpoint in checkpoints:
        assert small.same(small.train(small.recipe(*STAGES), checkpoint=checkpoint).network, whole.network)


def test_the_end_of_a_stage_is_kept_without_the_moments_that_end_with_it(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    small.train(small.recipe({"size": 32, "epochs": 2, "lr": 1e-3}), save=kept(checkpoints))
    within, end = ([n for n in c.tensors if n.startswith("optimizer.")] for c in checkpoints)
    assert within
    assert not end


def test_the_time_a_run_took_is_that_of_all_its_epochs_resumed_or_not(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    whole = small.train(small.recipe(*STAGES), save=kept(checkpoints))
    resumed = small.train(small.recipe(*STAGES), checkpoint=checkpoints[1])
    for loop in (whole, resumed):
        assert loop.position.seconds >= sum(record["seconds"] for record in loop.position.history) > 0


def test_a_frozen_stage_moves_the_head_alone(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    stages = [{"size": 32, "epochs": 2, "lr": 1e-2, "frozen": True}]
    small.train(small.recipe(*stages), save=kept(checkpoints))
    first, last = (c.tensors for c in checkpoints)
    moved = {
        name for name in first if name.startswith("network.") and not torch.equal(first[name], last[name])
    }
    assert moved == {"network.head.weight", "network.head.bias"}
    assert {name for name in last if name.startswith("optimizer.body")} == set()


def test_the_first_layers_move_less_than_the_last_under_two_rates(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    before = small.train(small.recipe({"size": 32, "epochs": 1, "lr": 1e-12})).network.state_dict()
    small.train(small.recipe({"size": 32, "epochs": 1, "lr": [1e-6, 1e-2]}), save=kept(checkpoints))
    after = checkpoints[-1].tensors
    stem, head = (
        float((after[f"network.{n}"] - before[n]).abs().max()) for n in ("body.conv1.0.weight", "head.weight")
    )
    assert stem < 1e-4 < 1e-2 < head


def test_norms_and_biases_are_not_decayed(small: Any) -> None:
    loop = small.train(small.recipe())
    for group in adamw(loop.network, loop.recipe.stage[0], weight_decay=0.5).param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.5) for p in group["params"])


def test_no_film_is_left_out_and_no_batch_holds_a_single_one(small: Any) -> None:
    recipe = small.recipe({"size": 32, "epochs": 1, "lr": 1e-3})
    told: list[Progress] = []
    splits = {32: small.split(32, train=33)}  # two batches of 16 and one left over
    loop = small.train(recipe, splits=splits, tell=told.append)
    assert loop.position.step == 3
    assert np.isfinite(loop.position.history[0]["train_loss"])


def test_every_epoch_is_told_with_the_figures_a_fastai_user_knows(small: Any) -> None:
    told: list[Progress] = []
    small.train(small.recipe(*STAGES), tell=told.append)
    epochs = [event for event in told if event.stage == "epoch"]
    assert [(event.done, event.total) for event in epochs] == [(n, 4) for n in (1, 2, 3, 4)]
    assert {"epoch", "train_loss", "valid_loss", "accuracy", "error_rate", "seconds"} <= set(epochs[0].detail)
    assert [event.detail["epoch"] for event in epochs] == [0, 0, 1, 0]
    assert epochs[0].detail["recall"].keys() == set(small.classes)


def test_progress_ends_at_the_last_step_with_no_time_left(small: Any) -> None:
    told: list[Progress] = []
    small.train(small.recipe(*STAGES), tell=told.append)
    steps = [event for event in told if event.stage == "train"]
    assert steps[-1].done == steps[-1].total == 15
    left = [event.detail["seconds_left"] for event in steps]
    assert left[-1] < left[0]
    assert all(math.isfinite(value) and value >= 0 for value in left)


def test_stages_announce_themselves_in_words(small: Any) -> None:
    told: list[Progress] = []
    small.train(small.recipe(*STAGES), tell=told.append)
    texts = [event.detail["text"] for event in told if event.stage == "stage"]
    assert texts[0] == "stage 1 of 3: 32 px, frozen, 1 epoch, lr 0.01"
    assert texts[1] == "stage 2 of 3: 32 px, unfrozen, 2 epochs, lr 0.001 … 0.01"


def test_an_epoch_whose_last_step_ended_the_network_ends_in_words(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carina.training import loop

    measured = loop.figures
    monkeypatch.setattr(loop, "figures", lambda *a: dataclasses.replace(measured(*a), loss=math.nan))
    checkpoints: list[Checkpoint] = []
    with pytest.raises(RunError, match=r"no longer a number in stage 1, epoch 0; lower stage\.1\.lr"):
        small.train(small.recipe({"size": 32, "epochs": 1, "lr": 1e-3}), save=kept(checkpoints))
    assert not checkpoints


def test_a_rate_that_is_far_too_high_ends_in_words_and_keeps_no_broken_checkpoint(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    recipe = small.recipe({"size": 32, "epochs": 3, "lr": 1e30}, train={"checkpoint_minutes": 0})
    with pytest.raises(RunError, match=r"no longer a number in stage 1, epoch \d; lower stage\.1\.lr"):
        small.train(recipe, save=kept(checkpoints))
    assert all(math.isfinite(c.position.loss_sum) for c in checkpoints)


def test_balanced_weights_help_a_rare_class(small: Any) -> None:
    whole = small.films(60, 32)
    rare = np.flatnonzero((whole.labels != 2) | (np.arange(60) < 6))  # 20, 20 and 2 films
    train = Films(whole.pixels, whole.rows[rare], whole.labels[rare], whole.ids[rare])
    splits = {32: Split(train, small.split(32).valid)}
    balanced = small.recipe(train={"class_weights": "balanced"})
    weights = small.train(balanced, splits=splits).lessons.weights
    assert weights.tolist() == pytest.approx([42 / 60, 42 / 60, 42 / 6])
    assert small.train(small.recipe(), splits=splits).lessons.weights.tolist() == [1, 1, 1]


def test_a_prevalence_weighs_classes_as_they_are_where_the_network_will_work(small: Any) -> None:
    there = dict(zip(small.classes, (8, 1, 1), strict=True))
    weights = small.train(small.recipe(train={"prevalence": there})).lessons.weights
    assert weights.tolist() == pytest.approx([2.4, 0.3, 0.3])  # of 60 films, 20 a class, as if 48, 6 and 6
    frozen = {"size": 32, "epochs": 1, "lr": 1e-2, "frozen": True}
    train = {"prevalence": there, "augment": "none"}
    assert small.train(small.recipe(frozen, train=train)).lessons.weights.tolist() == weights.tolist()


def test_a_batch_without_the_heavy_class_does_not_count_for_more(small: Any) -> None:
    there = dict(zip(small.classes, (98, 1, 1), strict=True))
    lessons = small.train(small.recipe(train={"prevalence": there})).lessons
    for share in lessons.epoch(0, 6):
        batch = lessons.batch(share, 0)
        assert batch.total == len(share)
        assert batch.weight.tolist() == pytest.approx(
            lessons.weights[lessons.films.labels[share.which]].tolist()
        )


def test_patience_looks_where_the_network_will_work(small: Any) -> None:
    there = dict(zip(small.classes, (1000, 1, 1), strict=True))
    train = {"prevalence": there, "patience": 2}
    history = small.train(small.recipe({"size": 32, "epochs": 6, "lr": 1e-2}, train=train)).position.history
    for record in history:
        assert record["accuracy_at_prevalence"] == pytest.approx(record["recall"]["Normal"], abs=0.01)
    last = shipped(history, "accuracy", 2)
    assert last["accuracy_at_prevalence"] == max(each["accuracy_at_prevalence"] for each in history)
    assert "accuracy_at_prevalence" not in small.train(small.recipe()).position.history[0]


def test_a_class_without_a_prevalence_weighs_as_it_did() -> None:
    labels = np.repeat([0, 1, 2], [10, 30, 60])
    train = TrainPart(prevalence={"Normal": 3, "TB": 1})
    weights = class_weights(labels, ("Normal", "TB", "distractor"), train)
    assert weights.tolist() == pytest.approx([3, 1 / 3, 1])


def test_label_smoothing_keeps_the_loss_up(small: Any) -> None:
    stage = {"size": 32, "epochs": 8, "lr": 1e-2}
    plain, smooth = (small.train(small.recipe(stage, train={"label_smoothing": s})) for s in (0.0, 0.2))
    losses = [loop.position.history[-1]["train_loss"] for loop in (plain, smooth)]
    assert losses[0] < 0.3 < losses[1]


def test_bfloat16_trains_too_and_keeps_the_weights_in_float32(small: Any) -> None:
    loop = small.train(small.recipe(train={"precision": "bf16-mixed"}))
    assert np.isfinite(loop.position.history[-1]["valid_loss"])
    assert loop.network.head.weight.dtype == torch.float32


def test_balanced_sources_and_lost_resolution_resume_to_the_same_bits(small: Any) -> None:
    whole = small.split(32)
    sources = (np.arange(60) // 3 % 10 == 0).astype(np.int64)  # six films of a rare source, two a class
    splits = {32: Split(dataclasses.replace(whole.train, sources=sources), whole.valid)}
    train = {"balance": "source", "augment": {"resolution": 0.5}, "checkpoint_minutes": 0}
    recipe = small.recipe({"size": 32, "epochs": 2, "lr": 1e-2}, train=train)
    checkpoints: list[Checkpoint] = []
    first = small.train(recipe, save=kept(checkpoints), splits=splits)
    plain = small.train(small.recipe({"size": 32, "epochs": 2, "lr": 1e-2}), splits=splits)
    assert not small.same(first.network, plain.network)
    for checkpoint in checkpoints[::3]:
        resumed = small.train(recipe, checkpoint=checkpoint, splits=splits)
        assert small.same(resumed.network, first.network)


EVERYTHING = {
    "sampling": "balanced",
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema": 0.9,
    "clip": 1.0,
    "patience": 1,
    "metric": "valid_loss",
    "augment": {"gamma": 0.2, "erase": 0.5},
    "checkpoint_minutes": 0,
}


def test_with_everything_on_it_resumes_at_any_step_to_the_same_bits(small: Any) -> None:
    recipe = small.recipe(
        {"size": 32, "epochs": 1, "lr": 1e-2, "frozen": True},
        {"size": 32, "epochs": 4, "lr": 1e-2},
        {"size": 48, "epochs": 2, "lr": 1e-2},
        train=EVERYTHING,
        data={"batch": 20},
    )
    checkpoints: list[Checkpoint] = []
    whole = small.train(recipe, save=kept(checkpoints))
    for checkpoint in checkpoints:
        resumed = small.train(recipe, checkpoint=checkpoint)
        assert small.same(resumed.network, whole.network), checkpoint.position
        assert figures_of(resumed) == figures_of(whole)


def test_what_is_validated_and_shipped_is_the_average(small: Any) -> None:
    checkpoints: list[Checkpoint] = []
    recipe = small.recipe({"size": 32, "epochs": 4, "lr": 1e-2}, train={"ema": 0.95})
    loop = small.train(recipe, save=kept(checkpoints))
    last = checkpoints[-1].tensors
    shipped = loop.network.state_dict()
    assert all(torch.equal(shipped[name], last[f"average.{name}"]) for name in shipped)
    assert not torch.equal(shipped["head.weight"], last["network.head.weight"])
    plain = small.train(small.recipe({"size": 32, "epochs": 4, "lr": 1e-2}))
    assert torch.equal(plain.network.head.weight, last["network.head.weight"])  # it only watches


def test_a_stage_that_brings_nothing_stops_and_goes_on_from_its_best(small: Any) -> None:
    told: list[Progress] = []
    checkpoints: list[Checkpoint] = []
    recipe = small.recipe({"size": 32, "epochs": 30, "lr": 1e-2}, train={"patience": 2})
    loop = small.train(recipe, tell=told.append, save=kept(checkpoints))
    accuracy = [record["accuracy"] for record in loop.position.history]
    best = int(np.argmax(accuracy))
    assert len(accuracy) == best + 3 < 30
    note = next(event.detail["text"] for event in told if event.stage == "note")
    assert note.startswith("stopped: accuracy has not improved for 2 epochs; going on with epoch ")
    at_best = next(c for c in checkpoints if len(c.position.history) == best + 1).tensors
    state = loop.network.state_dict()
    assert all(torch.equal(state[name], at_best[f"network.{name}"]) for name in state)


def test_clipping_bounds_the_step_of_a_gradient_that_explodes(small: Any) -> None:
    one = small.train(small.recipe(train={"clip": 1e-9}))
    free = small.train(small.recipe())
    assert not small.same(one.network, free.network)
    assert np.isfinite(one.position.history[-1]["valid_loss"])


def test_early_stopping_on_a_figure_no_film_gives_is_refused(small: Any) -> None:
    recipe = small.recipe(train={"patience": 2, "metric": "auc_disease"})
    with pytest.raises(RecipeError, match="metric: auc_disease needs healthy and diseased classes"):
        small.train(recipe, healthy=())


def found_by_hand(small: Any, recipe: Any, chosen: float) -> Any:
    """The same training with the rate written into the recipe."""
    stages = [stage.at(chosen) if stage.lr == "find" else stage for stage in recipe.stage]
    return small.train(recipe.model_copy(update={"stage": tuple(stages)}))


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "unfrozen"])
@pytest.mark.parametrize("augment", ["none", "film"])
def test_training_after_the_rate_finder_equals_training_without_it(
    small: Any, frozen: bool, augment: str
) -> None:
    recipe = small.recipe(
        {"size": 32, "epochs": 1, "lr": 1e-3},
        {"size": 32, "epochs": 2, "lr": "find", "ratio": 1 if frozen else 10, "frozen": frozen},
        model={"drop_rate": 0.3},
        train={"augment": augment, "ema": 0.9},
    )
    checkpoints: list[Checkpoint] = []
    told: list[Progress] = []
    loop = small.train(recipe, save=kept(checkpoints), tell=told.append)
    found = loop.position.found[0]
    without = found_by_hand(small, recipe, found["lr"])
    assert small.same(loop.network, without.network)
    assert figures_of(loop) == figures_of(without)
    assert loop.position.history[-1]["lr"] == found["lr"]
    text = [event.detail["text"] for event in told if event.stage == "stage"][1]
    assert f"(found: {found['text']})" in text


def test_a_run_stopped_after_the_finder_does_not_sweep_again(small: Any) -> None:
    recipe = small.recipe({"size": 32, "epochs": 3, "lr": "find"}, train={"checkpoint_minutes": 0})
    checkpoints: list[Checkpoint] = []
    whole = small.train(recipe, save=kept(checkpoints))
    for checkpoint in checkpoints[::4]:
        told: list[Progress] = []
        resumed = small.train(recipe, checkpoint=checkpoint, tell=told.append)
        assert "find lr" not in {event.stage for event in told}
        assert resumed.position.found == whole.position.found
        assert small.same(resumed.network, whole.network)


def test_the_finder_puts_back_weights_moments_random_state_and_a_loss_scaler(small: Any) -> None:
    class Scaler:
        scale = 65536.0

        def state_dict(self) -> dict[str, float]:
            return {"scale": self.scale}

        def load_state_dict(self, state: dict[str, float]) -> None:
            self.scale = state["scale"]

    class FakeFabric:
        class strategy:  # noqa: N801
            precision = Scaler()

    loop = small.train(small.recipe())
    optimizer = adamw(loop.network, loop.recipe.stage[0], weight_decay=0.01)

    def step() -> None:
        loop.network.train()
        loss = loop.network(torch.rand(4, 1, 32, 32) * 255).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    torch.manual_seed(5)
    weights, moments = (
        snapshot.kept(snapshot.of_weights(loop.network, None)),
        snapshot.kept(snapshot.of_optimizer(loop.network, optimizer)),
    )
    state = torch.random.get_rng_state()
    with snapshot.held(loop.network, optimizer, FakeFabric):
        for _ in range(3):
            step()
        optimizer.param_groups[0]["lr"] = 9.0
        FakeFabric.strategy.precision.scale = 1.0
    assert torch.equal(state, torch.random.get_rng_state())
    assert FakeFabric.strategy.precision.scale == 65536.0
    assert optimizer.param_groups[0]["lr"] == 1e-2
    now = snapshot.of_weights(loop.network, None) | snapshot.of_optimizer(loop.network, optimizer)
    before = weights | moments
    assert now.keys() == before.keys()
    assert all(torch.equal(now[name], before[name]) for name in before)


def test_the_finder_can_be_asked_alone_after_the_earlier_stages_or_without_them(small: Any) -> None:
    recipe = small.recipe(
        {"size": 32, "epochs": 2, "lr": 1e-2}, {"size": 48, "epochs": 1, "lr": [1e-4, 1e-3]}
    )
    trained = small.loop(recipe).find_rate(1)
    fresh = small.loop(recipe).find_rate(1, earlier=False)
    assert trained.stage == fresh.stage == 1
    assert trained.losses[0] < fresh.losses[0]
    assert small.loop(recipe).find_rate(0) == small.loop(recipe).find_rate(0, earlier=False)
