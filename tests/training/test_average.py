from __future__ import annotations

import pytest
import torch
from timm.utils import ModelEmaV3

from carina.training.average import Average, decay_at
from carina.training.network import Network
from carina.training.recipe import ModelPart
from carina.training.weights import build


def network(seed: int = 0) -> Network:
    return build(ModelPart(backbone="test_resnet", pretrained=False), 3, size=32, seed=seed)


def walk(made: Network, average: Average | None, other: ModelEmaV3 | None = None, steps: int = 5) -> None:
    for step in range(1, steps + 1):
        with torch.no_grad():
            for number, parameter in enumerate(made.parameters()):
                parameter += 0.1 * step + number
        made.body.bn1.num_batches_tracked += 1
        if average:
            average.update(step)
        if other:
            other.update(made, step=step)


def test_it_moves_as_timms_does() -> None:
    made = network()
    ours, timms = Average(made, 0.9), ModelEmaV3(made, decay=0.9, use_warmup=True)
    ours.enter(made, 32)
    walk(made, ours, timms)
    theirs = timms.module.state_dict()
    for name, tensor in ours.network.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name])


def test_the_decay_warms_up_to_the_one_asked_for() -> None:
    assert decay_at(8, 0.99) == pytest.approx(0.75)
    assert decay_at(10**6, 0.99) == 0.99


def test_of_a_frozen_network_only_the_head_is_averaged() -> None:
    made = network()
    average = Average(made, 0.9)
    with torch.no_grad():
        made.body.conv1[0].weight.add_(1.0)
    made.freeze(True)
    average.enter(made, 32)
    with torch.no_grad():
        made.head.weight.add_(1.0)
    average.update(10**6)
    assert torch.equal(average.network.body.conv1[0].weight, made.body.conv1[0].weight)
    lag = made.head.weight.detach() - average.network.head.weight
    assert float(lag.mean()) == pytest.approx(0.9, abs=1e-5)
