"""The frozen facts that rooms hand to each other.

No behaviour beyond what follows from the fields, no input or output, nothing that takes time to load.
``None`` always means "the file or the source does not say", never "no".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the records themselves are loaded before numpy, while a film is read elsewhere
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Pixels: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What one file says of itself, before anybody interprets it.

    ``width`` and ``height`` are of the pixels as read (upright, square pixels). ``bits`` is the
    number of bits a stored gray value has (BitsStored in DICOM). ``photometric`` uses DICOM's words
    (``MONOCHROME1``, ``MONOCHROME2``, ``RGB``, ``PALETTE COLOR``, …) for every format. DICOM facts
    keep DICOM's values (``view`` is ViewPosition: ``PA``, ``AP``, ``LL`` …). ``age`` is in years.
    """

    name: str
    format: str  # "jpeg", "png", "tiff", "webp", "bmp", "dicom"
    sha256: str  # of the file's bytes, 64 hex digits
    width: int
    height: int
    bits: int
    photometric: str
    modality: str | None = None
    view: str | None = None
    body_part: str | None = None
    laterality: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    instance: str | None = None
    age: float | None = None
    sex: str | None = None  # "M", "F", "O"
    manufacturer: str | None = None
    model_name: str | None = None
    transfer_syntax: str | None = None

    @classmethod
    def of(cls, values: dict[str, Any]) -> FilmFacts:
        """Facts from plain values that may be anybody's; raises ``TypeError`` where one is none."""
        facts = cls(**values)
        for name, kinds in _KINDS.items():
            if not isinstance(getattr(facts, name), kinds):
                raise TypeError(f"{name} of a film is {getattr(facts, name)!r}")
        return facts


_KINDS: dict[str, tuple[type, ...]] = {
    each.name: {"str": (str,), "int": (int,), "float | None": (float, int, type(None))}.get(
        str(each.type), (str, type(None))
    )
    for each in fields(FilmFacts)
}


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph in memory: gray pixels, brightness as a viewer shows it, and the file's facts.

    ``pixels`` is (H, W), ``uint8`` for films stored with at most 8 bits and ``uint16`` above that.
    Dark is low: MONOCHROME1 has been inverted, modality and VOI transformations have been applied.
    """

    pixels: Pixels
    facts: FilmFacts


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One row as a public set or a user's folder states it: the common record of all readers.

    ``label`` is the set's own word for the film (``bacteria``, ``No Finding``, a folder's name);
    the label map turns it into a class. ``patient`` is unique within ``source`` only.
    """

    path: Path
    source: str
    label: str
    findings: tuple[str, ...] = ()
    patient: str | None = None
    study: str | None = None
    view: str | None = None  # "PA", "AP", "LATERAL" or the set's own word in upper case
    age: float | None = None  # years
    sex: str | None = None  # "M", "F"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one film was not scored. Never to be read as "nothing found"."""

    path: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Looks:
    """What a prepared square looks like (:mod:`carina.scoring.frontal`). ``like`` are shares, summing to 1.

    ``strange`` is the squared distance from chest films, ``mirrored`` the chance that left is right,
    ``spread`` the standard deviation of the gray values without borders, 0–255. ``grays`` are the shares of
    black and of white pixels and the entropy in bits, ``lost`` the share of a side by which a band without
    any picture is wider at one edge than at the other, ``stuck`` that of the longest run of lines that are
    each like the one before.
    """

    like: tuple[float, ...]  # in the order of ``frontal.LIKE``
    strange: float
    mirrored: float
    spread: float
    grays: tuple[float, float, float]
    lost: float
    stuck: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Looks:
        """From what :meth:`to_dict` gave."""
        grays = values["grays"]
        return cls(**{**values, "like": tuple(values["like"]), "grays": (grays[0], grays[1], grays[2])})


@dataclass(frozen=True, slots=True)
class Prediction:
    """The probabilities of one film by one bundle, in the order of the bundle's classes."""

    path: str
    sha256: str
    classes: tuple[str, ...]
    healthy: frozenset[str]
    logits: NDArray[np.float32]  # (C,)
    probabilities: NDArray[np.float32]  # (C,), sums to 1
    embedding: NDArray[np.float32]  # (D,)
    cam: NDArray[np.float32]  # (C, h, w): contribution of each cell to each class's logit
    prepared: NDArray[np.uint8]  # (S, S): the film as the model saw it
    facts: FilmFacts | None = field(default=None, repr=False)
    looks: Looks | None = field(default=None, repr=False)

    @property
    def top_class(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def p_disease(self) -> float:
        """One minus the probability of the healthy classes, in [0, 1]."""
        well = sum(
            float(p) for c, p in zip(self.classes, self.probabilities, strict=True) if c in self.healthy
        )
        return min(1.0, max(0.0, 1.0 - well))


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long piece of work, for whoever draws the bar."""

    stage: str
    done: int
    total: int | None
    detail: dict[str, Any] = field(default_factory=dict)
