"""The network of a bundle that was made for OpenVINO, ready to run; only such a bundle comes here.

OpenVINO (the extra ``openvino``) computes bfloat16 and 8-bit whole numbers in the matrix units of processors
that have them (AMX), several times as fast as ONNX Runtime. Its numbers are others than ONNX Runtime's, so
it is never chosen by the machine: ``carina quantize --form`` makes a bundle for it and checks what that
costs, and the bundle's section ``runtime`` says so.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from carina.errors import BundleError, MissingExtra
from carina.scoring.bundle import Bundle
from carina.scoring.contents import RUNTIME

_REPORTER = "openvino_telemetry"  # OpenVINO does without it where it is missing, and reports nothing then
# what is computed in: what OpenVINO calls that, and what a processor must say that it can do
_NUMBERS = {"bfloat16": ("bf16", "BF16"), "int8": ("f32", "INT8")}


class OpenVinoSession:
    """Runs the graph, one film or batch a thread at a time; as an ONNX Runtime session is asked."""

    def __init__(self, compiled: Any) -> None:
        self._compiled, self._mine = compiled, threading.local()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        """The named outputs for the inputs, each an array of its own."""
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._compiled.create_infer_request()
        request.infer({name: np.ascontiguousarray(value) for name, value in inputs.items()})
        return [request.get_tensor(name).data.copy() for name in outputs]


def open_openvino(bundle: Bundle, threads: int) -> OpenVinoSession:
    """A session whose ``threads`` callers get one thread each, and the same numbers whatever their number.

    Raises :class:`~carina.errors.MissingExtra` without OpenVINO, :class:`~carina.errors.BundleError` where
    this processor lacks what the bundle was shown with, or OpenVINO cannot run the model.
    """
    sys.modules.setdefault(_REPORTER, None)  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{bundle.root}: the bundle was made for OpenVINO, which", "openvino") from error
    hint, ability = _numbers(bundle)
    core = openvino.Core()
    if ability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BundleError(
            f"{bundle.root}: was made for {ability}, which this processor does not compute; "
            "use the bundle it was made from"
        )
    wanted = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # other programs' threads are on these cores, too
    }
    size = bundle.preparation.size
    try:
        session = OpenVinoSession(core.compile_model(core.read_model(bundle.model()), "CPU", wanted))
        # What its binding makes at the first question, two threads that ask first at the same time wait for
        # each other over, for ever: one with the interpreter's lock, one with that of a C++ static.
        session.run(["logits"], {"pixels": np.zeros((1, 1, size, size), np.uint8)})
        return session
    except RuntimeError as error:  # all that OpenVINO raises
        last = " ".join(str(error).split())[-160:]
        raise BundleError(f"{bundle.root}: OpenVINO cannot run the model: {last}; make it again") from error


def _numbers(bundle: Bundle) -> tuple[str, str]:
    section = bundle.sections[RUNTIME]
    found = _NUMBERS.get(str(section.get("numbers")))
    if section.get("library") != "openvino" or found is None:
        raise BundleError(
            f"{bundle.root}: its section {RUNTIME} asks for what this version of Carina does not know; "
            "update Carina, or use the bundle it was made from"
        )
    return found
