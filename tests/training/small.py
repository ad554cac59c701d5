"""Training at the smallest size that still learns: films that are easy to tell apart, a tiny network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from carina.data import catalogue as catalogues
from carina.data.catalogue import Catalogue
from carina.records import Progress
from carina.training.checkpoint import Checkpoint
from carina.training.devices import deterministic, fabric, quiet
from carina.training.films import Films
from carina.training.loop import Loop, Split
from carina.training.network import Network
from carina.training.recipe import Recipe, parse_recipe
from carina.training.weights import build


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
        healthy: tuple[str, ...] = classes[:1],
    ) -> Loop:
        """A loop that has come to its end; ``loop.network`` is trained."""
        with quiet(), deterministic():
            loop = self.loop(recipe, save=save, tell=tell, splits=splits, healthy=healthy)
            loop.fit(checkpoint)
        return loop

    def loop(
        self,
        recipe: Recipe,
        *,
        save: Callable[[Checkpoint], None] = lambda checkpoint: None,
        tell: Callable[[Progress], None] = lambda event: None,
        splits: dict[int, Split] | None = None,
        healthy: tuple[str, ...] = classes[:1],
    ) -> Loop:
        """A loop that has not begun."""
        splits = splits or {stage.size: self.split(stage.size) for stage in recipe.stage}
        with quiet():
            return Loop(
                build(recipe.model, 3, size=recipe.stage[0].size, seed=recipe.train.seed),
                recipe,
                splits,
                classes=self.classes,
                healthy=healthy,
                fabric=fabric(precision=recipe.train.precision),
                save=save,
                tell=tell,
            )

    def same(self, one: Network, other: Network) -> bool:
        """Whether two networks have the same weights, bit for bit."""
        mine, theirs = one.state_dict(), other.state_dict()
        return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)

    def catalogue(self, root: Path, counts: Mapping[str, int]) -> Catalogue:
        """Banded films as PNG files of two sources, so many in each split, and their catalogue."""
        rows: list[dict[str, Any]] = []
        (root / "films").mkdir(parents=True)
        for split, count in counts.items():
            films = self.films(count, 48, first_id=len(rows))
            for number, (pixels, label) in enumerate(zip(films.pixels, films.labels, strict=True)):
                path = root / "films" / f"{split}{number:03d}.png"
                Image.fromarray(pixels).save(path)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                source, name = "ab"[number % 2], self.classes[label]
                row = {
                    "image_id": sha256[:16],
                    "sha256": sha256,
                    "path": str(path),
                    "class": name,
                    "label": name,
                }
                row |= {"source": source, "patient": f"{source}:{split}{number}", "group": sha256[:16]}
                row |= {"split": split, "findings": [], "width": 48, "height": 48, "bits": 8, "format": "png"}
                rows.append(row | {"bytes": path.stat().st_size})
        manifest = {"classes": list(self.classes), "healthy": [self.classes[0]]}
        return catalogues.write(root / "catalogue", rows, manifest, {})
