"""Convolutions that compute another way on a processor: the same numbers, and nothing else changes."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from carina.training.convolutions import is_dense, is_depthwise, suited

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
        with suited(conv, CPU):
            mixed = conv(films)
    assert plain.dtype == mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, exact.bfloat16())
    assert not torch.equal(plain, mixed)


def test_only_depthwise_convolutions_change_and_only_while_inside() -> None:
    body = network()
    kinds, names = [type(each) for each in body.modules()], list(body.state_dict())
    with suited(body, CPU):
        changed = [each for each in body.modules() if type(each).__name__.startswith("InFloat32")]
        assert changed
        assert all(is_depthwise(each) for each in changed)
        assert list(body.state_dict()) == names
        assert dtypes(body, depthwise=True) == dtypes(body, depthwise=False)
    assert [type(each) for each in body.modules()] == kinds


def test_without_autocast_not_a_bit_changes() -> None:
    body, films = network(), torch.rand(2, 1, 48, 48)
    before = body(films)
    with suited(body, CPU):
        assert torch.equal(body(films), before)


def test_gradients_come_through() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)
    with suited(conv, CPU), torch.autocast("cpu", torch.bfloat16):
        conv(torch.rand(2, 8, 12, 12)).float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
    assert float(conv.weight.grad.abs().min()) > 0


def test_a_gpu_is_left_alone() -> None:
    body = network()
    kinds = [type(each) for each in body.modules()]
    with suited(body, torch.device("cuda")):
        assert [type(each) for each in body.modules()] == kinds


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        ((2, 2), 3, 1, 1),
        ((4, 4), 3, 2, 1),
        ((8, 7), 3, 1, 1),
        ((4, 3), 3, 1, 0),
        ((3, 4), 3, 1, 2),
        ((4, 4), (3, 1), 1, (0, 1)),
        ((2, 2), 3, 1, 3),
        ((5, 8), (3, 5), (2, 1), (0, 2)),
        ((4, 4), 1, 1, 0),
        ((7, 7), 1, 2, 0),
    ],
)
def test_over_a_small_map_the_gradients_are_those_of_the_convolution(
    side: tuple[int, int], kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 24, kernel, stride, padding, bias=False)
    assert is_dense(conv)
    films = torch.randn(3, 128, *side).to(memory_format=torch.channels_last)
    wanted = torch.randn_like(conv(films))
    found = []
    for exact in (True, False):
        conv.zero_grad()
        seen = films.clone().requires_grad_()
        with suited(conv, CPU), torch.autocast("cpu", torch.bfloat16, enabled=not exact):
            made = conv(seen)
        made.float().backward(wanted)
        assert conv.weight.grad is not None
        assert seen.grad is not None
        assert made.dtype == (torch.float32 if exact else torch.bfloat16)
        found.append((made.detach().float(), conv.weight.grad.clone(), seen.grad))
    assert found[1][1].dtype == torch.float32
    for exact, ours in zip(*found, strict=True):
        assert ours.shape == exact.shape
        assert float((ours - exact).norm() / exact.norm()) < 0.01


def test_over_a_large_map_and_where_nothing_is_learned_not_a_bit_changes() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 8, 3, bias=False)
    small, large = torch.rand(1, 128, 6, 6), torch.rand(1, 128, 20, 20)
    with torch.autocast("cpu", torch.bfloat16):
        conv(large).float().sum().backward()
        plain = conv.weight.grad
        conv.weight.grad = None
        with torch.no_grad():
            before = conv(small)
        with suited(conv, CPU):
            conv(large).float().sum().backward()
            with torch.no_grad():
                assert torch.equal(conv(small), before)
    assert plain is not None
    assert conv.weight.grad is not None
    assert torch.equal(conv.weight.grad, plain)
