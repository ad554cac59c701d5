"""A network's graph with 8-bit whole numbers inside: ONNX bytes in, ONNX bytes out.

Static quantisation by ONNX Runtime's own tool: every convolution's weights in 7 bits, a scale for each
output channel; activations in 8 bits, their ranges measured on real films; written as pairs of
QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime fuses on loading. 7 bits and not 8, because
two 8-bit products overflow 16 bits on processors without VNNI, and the same film would score differently
there. What makes the outputs (the linear head, the map) stays in float32. Whether the result may be used is
decided elsewhere (:mod:`carina.evaluation.quantize`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import BundleError, MissingExtra
from carina.scoring import runtime

METHOD = "static, per channel, QDQ: 7-bit weights, 8-bit activations (range of all calibration films)"
_OPERATORS = ("Conv", "Add", "Mul", "MaxPool", "AveragePool", "Concat", "Relu", "Clip")
_BATCH = 8


def to_int8(model: bytes, films: NDArray[np.uint8], root: Path) -> bytes:
    """The model in 8-bit whole numbers, its ranges measured on prepared ``films`` (N, S, S).

    ``root`` is the bundle that errors speak of. Raises :class:`~carina.errors.BundleError` where the
    graph cannot be quantised, ``MissingExtra`` without the package ``onnx``.
    """
    runtime.load()
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError as error:
        raise MissingExtra("carina quantize", "quantize") from error

    with tempfile.TemporaryDirectory(prefix="carina-int8-") as folder, _quiet():
        given, ready, made = (Path(folder) / f"{name}.onnx" for name in ("given", "ready", "made"))
        given.write_bytes(model)
        try:
            quant_pre_process(str(given), str(ready), skip_symbolic_shape=True)
            plain = onnx.load(str(ready))
            for number, node in enumerate(plain.graph.node):  # the tool knows nodes by their names
                node.name = f"{number} {node.op_type}"
            onnx.save(plain, str(ready))
            outputs = {output.name for output in plain.graph.output}
            quantization.quantize_static(
                str(ready),
                str(made),
                _reader(films),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_OPERATORS),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=[node.name for node in plain.graph.node if outputs & set(node.output)],
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": False},
            )
            proto = onnx.load(str(made))
        except Exception as error:  # the tool raises whatever it meets
            fault = " ".join(str(error).split())[:160]
            raise BundleError(
                f"{root}: the network cannot be quantised ({type(error).__name__}: {fault}); use it as it is"
            ) from error
    if not any(node.op_type == "QuantizeLinear" for node in proto.graph.node):
        raise BundleError(f"{root}: the network has no part that can be quantised; use it as it is")
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info):
        holder.ClearField("doc_string")
    used = {node.domain for node in proto.graph.node} | {""}
    kept = [each for each in proto.opset_import if each.domain in used]  # the tool lists all it knows
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def for_runtime(model: bytes, form: str) -> bytes:
    """The same model, marked as ``form``: another sha256, since what runs it gives other numbers."""
    import onnx

    proto = onnx.load_from_string(model)
    proto.metadata_props.add(key="carina.form", value=form)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _reader(films: NDArray[np.uint8]) -> Any:
    """The films as ONNX Runtime's tool asks for them, a few at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._at = 0

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = films[self._at : self._at + _BATCH]
            self._at += _BATCH
            return {"pixels": batch[:, np.newaxis]} if len(batch) else None

    return Reader()


@contextlib.contextmanager
def _quiet() -> Any:
    """The tool prints and logs advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
