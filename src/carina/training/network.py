"""The network: a timm body, global average pooling, dropout, one linear head.

Because the head is linear on an average, the class activation map is exact for every body: the mean
of a class's map plus its bias is its logit. Normalisation is part of the network, so that pixels go
in as they come out of ``prepare``. Knows nothing of films, recipes' stages or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

Layout = str  # "NCHW", "NHWC" or "NLC" (tokens): how a body lays out its features


class Network(nn.Module):
    """``body`` is a timm network without its classifier; ``mean`` and ``std`` are of pixels in [0, 1]."""

    def __init__(
        self, body: nn.Module, classes: int, *, mean: float, std: float, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.body = body
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(body.num_features, classes)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.frozen = False
        self.layout: Layout = "NCHW"

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """(N, 1, S, S) uint8, or float in [0, 255]; or embeddings (N, D) → logits (N, C)"""
        return self.classify(seen if seen.ndim == 2 else self.embed(seen))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 1, S, S) uint8, or float in [0, 255] → (N, D) float32"""
        return self.pool(self.features(pixels))

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the body sees in the films. → (N, D, h, w)"""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            seen = self.body.forward_features((pixels.float() / 255 - self.mean) / self.std)
            return self._as_map(seen)

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """The embedding: the average over the map, in float32. (N, D, h, w) → (N, D)"""
        return features.float().mean((2, 3))

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """(N, D) → logits (N, C)"""
        return self.head(self.drop(embedding))

    def cam(self, features: torch.Tensor) -> torch.Tensor:
        """What each cell adds to each class's logit. (N, D, h, w) → (N, C, h, w)"""
        return torch.einsum("ndhw,cd->nchw", features.float(), self.head.weight)

    def freeze(self, frozen: bool, *, to: int = 0) -> None:
        """Let the body learn or not, or all of it but the first ``to`` layer groups.

        What is frozen also keeps its batch-norm statistics.
        """
        self.frozen = frozen
        self.body.requires_grad_(not frozen)
        for group in self.groups()[:to]:
            for _, parameter in group:
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Training mode, but for what is frozen: nothing in it is random and nothing in it moves."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        for module in self.body.modules():
            if _is_still(module):
                module.eval()
        return self

    @torch.no_grad()
    def set_size(self, size: int) -> None:
        """Make the network ready for films of this size; keeps the weights.

        Raises ValueError when the body cannot take the size.
        """
        try:
            if hasattr(self.body, "set_input_size"):
                self.body.set_input_size(img_size=(size, size))
            mode = self.training
            self.eval()
            seen = self.body.forward_features(torch.zeros(1, 1, size, size, device=self.mean.device))
            self.train(mode)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"cannot take films of {size} px ({error})") from error
        self.layout = _layout(seen, self.body)

    def groups(self) -> list[list[tuple[str, nn.Parameter]]]:
        """The named parameters from the stem to the head, in the layer groups timm knows."""
        place = _group_of(self.body)
        inner: dict[int, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.body.named_parameters():
            inner.setdefault(place(name), []).append((f"body.{name}", parameter))
        head = [(f"head.{name}", parameter) for name, parameter in self.head.named_parameters()]
        return [*(inner[group] for group in sorted(inner)), head]

    def _as_map(self, features: torch.Tensor) -> torch.Tensor:
        if self.layout == "NHWC":
            return features.permute(0, 3, 1, 2)
        if self.layout == "NLC":  # tokens of a square grid, after those that stand for the whole film
            patches = features[:, getattr(self.body, "num_prefix_tokens", 0) :]
            side = math.isqrt(patches.shape[1])
            return patches.transpose(1, 2).reshape(-1, patches.shape[2], side, side)
        return features


class Outputs(nn.Module):
    """The network as it ships: pixels in; logits, embedding and class activation map out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 1, S, S) uint8 → (N, C), (N, D), (N, C, h, w), all float32"""
        features = self.network.features(pixels)
        embedding = self.network.pool(features)
        return self.network.classify(embedding), embedding, self.network.cam(features)


def drop_unused(body: nn.Module, size: int) -> None:
    """Remove the parts that only a classifier would use, in place: dead weights ship with no model."""
    called: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, *_: called.add(module)) for m in body.modules()]
    try:
        mode = body.training
        body.eval()
        with torch.no_grad():
            body.forward_features(torch.zeros(1, 1, size, size))
        body.train(mode)
    finally:
        for hook in hooks:
            hook.remove()
    for name, child in list(body.named_children()):
        if not any(module in called for module in child.modules()):
            setattr(body, name, nn.Identity())


def _is_still(module: nn.Module) -> bool:
    """Whether there is something to learn in it and none of it does."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _layout(features: torch.Tensor, body: nn.Module) -> Layout:
    if features.ndim == 3:
        patches = features.shape[1] - getattr(body, "num_prefix_tokens", 0)
        if math.isqrt(patches) ** 2 != patches:
            raise ValueError(f"its {patches} tokens are no square grid")
        return "NLC"
    if getattr(body, "output_fmt", None) == "NHWC":
        return "NHWC"
    return "NCHW" if features.shape[1] == body.num_features else "NHWC"


def _group_of(body: nn.Module) -> Any:
    """From a parameter's name to the number of its layer group."""
    if hasattr(body, "group_matcher"):
        from timm.models import group_parameters

        found = group_parameters(body, body.group_matcher(coarse=True), reverse=True)
        return found.__getitem__
    children = {name: place for place, name in enumerate(_first_names(body))}
    return lambda name: children[name.split(".")[0]]


def _first_names(body: nn.Module) -> Iterator[str]:
    return iter(dict.fromkeys(name.split(".")[0] for name, _ in body.named_parameters()))
