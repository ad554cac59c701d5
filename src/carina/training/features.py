"""A frozen body's features, computed once: the head then learns from them in milliseconds an epoch.

Exact where nothing random precedes the body. With augmentation on, a recipe may ask for a few views of
each film instead (``frozen_views``): a stage's epoch k then shows view k mod K, and view k is what
epoch k would have shown, so that a stage of up to K epochs is what it would have been without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning.fabric import Fabric

from carina.training.films import Films, sent
from carina.training.lessons import Batch, Lessons, Share
from carina.training.network import Network
from carina.training.recipe import TrainPart

Tell = Callable[[int, int], None]  # films done, of how many
Look = Callable[[Share], torch.Tensor]  # films → pixels (B, 1, S, S)


def cached_views(train: TrainPart) -> int:
    """How many views of each film a frozen stage learns from; 0 where the body must see every epoch anew."""
    if train.mixup or train.cutmix:  # a mixture of two films has no features of its own to keep
        return 0
    return 1 if train.augment.is_off else train.frozen_views


class CachedLessons(Lessons):
    """Lessons whose batches are embeddings, (B, D). ``first`` is the number of the stage's first epoch."""

    def __init__(
        self,
        films: Films,
        train: TrainPart,
        classes: Sequence[str],
        network: Network,
        fabric: Fabric,
        *,
        views: int,
        first: int,
        tell: Tell,
    ) -> None:
        super().__init__(
            films, train, classes, fabric.device, rank=fabric.global_rank, world=fabric.world_size
        )
        self._network, self._fabric, self._tell = network, fabric, tell
        self._views, self._first = views, first
        self._known: dict[int, torch.Tensor] = {}

    def batch(self, share: Share, epoch: int) -> Batch:
        """This device's films of a step, as the body sees them."""
        mine = share.of(self.rank, self.world)
        labels = self.films.labels[mine.which]
        weight = self._there(self.weights[labels])
        return Batch(self._seen(mine, epoch), self._there(labels), weight, self._total(self._weights(share)))

    def _seen(self, share: Share, epoch: int) -> torch.Tensor:
        view = (epoch - self._first) % self._views
        if view not in self._known:
            shown = self._first + view
            self._known[view] = embed(
                self._network,
                lambda films: self._shown(films, shown),
                len(self.films),
                self._fabric,
                self._tell,
            )
        return self._known[view][self._there(share.which)]


@torch.no_grad()
def embed(network: Network, look: Look, count: int, fabric: Fabric, tell: Tell) -> torch.Tensor:
    """The embeddings of the films 0 … count-1 on every device, each device doing its share. (count, D)"""
    size = 64 if fabric.device.type == "cpu" else 512
    known = torch.zeros(count, network.head.in_features, device=fabric.device)
    for chosen in np.array_split(np.arange(count), math.ceil(count / size)):
        mine = chosen[fabric.global_rank :: fabric.world_size]
        if len(mine):
            pixels = look(Share(mine, np.zeros_like(mine))).contiguous(memory_format=torch.channels_last)
            with fabric.autocast():
                known[sent(mine, fabric.device)] = network.embed(pixels)
        tell(int(chosen[-1]) + 1, count)
    return fabric.all_reduce(known, reduce_op="sum")
