from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load

from carina.errors import ExportError
from carina.scoring import kept
from carina.training import graph
from carina.training.export import Exported, compare, export
from carina.training.network import Network, Outputs
from carina.training.recipe import ModelPart
from carina.training.weights import build

ABOUT = {"classes": "a\nb\nc", "use": "not a medical device"}


def network(backbone: str = "test_resnet") -> Network:
    return build(ModelPart(backbone=backbone, pretrained=False), 3, size=32, seed=0).eval()


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(films: np.ndarray) -> tuple[Network, Exported]:
    trained = network()
    return trained, export(trained, films, about=ABOUT)


def test_onnx_runtime_gives_what_torch_gives_for_any_number_of_films(made: Any, films: np.ndarray) -> None:
    trained, exported = made
    session = onnxruntime.InferenceSession(exported.onnx)
    for count in (1, 3, 20):
        theirs = session.run(["logits", "embedding", "cam"], {"pixels": films[:count, None]})
        with torch.no_grad():
            ours = Outputs(trained)(torch.from_numpy(films[:count, None]))
        for own, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(other, own.numpy(), atol=1e-5)
    assert exported.apart < 1e-5
    assert exported.images == 20


def test_the_graph_is_one_file_of_a_fixed_opset_that_names_no_path(made: Any) -> None:
    written = onnx.load_from_string(made[1].onnx)
    assert [(o.domain, o.version) for o in written.opset_import] == [("", 18)]
    assert not any(t.external_data for t in written.graph.initializer)
    assert b"site-packages" not in made[1].onnx
    assert b".py" not in made[1].onnx
    assert {p.key: p.value for p in written.metadata_props} == ABOUT


def test_the_shapes_are_those_of_the_graph(made: Any) -> None:
    assert made[1].shapes == {"logits": ("N", 3), "embedding": ("N", 96), "cam": ("N", 3, 1, 1)}
    written = onnx.load_from_string(made[1].onnx).graph
    given = written.input[0].type.tensor_type
    assert written.input[0].name == "pixels"
    assert given.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in given.shape.dim] == ["N", 1, 32, 32]


def test_the_same_network_gives_the_same_bytes(made: Any, films: np.ndarray) -> None:
    again = export(made[0], films, about=ABOUT)
    assert (again.onnx, again.weights) == (made[1].onnx, made[1].weights)


def test_a_graph_is_traced_once_and_filled_for_other_weights(
    made: Any, films: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy.deepcopy(made[0])
    with torch.no_grad():
        other.head.weight.mul_(-2)
    monkeypatch.setattr(graph, "_traced", None)
    exported = export(other, films, about=ABOUT)
    assert exported.apart < 1e-5
    assert exported.onnx != made[1].onnx


def test_a_kept_graph_that_computes_something_else_is_traced_anew(
    made: Any, films: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = graph._name(Outputs(made[0]), 32)
    content = kept.read(name)
    assert content is not None
    monkeypatch.setenv("CARINA_CACHE", str(tmp_path))
    kept.write(name, content.replace(b"Relu", b"Sqrt"))
    assert export(made[0], films, about=ABOUT).onnx == made[1].onnx
    assert kept.read(name) == content


def test_the_weights_are_those_of_the_network(made: Any) -> None:
    weights = load(made[1].weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in made[0].state_dict().items())


def test_a_vision_transformer_ships_with_its_map(films: np.ndarray) -> None:
    assert export(network("test_vit"), films, about=ABOUT).shapes["cam"] == ("N", 3, 2, 2)


@pytest.mark.parametrize("part", ["head.bias", "body.conv1.0.weight"])
def test_a_graph_that_computes_something_else_is_refused(made: Any, films: np.ndarray, part: str) -> None:
    other = copy.deepcopy(made[0])
    with torch.no_grad():
        other.get_parameter(part).add_(0.1)
    with pytest.raises(
        ExportError, match=r"differ by .*e[+-]\d\d in .*, more than 1e-04; nothing was written"
    ):
        compare(Outputs(other), made[1].onnx, films)


def test_a_network_that_answers_no_numbers_is_refused(films: np.ndarray) -> None:
    broken = network()
    with torch.no_grad():
        broken.head.bias[1] = float("nan")
    with pytest.raises(ExportError, match="values that are no numbers"):
        export(broken, films, about=ABOUT)
