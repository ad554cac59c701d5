"""Carina: from folders of chest radiographs to a triage worklist that can be trusted.

Not a medical device. The names below are the public Python API; each is imported when it is first
used, so that ``import carina`` costs nothing and scoring never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carina.data.catalogue import Catalogue
    from carina.data.compile import compile
    from carina.evaluation.evaluate import evaluate
    from carina.images.prepare import Preparation, prepare
    from carina.images.read import read
    from carina.scoring.bundle import Bundle
    from carina.scoring.scorer import Scorer
    from carina.training.train import train

__version__ = "0.1.0"

_HOME = {
    "Bundle": "carina.scoring.bundle",
    "Catalogue": "carina.data.catalogue",
    "Preparation": "carina.images.prepare",
    "Scorer": "carina.scoring.scorer",
    "compile": "carina.data.compile",
    "evaluate": "carina.evaluation.evaluate",
    "prepare": "carina.images.prepare",
    "read": "carina.images.read",
    "train": "carina.training.train",
}

__all__ = [
    "Bundle",
    "Catalogue",
    "Preparation",
    "Scorer",
    "__version__",
    "compile",
    "evaluate",
    "prepare",
    "read",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'carina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
