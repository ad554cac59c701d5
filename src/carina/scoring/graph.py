"""What an ONNX file declares of itself, read from its bytes before anything runs them.

Knows the protocol buffer wire format and the few field numbers of ``onnx.proto`` that matter here;
knows neither the ``onnx`` package (no part of the core install) nor ONNX Runtime. It exists because
ONNX Runtime follows external data even when it is given bytes: it then opens the named file
relative to the working directory. So this is looked at first, and such a file is never loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_OPSET_IMPORT, _GRAPH, _FUNCTIONS = 8, 7, 25  # ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15  # GraphProto
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7  # NodeProto
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)  # AttributeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # TensorProto
_FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_ATTRIBUTE = 7, 10, 11  # FunctionProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MAX_DEPTH = 16  # graphs inside nodes inside graphs; a classifier has none

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph. A dimension is a number, or a name where it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file says: ``opset`` of the standard operators, every operator domain that a node uses."""

    opset: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    domains: frozenset[str]
    external_data: bool


def declared(model: bytes) -> Declared:
    """Read the declarations of a serialised ONNX model.

    Every occurrence of a field counts, as protocol buffers merge repeated messages. Raises
    ``ValueError`` when the bytes are no ONNX model (ONNX Runtime's own ``.ort`` format included).
    """
    if model[4:8] == b"ORTM":
        raise ValueError("it is in ONNX Runtime's own format, not ONNX")
    walk = _Walk()
    opset = 0
    data = memoryview(model)
    for number, payload in _fields(data):
        if number == _GRAPH:
            walk.graph(_message(payload), depth=0)
        elif number == _OPSET_IMPORT:
            domain, version = _opset(_message(payload))
            if domain in ("", "ai.onnx"):
                opset = version
        elif number == _FUNCTIONS:
            walk.function(_message(payload))
    if not opset or not walk.outputs:
        raise ValueError("it declares no operator set or no outputs")
    weights = {value.name for value in walk.inputs} & walk.initializers
    inputs = tuple(value for value in walk.inputs if value.name not in weights)
    domains = frozenset(walk.domains - walk.own_domains)
    return Declared(opset, inputs, tuple(walk.outputs), domains, walk.external)


class _Walk:
    """Collects what :func:`declared` answers while it goes through graphs, nodes and tensors."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.initializers: set[str] = set()
        self.domains: set[str] = set()
        self.own_domains: set[str] = set()  # of functions that the file itself spells out
        self.external = False

    def graph(self, data: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("its graphs are nested too deeply")
        for number, payload in _fields(data):
            if number == _NODE:
                self.node(_message(payload), depth)
            elif number == _INITIALIZER:
                self.tensor(_message(payload))
            elif number == _SPARSE:
                self.sparse(_message(payload))
            elif number == _INPUT and depth == 0:
                self.inputs.append(_value(_message(payload)))
            elif number == _OUTPUT and depth == 0:
                self.outputs.append(_value(_message(payload)))

    def function(self, data: memoryview) -> None:
        for number, payload in _fields(data):
            if number == _FUNCTION_NODE:
                self.node(_message(payload), depth=0)
            elif number == _FUNCTION_ATTRIBUTE:
                self.attribute(_message(payload), depth=0)
            elif number == _FUNCTION_DOMAIN:
                self.own_domains.add(_text(payload))

    def node(self, data: memoryview, depth: int) -> None:
        domain = ""
        for number, payload in _fields(data):
            if number == _NODE_DOMAIN:
                domain = _text(payload)
            elif number == _NODE_ATTRIBUTE:
                self.attribute(_message(payload), depth)
        self.domains.add(domain)

    def attribute(self, data: memoryview, depth: int) -> None:
        for number, payload in _fields(data):
            if number in _ATTRIBUTE_TENSORS:
                self.tensor(_message(payload))
            elif number in _ATTRIBUTE_GRAPHS:
                self.graph(_message(payload), depth + 1)
            elif number in _ATTRIBUTE_SPARSE:
                self.sparse(_message(payload))

    def sparse(self, data: memoryview) -> None:
        for number, payload in _fields(data):
            if number in (1, 2):  # values, indices
                self.tensor(_message(payload))

    def tensor(self, data: memoryview) -> None:
        for number, payload in _fields(data):
            if number == 8:  # name
                self.initializers.add(_text(payload))
            elif number == _EXTERNAL_DATA or (number == _DATA_LOCATION and payload != 0):
                self.external = True


def _value(data: memoryview) -> Value:
    """ValueInfoProto: name = 1, type = 2 {tensor_type = 1 {elem_type = 1, shape = 2 {dim = 1}}}."""
    name, dtype = "", "unknown"
    shape: list[int | str] = []
    for number, payload in _fields(data):
        if number == 1:
            name = _text(payload)
        elif number == 2:
            for _, tensor in (field for field in _fields(_message(payload)) if field[0] == 1):
                for key, value in _fields(_message(tensor)):
                    if key == 1 and isinstance(value, int):
                        dtype = _DTYPES.get(value, f"type {value}")
                    elif key == 2:
                        shape += [_dimension(_message(dim)) for k, dim in _fields(_message(value)) if k == 1]
    return Value(name, dtype, tuple(shape))


def _dimension(data: memoryview) -> int | str:
    for number, payload in _fields(data):
        if number == 1 and isinstance(payload, int):
            return payload
        if number == 2:
            return _text(payload)
    return "?"


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, payload in _fields(data):
        if number == 1:
            domain = _text(payload)
        elif number == 2 and isinstance(payload, int):
            version = payload
    return domain, version


def _message(payload: int | memoryview) -> memoryview:
    if isinstance(payload, int):
        raise ValueError("a message stands where a number was found")
    return payload


def _text(payload: int | memoryview) -> str:
    return bytes(_message(payload)).decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: (number, value), value an ``int`` or the bytes of the field.

    Source: https://protobuf.dev/programming-guides/encoding/ . Long payloads are stepped over, not copied.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        if at + length > end:
            raise ValueError("it ends in the middle of a field")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
