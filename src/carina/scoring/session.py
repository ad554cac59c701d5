"""The network of a bundle, ready to run; its optimised graph is kept for the next start.

ONNX Runtime rewrites a graph for the processor it runs on, which takes longer than loading the result. The
result is kept in ONNX Runtime's own format (half as long to load as ONNX) under the sha256 of the model,
ONNX Runtime's version and the processor's abilities, and computes the same numbers, bit for bit. Where ONNX
Runtime was installed for an NVIDIA GPU, the GPU runs the network, and nothing is kept: the optimised graph
would be the GPU's. A bundle that says so is run by OpenVINO instead (:mod:`carina.scoring.openvino`).
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carina.errors import BundleError
from carina.scoring import kept, runtime
from carina.scoring.bundle import Bundle
from carina.scoring.contents import RUNTIME

if TYPE_CHECKING:
    import onnxruntime

    from carina.scoring.openvino import OpenVinoSession

# TF32 rounds to ten bits; the search for the fastest convolution may choose another one in the next run
_ON_GPU = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_WORTH = 1 << 20  # bytes of a model; smaller ones are optimised faster than they are looked up


def open_session(bundle: Bundle, threads: int = 1) -> onnxruntime.InferenceSession | OpenVinoSession:
    """A session on the verified bytes: one thread each run, the same numbers each time.

    ``threads`` is how many will ask at the same time. Raises :class:`~carina.errors.BundleError` where the
    model cannot be run, ``MissingExtra`` where the bundle was made for OpenVINO, which is missing.
    """
    if RUNTIME in bundle.sections:
        from carina.scoring.openvino import open_openvino

        return open_openvino(bundle, threads)
    key = _key(bundle)
    on_gpu = len(providers()) > 1
    graph = None if on_gpu else kept.read(key)
    if graph is not None:
        with suppress(Exception):  # ONNX Runtime's own exceptions share no base class
            return _session(graph, optimised=True)
    model = bundle.model()
    place = kept.scratch() if len(model) >= _WORTH and not on_gpu else None
    try:
        try:
            session = _session(model, keep_at=place)
        except Exception:
            if place is None:
                raise
            session = _session(model)  # perhaps only the keeping failed
        if place is not None:
            with suppress(OSError):
                kept.write(key, Path(place).read_bytes())
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(
            f"{bundle.root}: ONNX Runtime cannot run the model: {first_line}; export it again"
        ) from error
    finally:
        if place is not None:
            Path(place).unlink(missing_ok=True)
    return session


def _session(
    graph: bytes, *, optimised: bool = False, keep_at: str | None = None
) -> onnxruntime.InferenceSession:
    onnxruntime = runtime.load()
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # faults come as exceptions; a library does not print
    if optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.load_model_format", "ORT")
        options.add_session_config_entry("session.use_ort_model_bytes_directly", "1")  # it keeps them
    if keep_at is not None:
        options.optimized_model_filepath = keep_at
        options.add_session_config_entry("session.save_model_format", "ORT")
    return onnxruntime.InferenceSession(graph, options, providers=providers())


def providers() -> list[str | tuple[str, dict[str, str]]]:
    """What runs the network, the first that can: an NVIDIA GPU, where ONNX Runtime was built for one."""
    gpu = [("CUDAExecutionProvider", _ON_GPU)]
    there = "CUDAExecutionProvider" in runtime.load().get_available_providers()
    return [*(gpu if there else []), "CPUExecutionProvider"]


def _key(bundle: Bundle) -> str:
    parts = (bundle.model_sha256, runtime.load().__version__, sys.platform, _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] + ".ort"


def _processor() -> str:
    """What this processor can do, as far as the system says."""
    with suppress(OSError), open("/proc/cpuinfo", "rb") as file:  # noqa: PTH123
        first = file.read(8192).split(b"\n\n")[0].decode("ascii", "replace")
        told = [line for line in first.splitlines() if line.startswith(("flags", "Features", "model name"))]
        return "\n".join(told)
    return os.uname().machine
