"""The tensors of a checkpoint by name, and back: network, optimizer, average, the stage's best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric

from carina.training.average import Average
from carina.training.network import Network

State = dict[str, torch.Tensor]


def of_weights(network: Network, average: Average | None) -> State:
    """The network's tensors and, where there is one, its average's."""
    state = _prefixed("network.", network.state_dict())
    return state | _prefixed("average.", average.network.state_dict()) if average else state


def of_optimizer(network: Network, optimizer: torch.optim.Optimizer) -> State:
    """Each parameter's moments, under the parameter's name."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"optimizer.{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def kept(state: Mapping[str, torch.Tensor]) -> State:
    """A copy that stays as it is while the network learns on."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def part(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    """The tensors whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def load_weights(state: Mapping[str, torch.Tensor], network: Network, average: Average | None) -> None:
    """The reverse of ``of_weights``."""
    network.load_state_dict(part(state, "network."))
    if average is not None:
        average.network.load_state_dict(part(state, "average."))


def load_optimizer(
    state: Mapping[str, torch.Tensor], network: Network, optimizer: torch.optim.Optimizer
) -> None:
    """The reverse of ``of_optimizer``; a parameter without moments stays without."""
    for name, parameter in network.named_parameters():
        moments = part(state, f"optimizer.{name}.")
        if moments:
            optimizer.state[parameter] = {key: _like(t, parameter) for key, t in moments.items()}


@contextmanager
def held(network: Network, optimizer: torch.optim.Optimizer, fabric: Fabric) -> Iterator[None]:
    """Whatever happens to them inside, weights, statistics, moments, rates, loss scaler and torch's random
    state are afterwards what they were, to the bit.
    """
    weights = kept(network.state_dict())
    moments = {parameter: kept(state) for parameter, state in optimizer.state.items()}
    options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    scaler, training = fabric.strategy.precision.state_dict(), network.training
    with torch.random.fork_rng():
        try:
            yield
        finally:
            network.load_state_dict(weights)
            optimizer.zero_grad(set_to_none=True)
            optimizer.state.clear()
            optimizer.state.update(moments)
            for group, option in zip(optimizer.param_groups, options, strict=True):
                group.update(option)
            if scaler:
                fabric.strategy.precision.load_state_dict(scaler)
            network.train(training)


def _prefixed(prefix: str, state: Mapping[str, torch.Tensor]) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A moment on its parameter's device and in its memory layout, which the sums depend on."""
    if tensor.ndim == 0:
        return tensor.clone().to(parameter.device)
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
