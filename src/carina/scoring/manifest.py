"""What a bundle says of itself: ``bundle.json``, checked where a stranger may have written it.

Knows the form of the manifest, not the files it speaks of; :mod:`carina.scoring.bundle` holds the two
against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from carina.scoring.contents import (
    CARD,
    CARD_JSON,
    EMBEDDINGS,
    FILES,
    HISTORY,
    MANIFEST,
    MODEL,
    TRAINING_IMAGES,
    WEIGHTS,
)

__all__ = [
    "CARD",
    "CARD_JSON",
    "EMBEDDINGS",
    "FILES",
    "HISTORY",
    "MANIFEST",
    "MODEL",
    "TRAINING_IMAGES",
    "WEIGHTS",
    "Data",
    "Input",
    "Manifest",
    "Normalisation",
    "Parity",
    "first_fault",
    "training_images",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Normalisation(_Section):
    """Applied inside the graph: (pixels / 255 − mean) / std."""

    mean: float = Field(allow_inf_nan=False)
    std: float = Field(gt=0, allow_inf_nan=False)


class Input(_Section):
    """The one input of the graph."""

    name: Literal["pixels"] = "pixels"
    dtype: Literal["uint8"] = "uint8"
    shape: tuple[str | int, ...]  # ("N", 1, S, S)


class Data(_Section):
    """What the model was trained on."""

    catalogue: str  # fingerprint of the catalogue
    fingerprint: str  # of the training films: see training_images()
    images: int = Field(ge=0)
    counts: dict[str, dict[str, int]] = {}  # source → class → training films


class Parity(_Section):
    """How far ONNX Runtime and torch were apart at export, in logits."""

    max_abs_diff: float = Field(ge=0, allow_inf_nan=False)
    images: int = Field(ge=0)


class Manifest(_Section):
    """``bundle.json``, format 1. Unknown keys are refused; later parts of Carina add to ``sections``."""

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    created: str  # ISO 8601, UTC
    carina: str  # the version that wrote it
    classes: tuple[str, ...] = Field(min_length=2)
    healthy: tuple[str, ...]
    preparation: dict[str, Any]
    normalisation: Normalisation
    input: Input
    outputs: dict[str, tuple[str | int, ...]]  # name → shape, all float32
    opset: int
    data: Data
    recipe: dict[str, Any] = {}
    versions: dict[str, str] = {}
    parity: Parity
    training: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    files: dict[str, str] = {}  # name → sha256; filled in by write_bundle

    @field_validator("classes")
    @classmethod
    def _class_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or not all(name.strip() and name.isprintable() for name in names):
            raise ValueError("class names must be printable, not empty, and each there once")
        return names

    @field_validator("files")
    @classmethod
    def _file_names(cls, files: dict[str, str]) -> dict[str, str]:
        strange = sorted(set(files).difference(FILES))
        if strange:
            raise ValueError(f"{strange[0]!r} is no file of a bundle (known: {', '.join(FILES)})")
        return files

    @model_validator(mode="after")
    def _healthy_are_classes(self) -> Manifest:
        strange = sorted(set(self.healthy).difference(self.classes))
        if strange:
            raise ValueError(f"healthy names {strange[0]!r}, which is no class")
        return self


def training_images(sha256s: Iterable[str]) -> tuple[bytes, str]:
    """The content of ``training-images.txt`` (sorted, one sha256 a line) and the data fingerprint.

    The fingerprint is the sha256 of that content, so it does not depend on the order of training.
    """
    content = "".join(f"{each}\n" for each in sorted(set(sha256s))).encode("ascii")
    return content, hashlib.sha256(content).hexdigest()


def first_fault(error: ValidationError) -> str:
    """The first fault of a manifest in words: where it stands and what is wrong."""
    fault = error.errors(include_url=False)[0]
    where, words = ".".join(str(part) for part in fault["loc"]), _in_words(fault)
    return f"{where}: {words}" if where else words


def _in_words(fault: Any) -> str:
    """A fault as a person says it; pydantic's own words where they are fine."""
    about: dict[str, Any] = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            return "there is no such key; see how it is spelt"
        case "missing":
            return "is missing"
        case "too_short" | "too_long":
            needed = about.get("min_length", about.get("max_length"))
            return f"has {about['actual_length']} values, and needs {needed}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            [(bound, value)] = about.items()
            said = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}[bound]
            return f"is {fault['input']!r}, and must be {said} {value:g}"
        case "value_error":
            return str(fault["msg"]).removeprefix("Value error, ")
        case "enum" | "literal_error":
            return f"is {fault['input']!r}, and must be {about['expected']}"
    return str(fault["msg"])
