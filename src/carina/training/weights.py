"""From a recipe's backbone to a network with its weights: every name and shape is checked.

The one place that talks to timm's registry, its hub and its folder format, and that turns their
errors into ours.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import timm
import torch
from torch import nn

from carina.errors import RecipeError, WeightsError
from carina.training.network import Network, drop_unused
from carina.training.recipe import ModelPart
from carina.training.weights_file import finish, put_on, read_weights, used_and_not

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_OWN = 'give a folder with model.backbone = "local-dir:PATH", or set model.pretrained = false'


def build(
    model: ModelPart,
    classes: int | Sequence[str],
    *,
    size: int,
    seed: int,
    pretrained: bool | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Network:
    """The network of a recipe for gray films of a size; whatever is not loaded is drawn from the seed.

    ``classes`` are their names, or how many. ``pretrained`` False skips the weights where a checkpoint
    will replace them anyway; ``note`` hears what of the weights was used, and what not.
    Raises RecipeError (no such backbone, wrong size) and WeightsError (weights cannot be had, do not fit).
    """
    names = () if isinstance(classes, int) else tuple(classes)
    count = classes if isinstance(classes, int) else len(names)
    file = None
    with torch.random.fork_rng(), _quiet():
        torch.manual_seed(seed)
        body = _architecture(model.backbone)
        if model.weights is not None and pretrained is not False:
            file = read_weights(Path(model.weights), body)
            put_on(body, file)
        elif model.pretrained if pretrained is None else pretrained:
            body = _with_weights(model.backbone, body)
        whole = list(body.state_dict())
        body.reset_classifier(0, "")
        network = _assemble(model, body, count)
    try:
        network.set_size(size)
        drop_unused(network.body, size)
    except ValueError as error:
        raise RecipeError(f"model.backbone: {model.backbone} {error}; choose another stage size") from error
    if file is not None:
        note(finish(network, file, names))
    elif model.pretrained and pretrained is not False:
        used = network.body.state_dict()
        note(used_and_not(model.backbone, len(used), [name for name in whole if name not in used]))
    return network


def _assemble(model: ModelPart, body: nn.Module, classes: int) -> Network:
    shipped = body.pretrained_cfg
    if not hasattr(body, "forward_features"):
        raise RecipeError(
            f"model.backbone: {model.backbone} has no feature map; choose an image classifier of timm's"
        )
    return Network(
        body, classes, mean=fmean(shipped["mean"]), std=fmean(shipped["std"]), drop_rate=model.drop_rate
    )


def _architecture(name: str) -> nn.Module:
    """The network with random weights, as timm builds it for gray films."""
    if name.startswith(_LOCAL):
        folder = Path(name.removeprefix(_LOCAL))
        if not (folder / "config.json").is_file():
            raise WeightsError(
                f"{folder}: no config.json there; model.backbone = local-dir:PATH takes a folder in timm's "
                "format (config.json and model.safetensors)"
            )
    try:
        return timm.create_model(name, pretrained=False, in_chans=1)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise WeightsError(
                f"{name}: timm cannot build it ({_line(error)}); update timm or {_OWN}"
            ) from error
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=1)
        cure = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists the names"
        raise RecipeError(f"model.backbone: timm knows no network {name!r}; {cure}") from None
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{name}: its configuration cannot be had ({_line(error)}); {_OWN}") from error


def _with_weights(name: str, random: nn.Module) -> nn.Module:
    """The same network with its weights, loaded with the classifier they came with: then timm is strict."""
    shipped = random.pretrained_cfg
    if not name.startswith((_LOCAL, _HUB)) and not any(
        shipped.get(key) for key in ("url", "hf_hub_id", "file")
    ):
        raise WeightsError(f"{name}: timm has no weights for it; {_OWN}")
    try:
        return timm.create_model(name, pretrained=True, in_chans=1, num_classes=shipped["num_classes"])
    except RuntimeError as error:
        raise WeightsError(
            f"{name}: the weights are of another network ({_line(error)}); correct model.backbone, or {_OWN}"
        ) from error
    except Exception as error:  # the hub's client raises its own, and its transport's, and changes them
        raise WeightsError(f"{name}: the weights cannot be had ({_line(error)}); {_OWN}") from error


def _line(error: Exception) -> str:
    """A foreign error on one line, not longer than one reads: what is missing and what was not used."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub client's log of every retry: the error that follows says it."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(level)
