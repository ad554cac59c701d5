"""Weights from a safetensors file, put on top of any architecture: every name and shape is checked.

Read as they come: a timm network's own names, those of a Carina bundle (``weights.safetensors``: its mean
and standard deviation are taken over, and its head where the classes are the same), or with one of the
prefixes that training frameworks put before them. A colour stem is folded to gray as timm does it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from timm.models import adapt_input_conv
from torch import nn

from carina.errors import WeightsError
from carina.training.network import Network

_OURS = "body."
_PREFIXES = ("", _OURS, "module.", "model.", "backbone.", "encoder.", "module.backbone.", "model.backbone.")
_SHOWN = 4  # names in a message
_COUNTER = "num_batches_tracked"  # of batch norms: older files lack it, and nothing depends on it


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file's tensors under the architecture's names; ``rest`` under the file's own."""

    path: Path
    tensors: Mapping[str, torch.Tensor]
    rest: Mapping[str, torch.Tensor]
    classes: tuple[str, ...]  # of a bundle; else empty


def read_weights(path: Path, body: nn.Module) -> WeightsFile:
    """Open a file and give its tensors the names they have in ``body``. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; model.weights takes the path of a safetensors file")
    try:
        with safe_open(path, "pt") as file:
            given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            about = json.loads((file.metadata() or {}).get("carina", "{}"))
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise WeightsError(
            f"{path}: not a whole safetensors file ({error}); model.weights reads no other format (a pickle "
            "can run programs)"
        ) from error
    known = body.state_dict()
    prefix = max(_PREFIXES, key=lambda p: sum(p + name in given for name in known))
    tensors = {name: given[prefix + name] for name in known if prefix + name in given}
    rest = {name: tensor for name, tensor in given.items() if name.removeprefix(prefix) not in tensors}
    classes = tuple(str(about["classes"]).split("\n")) if "classes" in about else ()
    return WeightsFile(path, tensors, rest, classes)


def put_on(body: nn.Module, file: WeightsFile) -> None:
    """Load what has a place in the architecture. Raises WeightsError where a shape is another."""
    known, stem = body.state_dict(), (body.pretrained_cfg or {}).get("first_conv")
    heads = _classifiers(body)
    fitting, wrong = {}, []
    for name, tensor in file.tensors.items():
        if name.startswith(heads):
            continue
        if name == f"{stem}.weight" and tensor.ndim == 4 and tensor.shape[1] == 3:
            tensor = adapt_input_conv(known[name].shape[1], tensor)
        if tensor.shape == known[name].shape:
            fitting[name] = tensor
        else:
            wrong.append(f"{name} is {tuple(tensor.shape)} there and {tuple(known[name].shape)} here")
    if wrong:
        raise WeightsError(
            f"{file.path}: weights of another network: {_some(wrong)}; correct model.backbone, or name "
            "another file"
        )
    body.load_state_dict(fitting, strict=False)


def finish(network: Network, file: WeightsFile, classes: Sequence[str]) -> str:
    """Check that nothing the network needs was missing; answers with a line on what was used and what not.

    Raises WeightsError. A bundle's mean, standard deviation and, for the same classes, head are taken over.
    """
    needed = [name for name in network.body.state_dict() if not name.endswith(_COUNTER)]
    missing = [name for name in needed if name not in file.tensors]
    if missing:
        raise WeightsError(
            f"{file.path}: weights of another network: it lacks {_some(missing)}; correct model.backbone, "
            "or name another file"
        )
    used = sum(name in file.tensors for name in network.body.state_dict())
    rest = dict(file.rest)
    with torch.no_grad():
        if {"mean", "std"} <= rest.keys():
            network.mean.copy_(rest.pop("mean"))
            network.std.copy_(rest.pop("std"))
            used += 2
        if file.classes and file.classes == tuple(classes) and {"head.weight", "head.bias"} <= rest.keys():
            network.head.weight.copy_(rest.pop("head.weight"))
            network.head.bias.copy_(rest.pop("head.bias"))
            used += 2
    left = [*rest, *(name for name in file.tensors if name not in network.body.state_dict())]
    return used_and_not(str(file.path), used, left)


def used_and_not(name: str, used: int, left: Sequence[str]) -> str:
    """The line that says what of some weights was used, and what was not."""
    return f"{name}: {used} tensors used; not used: {_some(left) if left else 'none'}"


def _classifiers(body: nn.Module) -> tuple[str, ...]:
    named = (body.pretrained_cfg or {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
