from __future__ import annotations

from typing import Any

import pytest
import torch

from carina.training.network import Network, Outputs
from carina.training.recipe import ModelPart
from carina.training.weights import build


def network(backbone: str, size: int = 64) -> Network:
    return build(ModelPart(backbone=backbone, pretrained=False), 3, size=size, seed=0).eval()


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "test_mambaout"]
)
def test_the_mean_of_a_classes_map_plus_its_bias_is_its_logit(backbone: str) -> None:
    made = network(backbone)
    pixels = torch.randint(
        0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        logits, embedding, cam = Outputs(made)(pixels)
        assert torch.equal(logits, made(pixels))
    assert cam.shape[:2] == (2, 3)
    assert embedding.shape == (2, made.head.in_features)
    torch.testing.assert_close(cam.mean((2, 3)) + made.head.bias, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_network_takes_another_size_and_keeps_its_weights(backbone: str) -> None:
    made = network(backbone)
    before = made.head.weight.clone()
    made.set_size(96)
    assert made(torch.zeros(1, 1, 96, 96)).shape == (1, 3)
    assert torch.equal(made.head.weight, before)


def test_pixels_are_normalised_inside() -> None:
    made = network("test_resnet")
    seen: list[torch.Tensor] = []
    made.body.conv1.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    made(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 1, 64, 64))
    assert seen[0].amin((1, 2, 3)).tolist() == pytest.approx(
        [-1, 1]
    )  # its weights came with mean and std 0.5


def test_a_frozen_body_neither_learns_nor_moves_its_statistics() -> None:
    made = network("test_resnet")
    made.freeze(True)
    made.train()
    before = {name: tensor.clone() for name, tensor in made.body.state_dict().items()}
    loss = made(torch.rand(4, 1, 64, 64) * 255).square().sum()
    loss.backward()
    assert made.head.weight.grad is not None
    assert all(parameter.grad is None for parameter in made.body.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in made.body.state_dict().items())
    made.freeze(False)
    assert made.body.training
    assert all(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize(("backbone", "count"), [("test_resnet", 6), ("test_vit", 8), ("mobilenetv2_100", 9)])
def test_layer_groups_run_from_the_stem_to_the_head_and_hold_every_parameter_once(
    backbone: str, count: int
) -> None:
    made = network(backbone)
    groups = made.groups()
    names = [name for group in groups for name, _ in group]
    assert len(groups) == count
    assert sorted(names) == sorted(name for name, _ in made.named_parameters())
    assert [name for name, _ in groups[-1]] == ["head.weight", "head.bias"]
    first = {name.split(".")[1] for name, _ in groups[0]}
    assert first <= {"conv1", "bn1", "patch_embed", "pos_embed", "cls_token", "conv_stem"}


def test_what_only_a_classifier_used_is_gone() -> None:
    made = network("mobilenetv3_small_050")
    assert not [name for name, _ in made.named_parameters() if "conv_head" in name or "classifier" in name]


def test_dropout_is_off_in_use(small: Any) -> None:
    made = build(ModelPart(backbone="test_resnet", pretrained=False, drop_rate=0.5), 3, size=32, seed=0)
    pixels = torch.rand(2, 1, 32, 32) * 255
    assert torch.equal(made.eval()(pixels), made.eval()(pixels))
    assert not torch.equal(made.train().classify(torch.ones(1, 96)), made.classify(torch.ones(1, 96)))


def test_the_first_layer_groups_stay_as_they_are_with_their_statistics() -> None:
    made = network("test_resnet")
    first = {name for group in made.groups()[:2] for name, _ in group}
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.freeze(False, to=2)
    made.train()
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1)
    made(torch.arange(2 * 64 * 64).reshape(2, 1, 64, 64) % 256).square().sum().backward()
    optimizer.step()
    moved = {name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])}
    owners = {name.rpartition(".")[0] for name in first}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    still = {name for name in statistics if name.rpartition(".")[0] in owners}
    assert still
    assert not moved & (first | still)
    assert statistics - still <= moved
    made.freeze(False)
    assert all(parameter.requires_grad for parameter in made.parameters())
