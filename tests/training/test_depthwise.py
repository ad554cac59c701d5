"""Depthwise convolutions compute in float32 on a processor, and nothing else about a network changes."""

from __future__ import annotations

import timm
import torch
from torch import nn

from carina.training.depthwise import in_float32, is_depthwise

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", in_chans=1, num_classes=3).eval()


def dtypes(body: nn.Module, *, depthwise: bool) -> set[tuple[torch.dtype, torch.dtype]]:
    """The numbers that convolutions of one kind get and give under autocast to bfloat16."""
    seen = set()

    def look(module: nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        seen.add((module.weight.dtype, made.dtype))

    found = [
        each for each in body.modules() if isinstance(each, nn.Conv2d) and is_depthwise(each) == depthwise
    ]
    hooks = [each.register_forward_hook(look) for each in found]
    with torch.autocast("cpu", torch.bfloat16):
        body(torch.rand(2, 1, 48, 48))
    for hook in hooks:
        hook.remove()
    assert found
    return seen


def test_it_is_nearer_to_float32_and_goes_on_in_bfloat16() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)
    films = torch.rand(2, 8, 12, 12)
    exact = conv(films)
    with torch.autocast("cpu", torch.bfloat16):
        plain = conv(films)
        with in_float32(conv, CPU):
            mixed = conv(films)
    assert plain.dtype == mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, exact.bfloat16())
    assert not torch.equal(plain, mixed)


def test_only_depthwise_convolutions_change_and_only_while_inside() -> None:
    body = network()
    kinds, names = [type(each) for each in body.modules()], list(body.state_dict())
    with in_float32(body, CPU):
        changed = [each for each in body.modules() if type(each).__name__.startswith("Float32")]
        assert changed
        assert all(is_depthwise(each) for each in changed)
        assert list(body.state_dict()) == names
        assert dtypes(body, depthwise=True) == dtypes(body, depthwise=False)
    assert [type(each) for each in body.modules()] == kinds


def test_without_autocast_not_a_bit_changes() -> None:
    body, films = network(), torch.rand(2, 1, 48, 48)
    before = body(films)
    with in_float32(body, CPU):
        assert torch.equal(body(films), before)


def test_gradients_come_through() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)
    with in_float32(conv, CPU), torch.autocast("cpu", torch.bfloat16):
        conv(torch.rand(2, 8, 12, 12)).float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
    assert float(conv.weight.grad.abs().min()) > 0


def test_a_gpu_is_left_alone() -> None:
    body = network()
    kinds = [type(each) for each in body.modules()]
    with in_float32(body, torch.device("cuda")):
        assert [type(each) for each in body.modules()] == kinds
