"""AdamW over layer groups, with a learning rate for each.

fastai's settings: beta2 0.99, epsilon 1e-5, and no weight decay on norms and biases.
"""

from __future__ import annotations

import torch

from carina.training.network import Network
from carina.training.recipe import Stage
from carina.training.schedule import one_cycle, spread

BETA2 = 0.99
EPSILON = 1e-5


def adamw(network: Network, stage: Stage, *, weight_decay: float) -> torch.optim.AdamW:
    """The optimizer of one stage, over the parameters that learn in it."""
    groups = network.groups()
    parts = []
    for rate, group in zip(spread(*stage.rates, len(groups)), groups, strict=True):
        learning = [parameter for _, parameter in group if parameter.requires_grad]
        for decay, chosen in (
            (weight_decay, [p for p in learning if p.ndim > 1]),
            (0.0, [p for p in learning if p.ndim <= 1]),
        ):
            if chosen:
                parts.append({"params": chosen, "weight_decay": decay, "peak": rate, "lr": rate})
    fused = next(network.parameters()).device.type in ("cpu", "cuda")  # elsewhere a kernel for each tensor
    return torch.optim.AdamW(parts, betas=(0.9, BETA2), eps=EPSILON, fused=fused)


def set_peaks(optimizer: torch.optim.Optimizer, network: Network, stage: Stage) -> None:
    """Give each layer group the rate of a stage whose rate was found after the optimizer was made."""
    groups = network.groups()
    peaks = {
        parameter: rate
        for rate, group in zip(spread(*stage.rates, len(groups)), groups, strict=True)
        for _, parameter in group
    }
    for part in optimizer.param_groups:
        part["peak"] = part["lr"] = peaks[part["params"][0]]


def set_sweep(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Put every group at its share of one rate, as the rate finder sweeps it; the peaks are per unit."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate


def set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
    """Put the optimizer where one-cycle wants it at a step of a stage; returns the last group's rate."""
    factor, momentum = one_cycle(step, steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        group["betas"] = (momentum, BETA2)
    return float(optimizer.param_groups[-1]["lr"])
