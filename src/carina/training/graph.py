"""The ONNX graph of a network. Tracing takes torch ten seconds; a graph it traced before is filled anew.

What is kept is the graph as traced, without the weights; the weights of this network are put in by
their names, and only then is it simplified (norms folded into convolutions and the like). So a network
gets the same bytes either way, and a graph that does not fit is never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import onnx
import onnxscript
import torch
from google.protobuf.message import DecodeError
from torch import nn

from carina.errors import ExportError
from carina.scoring import kept

OPSET = 18
OUTPUTS = ("logits", "embedding", "cam")


def onnx_graph(
    model: nn.Module, size: int, about: Mapping[str, str], *, anew: bool = False
) -> onnx.ModelProto:
    """The network as one ONNX file, without the traces of the machine it was exported on.

    ``model`` takes (N, 1, size, size) uint8 and answers with ``OUTPUTS``; ``about`` is written into the
    graph; ``anew`` looks at no graph that is kept. Raises ExportError.
    """
    name = _name(model, size)
    proto = None if anew else _filled(kept.read(name), model)
    if proto is None:
        proto = _traced(model, size)
        kept.write(name, _emptied(proto, model))
    proto = onnxscript.optimizer.optimize(proto)
    onnx.helper.set_model_props(proto, dict(about))
    return proto


def _name(model: nn.Module, size: int) -> str:
    """Names everything that decides a graph but for the weights."""
    tensors = {name: [str(value.dtype), *value.shape] for name, value in model.state_dict().items()}
    decides = [OPSET, size, torch.__version__, onnx.__version__, onnxscript.__version__, repr(model), tensors]
    return f"graph-{hashlib.sha256(json.dumps(decides).encode()).hexdigest()}.onnx"


def _traced(model: nn.Module, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            external_data=False,
            verbose=False,
            optimize=False,
        )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        fault = str(error).strip().splitlines()[0]
        raise ExportError(
            f"the network cannot be written as ONNX ({fault}); choose another backbone"
        ) from error
    proto = program.model_proto
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.functions):
        holder.ClearField("metadata_props")  # stack traces with the paths of this machine
        holder.ClearField("doc_string")
    return proto


def _emptied(proto: onnx.ModelProto, model: nn.Module) -> bytes:
    """The graph without what the network will put in."""
    empty = onnx.ModelProto()
    empty.CopyFrom(proto)
    weights = model.state_dict()
    for held in empty.graph.initializer:
        if held.name in weights:
            held.ClearField("raw_data")
    return empty.SerializeToString(deterministic=True)


def _filled(content: bytes | None, model: nn.Module) -> onnx.ModelProto | None:
    """A graph that was kept with the weights of this network; None where there is none or it does not fit."""
    if content is None:
        return None
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError:
        return None
    weights = model.state_dict()
    for held in proto.graph.initializer:
        if held.name in weights:
            tensor = weights[held.name]
            if tuple(held.dims) != tuple(tensor.shape):
                return None
            held.raw_data = tensor.contiguous().numpy().tobytes()
        elif not held.HasField("raw_data"):
            return None
    return proto
