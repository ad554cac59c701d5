"""What a network says of a stage's validation films. What a frozen body sees in them is computed once."""

from __future__ import annotations

import math

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from carina.training.features import Tell, embed
from carina.training.films import Feed, Films, sent
from carina.training.network import Network


class Judge:
    """The validation films at the stage's size. ``batch`` is how many at least go through at once."""

    def __init__(self, films: Films, fabric: Fabric, *, batch: int, tell: Tell) -> None:
        self.films, self.fabric = films, fabric
        self._feed, self._batch, self._tell = Feed(films, fabric.device), max(64, batch), tell
        self._seen: torch.Tensor | None = None

    @torch.no_grad()
    def logits(self, network: Network, *, frozen: bool) -> NDArray[np.float32]:
        """The same on every device. ``frozen``: the body is the same at every call. (n, C)"""
        network.eval()
        if not frozen:
            return self._logits(network)
        if self._seen is None:
            feed = self._feed
            count = len(self.films)
            self._seen = embed(network, lambda share: feed.batch(share.which), count, self.fabric, self._tell)
        with self.fabric.autocast():
            return network(self._seen).float().cpu().numpy()

    def _logits(self, network: Network) -> NDArray[np.float32]:
        count, fabric = len(self.films), self.fabric
        logits = torch.zeros(count, network.head.out_features, device=fabric.device)
        for chosen in np.array_split(np.arange(count), math.ceil(count / self._batch)):
            mine = chosen[fabric.global_rank :: fabric.world_size]
            if len(mine):
                pixels = self._feed.batch(mine).contiguous(memory_format=torch.channels_last)
                with fabric.autocast():
                    logits[sent(mine, fabric.device)] = network(pixels).float()
        return fabric.all_reduce(logits, reduce_op="sum").cpu().numpy()
