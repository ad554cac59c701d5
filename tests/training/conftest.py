"""Films that are easy to tell apart, a tiny network, and a loop that trains on them in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from carina.records import Progress
from carina.training.checkpoint import Checkpoint
from carina.training.devices import deterministic, fabric, quiet
from carina.training.films import Films
from carina.training.loop import Loop, Split
from carina.training.network import Network
from carina.training.recipe import Recipe, parse_recipe
from carina.training.weights import build


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The tests share the machine with each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Small:
    """Everything of training, at the smallest size that still learns."""

    classes = ("Normal", "Band in the middle", "Band below")

    def films(self, count: int, size: int, *, first_id: int = 0) -> Films:
        """Noise with a bright band in one of three places; the place is the label."""
        rng = np.random.default_rng([size, first_id])
        labels = np.arange(count, dtype=np.int64) % 3
        pixels = rng.integers(0, 100, (count, size, size), dtype=np.uint8)
        third = size // 3
        for film, label in zip(pixels, labels, strict=True):
            film[label * third : label * third + third] += 90
        return Films(
            pixels, np.arange(count), labels, np.arange(first_id, first_id + count).astype(np.uint64)
        )

    def split(self, size: int, *, train: int = 60, valid: int = 18) -> Split:
        return Split(self.films(train, size), self.films(valid, size, first_id=10_000))

    def recipe(self, *stages: dict[str, Any], **parts: dict[str, Any]) -> Recipe:
        """Without pretrained weights, on the smallest residual network timm has."""
        keys: dict[str, Any] = {
            "model": {"backbone": "test_resnet", "pretrained": False},
            "data": {"batch": 16},
        }
        for part, values in parts.items():
            keys[part] = keys.get(part, {}) | values
        return parse_recipe(keys | {"stage": list(stages) or [{"size": 32, "epochs": 1, "lr": 1e-2}]})

    def train(
        self,
        recipe: Recipe,
        *,
        checkpoint: Checkpoint | None = None,
        save: Callable[[Checkpoint], None] = lambda checkpoint: None,
        tell: Callable[[Progress], None] = lambda event: None,
        splits: dict[int, Split] | None = None,
    ) -> Loop:
        """A loop that has come to its end; ``loop.network`` is trained."""
        splits = splits or {stage.size: self.split(stage.size) for stage in recipe.stage}
        with quiet(), deterministic():
            network = build(recipe.model, 3, size=recipe.stage[0].size, seed=recipe.train.seed)
            loop = Loop(
                network,
                recipe,
                splits,
                classes=self.classes,
                healthy=self.classes[:1],
                fabric=fabric(precision=recipe.train.precision),
                save=save,
                tell=tell,
            )
            loop.fit(checkpoint)
        return loop

    def same(self, one: Network, other: Network) -> bool:
        """Whether two networks have the same weights, bit for bit."""
        mine, theirs = one.state_dict(), other.state_dict()
        return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def small() -> Small:
    return Small()
