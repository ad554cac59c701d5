from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta

from carina.training.lessons import Lessons
from carina.training.mixing import Mix, beta_quantile, blend, draw
from carina.training.recipe import TrainPart


def ids(count: int) -> np.ndarray:
    return np.arange(count).astype(np.uint64)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0, 8.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    u = np.linspace(0.001, 0.999, 999)
    assert np.abs(beta_quantile(u, alpha) - beta(alpha, alpha).ppf(u)).max() < 1e-4


def test_how_a_film_is_mixed_depends_on_itself_the_epoch_and_the_seed_alone() -> None:
    train = TrainPart(mixup=0.4, cutmix=1.0)
    together, alone = draw(0, 3, ids(50), train, 64), draw(0, 3, ids(50)[20:21], train, 64)
    assert together.keep[20] == alone.keep[0]
    assert together.box[20].tolist() == alone.box[0].tolist()
    assert not np.array_equal(together.keep, draw(0, 4, ids(50), train, 64).keep)


def test_with_both_half_of_the_films_are_cut_and_half_blended() -> None:
    mix = draw(0, 0, ids(2000), TrainPart(mixup=1.0, cutmix=1.0), 64)
    cut = mix.box[:, 1] > mix.box[:, 0]
    assert 0.44 < cut.mean() < 0.54  # a few boxes are too small to hold a pixel


def test_the_share_of_a_cut_film_is_its_area_to_the_pixel() -> None:
    size = 32
    mix = draw(0, 0, ids(300), TrainPart(cutmix=1.0), size)
    ones, zeros = torch.ones(300, 1, size, size), torch.zeros(300, 1, size, size)
    left = blend(ones, zeros, mix).mean((1, 2, 3)).numpy()
    assert left == pytest.approx(mix.keep, abs=1e-6)
    assert 0.4 < mix.keep.mean() < 0.75  # boxes at the edge are cut off, so more than a half stays


def test_a_blended_film_is_the_weighted_mean_of_two() -> None:
    mix = Mix(np.array([0.25, 1.0]), np.zeros((2, 4), np.int64))
    ones, zeros = torch.full((2, 1, 4, 4), 200.0), torch.zeros(2, 1, 4, 4)
    assert blend(ones, zeros, mix)[:, 0, 0, 0].tolist() == [50.0, 200.0]


def lessons(small: Any, rank: int = 0, world: int = 1, **train: Any) -> Lessons:
    part = TrainPart(**train)
    return Lessons(small.films(60, 32), part, small.classes, torch.device("cpu"), rank=rank, world=world)


def test_two_devices_see_the_same_mixture_as_one(small: Any) -> None:
    options = {"mixup": 0.4, "cutmix": 1.0, "class_weights": "balanced"}
    share = lessons(small, **options).epoch(0, 4)[1]
    whole = lessons(small, **options).batch(share, 0)
    halves = [lessons(small, rank, 2, **options).batch(share, 0) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        assert torch.equal(half.seen, whole.seen[rank::2])
        assert torch.equal(half.others, whole.others[rank::2])
        assert half.total == whole.total
    logits = torch.randn(len(share), 3, generator=torch.Generator().manual_seed(0))
    parts = sum(half.loss(logits[rank::2], 0.1) for rank, half in enumerate(halves))
    torch.testing.assert_close(parts, whole.loss(logits, 0.1))


def test_a_mixture_at_a_prevalence_is_divided_by_its_films(small: Any) -> None:
    made = lessons(small, mixup=0.5, prevalence=dict(zip(small.classes, (8.0, 1.0, 1.0), strict=True)))
    batch = made.batch(made.epoch(0, 4)[0], 0)
    assert batch.total == len(batch.labels)
    assert made.weights.mean() == pytest.approx(1)


def test_the_loss_of_a_mixture_is_shared_between_both_labels(small: Any) -> None:
    made = lessons(small, mixup=0.5)
    batch = made.batch(made.epoch(0, 4)[0], 0)
    logits = torch.randn(len(batch.labels), 3, generator=torch.Generator().manual_seed(0))
    log_p = torch.log_softmax(logits, 1)
    rows = torch.arange(len(batch.labels))
    expected = -(batch.weight * log_p[rows, batch.labels] + batch.other_weight * log_p[rows, batch.others])
    torch.testing.assert_close(batch.loss(logits, 0.0), expected.mean())
    torch.testing.assert_close(batch.weight + batch.other_weight, torch.ones(len(rows)))
    assert torch.equal(batch.others, batch.labels.roll(1))


def test_without_mixing_every_label_counts_alone(small: Any) -> None:
    made = lessons(small)
    batch = made.batch(made.epoch(0, 4)[0], 0)
    assert batch.others is None
    assert batch.total == len(batch.labels) == 15
