from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from carina.scoring.graph import Value, declared
from tests.bundles import tiny_model


def test_declarations_are_those_the_onnx_package_reads() -> None:
    found = declared(tiny_model(classes=6, size=32).SerializeToString())
    assert found.opset == 18
    assert found.inputs == (Value("pixels", "uint8", ("N", 1, 32, 32)),)
    assert found.outputs == (
        Value("logits", "float32", ("N", 6)),
        Value("embedding", "float32", ("N", 5)),
        Value("cam", "float32", ("N", 6, 8, 8)),
    )
    assert found.domains == {""}
    assert not found.external_data


def external() -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def test_external_data_is_seen_in_a_constant() -> None:
    model = tiny_model()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external()))
    assert declared(model.SerializeToString()).external_data


def test_external_data_is_seen_in_a_graph_inside_a_node() -> None:
    model = tiny_model()
    inner = helper.make_graph([], "inner", [], [helper.make_tensor_value_info("c", 1, [3])], [external()])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))
    assert declared(model.SerializeToString()).external_data


def test_external_data_is_seen_when_only_its_location_is_given() -> None:
    model = tiny_model()
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    assert declared(model.SerializeToString()).external_data


def test_a_second_graph_in_the_same_file_is_looked_at_too() -> None:
    more = onnx.ModelProto()
    more.graph.initializer.append(external())
    assert declared(tiny_model().SerializeToString() + more.SerializeToString()).external_data


def test_a_domain_inside_a_function_is_seen_and_the_functions_own_domain_is_known() -> None:
    model = tiny_model()
    node = helper.make_node("Run", ["x"], ["y"], domain="evil")
    model.functions.append(
        helper.make_function("ours", "f", ["x"], ["y"], [node], [helper.make_opsetid("evil", 1)])
    )
    model.graph.node.append(helper.make_node("f", ["cam"], ["z"], domain="ours"))
    assert declared(model.SerializeToString()).domains == {"", "evil"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\x08", b"not a model at all", b"\x3a\xff\xff\xff\xff\x0f", b"\x0b\x0b", b"0000ORTM"],
)
def test_what_is_no_model_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        declared(content)


def test_damaged_models_are_read_or_refused_and_never_crash() -> None:
    model, rng = tiny_model().SerializeToString(), random.Random(0)
    refused = 0
    for _ in range(1500):
        content = bytearray(model[: rng.randrange(len(model))] if rng.random() < 0.3 else model)
        for _ in range(rng.randrange(1, 8)):
            content[rng.randrange(max(1, len(content)))] = rng.randrange(256) if content else 0
        try:
            declared(bytes(content))
        except ValueError:
            refused += 1
    assert refused > 300


def test_graphs_nested_without_end_are_refused() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=inner)], "g", [], [])
    model = tiny_model()
    model.graph.node.extend(inner.node)
    with pytest.raises(ValueError, match="nested too deeply"):
        declared(model.SerializeToString())
