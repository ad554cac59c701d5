"""A tiny bundle for tests: a real ONNX graph with every output of a real one, made without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carina.images.prepare import Preparation
from carina.scoring.bundle import write_bundle
from carina.scoring.manifest import Manifest, training_images

CLASSES = ("Bacterial Pneumonia", "COVID-19", "Normal")
FEATURES, CELLS = 5, 8  # the embedding's length; the map is CELLS × CELLS
MEAN, STD, OPSET = 0.5, 0.25, 18


def tiny_model(classes: int = len(CLASSES), size: int = 64, *, seed: int = 0) -> onnx.ModelProto:
    """pixels → normalised → one convolution → features → map → logits; ``size`` is a multiple of 8."""
    rng = np.random.default_rng(seed)
    kernel = size // CELLS
    weights = {
        "scale": np.float32(255),
        "mean": np.float32(MEAN),
        "std": np.float32(STD),
        "kernel": rng.normal(0, 1 / kernel, (FEATURES, 1, kernel, kernel)).astype(np.float32),
        "head": rng.normal(0, 1, (classes, FEATURES, 1, 1)).astype(np.float32),
        "bias": rng.normal(0, 0.3, classes).astype(np.float32),
        "space": np.array([2, 3], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["gray", "scale"], ["unit"]),
        helper.make_node("Sub", ["unit", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "kernel"], ["raw"], strides=[kernel, kernel]),
        helper.make_node("Relu", ["raw"], ["features"]),
        helper.make_node("ReduceMean", ["features", "space"], ["embedding"], keepdims=0),
        helper.make_node("Conv", ["features", "head"], ["cam"]),
        helper.make_node("ReduceMean", ["cam", "space"], ["pooled"], keepdims=0),
        helper.make_node("Add", ["pooled", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 1, size, size])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", FEATURES]),
            helper.make_tensor_value_info("cam", TensorProto.FLOAT, ["N", classes, CELLS, CELLS]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def tiny_manifest(
    classes: Sequence[str] = CLASSES, size: int = 64, fingerprint: str | None = None
) -> Manifest:
    """The manifest that fits :func:`tiny_model`."""
    count = len(classes)
    return Manifest.model_validate(
        {
            "name": "tiny",
            "created": "2026-01-01T00:00:00Z",
            "carina": "0.1.0",
            "classes": tuple(classes),
            "healthy": tuple(name for name in classes if name == "Normal"),
            "preparation": Preparation(size=size).to_dict(),
            "normalisation": {"mean": MEAN, "std": STD},
            "input": {"shape": ("N", 1, size, size)},
            "outputs": {
                "logits": ("N", count),
                "embedding": ("N", FEATURES),
                "cam": ("N", count, CELLS, CELLS),
            },
            "opset": OPSET,
            "data": {
                "catalogue": "0" * 64,
                "fingerprint": fingerprint or training_images(())[1],
                "images": 0,
            },
            "parity": {"max_abs_diff": 0.0, "images": 0},
        }
    )


def tiny_bundle(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    size: int = 64,
    *,
    model: onnx.ModelProto | None = None,
    seed: int = 0,
    trained_on: Sequence[str] = (),
) -> Path:
    """Write a bundle at ``folder`` and answer with it. ``trained_on`` are sha256s of training films."""
    listed, fingerprint = training_images(trained_on)
    made = model or tiny_model(len(classes), size, seed=seed)
    files: dict[str, bytes | Path] = {
        "model.onnx": made.SerializeToString(),
        "card.md": b"# tiny\n\nA network for tests. Not a medical device.\n",
        "training-images.txt": listed,
    }
    return write_bundle(folder, tiny_manifest(classes, size, fingerprint), files).root
