"""An exponential moving average of the weights: what is validated and exported where a recipe asks for it.

The decay rises with the step to the recipe's, as 1 - step^(-2/3) in timm's ModelEmaV3 when it warms
up, so that a short run does not ship its random beginning. A function of the steps alone: the average
and the position are all there is to resume. Batch-norm statistics are averaged like weights.
"""

from __future__ import annotations

import copy

import torch

from carina.training.network import Network

WARM_UP = 2 / 3  # the power


class Average:
    """``network`` holds the averaged weights, in evaluation mode."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._moving: list[torch.Tensor] = []
        self._following: list[torch.Tensor] = []
        self._counted: list[tuple[torch.Tensor, torch.Tensor]] = []

    def enter(self, network: Network, size: int) -> None:
        """Follow the network through a stage. A frozen body does not move, so it is taken as it is."""
        self.network.set_size(size)
        self.network.eval()
        inner, outer = (network.head, self.network.head) if network.frozen else (network, self.network)
        if network.frozen:
            self.network.body.load_state_dict(network.body.state_dict())
        pairs = list(zip(inner.state_dict().values(), outer.state_dict().values(), strict=True))
        self._moving = [theirs for theirs, _ in pairs if theirs.is_floating_point()]
        self._following = [ours for _, ours in pairs if ours.is_floating_point()]
        self._counted = [(theirs, ours) for theirs, ours in pairs if not ours.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average on, after optimiser step ``step`` of the run (from 1)."""
        torch._foreach_lerp_(self._following, self._moving, 1 - decay_at(step, self.decay))
        for theirs, ours in self._counted:
            ours.copy_(theirs)


def decay_at(step: int, decay: float) -> float:
    """The share that stays of the average at a step (from 1)."""
    return min(decay, 1 - step**-WARM_UP)
