"""ONNX Runtime, told to tell nobody: the one door through which Carina loads it.

Since version 1.29 its packages for Linux and macOS report to their makers: what the model, the machine and
the runs are like, under a number that is kept in the user's ``~/.cache``. A hospital's machine has nothing to
report, so the environment says no before ONNX Runtime is loaded; processes started from here hear it too.
Where a program has loaded it before Carina, its further events are switched off.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_NO = "ORT_DISABLE_TELEMETRY"  # read once, when ONNX Runtime is loaded: nothing is made, kept or sent


def load() -> Any:
    """The module ``onnxruntime``."""
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None and _NO in os.environ:
        return loaded
    os.environ[_NO] = "1"
    import onnxruntime

    if loaded is not None:
        onnxruntime.disable_telemetry_events()
    return onnxruntime
