"""From the trained network to the files of a bundle: ONNX, weights, card.

The exported graph takes pixels as ``prepare`` gives them and answers with logits, embedding and class
activation map. It is run beside the network on real films before anybody may have it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from carina.errors import ExportError
from carina.scoring import runtime
from carina.training.graph import OUTPUTS, onnx_graph
from carina.training.network import Network, Outputs

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Exported:
    """``onnx`` and ``weights`` are file contents; ``shapes`` of the outputs, with "N" for the batch.

    ``apart`` is the largest difference in a logit between ONNX Runtime and torch on ``images`` films.
    """

    onnx: bytes
    weights: bytes
    shapes: dict[str, tuple[str | int, ...]]
    apart: float
    images: int


def export(network: Network, films: NDArray[np.uint8], *, about: Mapping[str, str]) -> Exported:
    """Export a network and hold the result against it on real films (n, S, S).

    ``about`` is written into the graph and beside the weights. Raises ExportError when the network
    cannot be exported or ONNX Runtime does not compute what torch does.
    """
    model = Outputs(copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).float())
    model.network.freeze(False)
    model.eval().requires_grad_(False)
    if not all(torch.isfinite(value).all() for value in model(torch.from_numpy(films[:1, None]))):
        raise ExportError("the network answers with values that are no numbers; train again at a lower rate")
    graph, content, apart = _checked(model, films, about)
    weights = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    shapes = {
        value.name: ("N", *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]))
        for value in graph.graph.output
    }
    written = save(
        weights, metadata={"carina": json.dumps(dict(about))}
    )  # one key: safetensors orders no keys
    return Exported(content, written, shapes, apart, len(films))


def _checked(
    model: Outputs, films: NDArray[np.uint8], about: Mapping[str, str], *, anew: bool = False
) -> tuple[onnx.ModelProto, bytes, float]:
    """The graph, its bytes, and how far it is from torch."""
    graph = onnx_graph(model, films.shape[-1], about, anew=anew)
    content = graph.SerializeToString(deterministic=True)
    try:
        return graph, content, compare(model, content, films)
    except ExportError:
        if anew:
            raise
    return _checked(model, films, about, anew=True)  # one that was kept may be another network's after all


@torch.no_grad()
def compare(model: Outputs, content: bytes, films: NDArray[np.uint8]) -> float:
    """The largest difference in a logit between the network and its ONNX file, on films (n, S, S).

    Raises ExportError where logits, embedding, map or probabilities are too far apart.
    """
    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    apart = 0.0
    for start in range(0, len(films), 16):
        pixels = films[start : start + 16, None]
        ours = [t.numpy() for t in model(torch.from_numpy(pixels))]
        theirs = session.run(list(OUTPUTS), {"pixels": pixels})
        if not all(np.isfinite(value).all() for value in ours):
            raise ExportError(
                "the network answers with values that are no numbers; train again at a lower rate"
            )
        for name, own, other in zip(OUTPUTS, ours, theirs, strict=True):
            scale = max(1.0, float(np.abs(own).max()))  # float32 carries seven digits, not seven decimals
            _check(name, float(np.abs(own - other).max()) / scale)
        _check("a probability", float(np.abs(_softmax(ours[0]) - _softmax(theirs[0])).max()))
        apart = max(apart, float(np.abs(ours[0] - theirs[0]).max()))
    return apart


def embeddings(content: bytes, films: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the exported file says of films (n, S, S): their embeddings, (n, D)."""
    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.use_deterministic_compute = True  # a resumed run writes the same file
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["embedding"], {"pixels": films[start : start + 32, None]})[0]
        for start in range(0, len(films), 32)
    ]
    return np.concatenate(parts)


def _check(what: str, apart: float) -> None:
    if not apart <= TOLERANCE:
        raise ExportError(
            f"ONNX Runtime and torch differ by {apart:.1e} in {what}, more than {TOLERANCE:.0e}; nothing was "
            "written: choose another backbone, or report this with the recipe"
        )


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)
