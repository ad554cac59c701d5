"""The tables that stand inside a recipe's parts: how far a film is changed, copies, the distractor.

Values only, checked key by key; what they do is in ``augment.py`` and ``selection.py``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Option(BaseModel):
    """What every table of a recipe is: a frozen value, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Augment(Option):
    """``train.augment``: how far a training film may be changed, each drawn evenly from ± the limit.

    Mild, because a film is taken upright, at a known distance, with the heart on the left.
    """

    rotate: Annotated[float, Field(ge=0, le=45)] = 5.0  # degrees
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.08  # share of the size
    aspect: Annotated[float, Field(ge=0, le=1)] = (
        0.0  # width to height: between 1/(1 + aspect) and 1 + aspect
    )
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.04  # share of the width and of the height
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.08  # share of the gray range
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.15  # share of the distance from middle gray
    resolution: Annotated[float, Field(ge=0, le=0.9)] = 0.0  # share lost at most, by every other film
    flip: bool = False  # mirror half of the films: no, hearts are on the left
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.0  # the exponent lies between 1/(1 + gamma) and 1 + gamma
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the films that lose a rectangle

    @property
    def is_off(self) -> bool:
        """Whether every film stays as it is."""
        return not any(getattr(self, name) for name in type(self).model_fields)


NO_AUGMENT = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}


class Copies(Option):
    """``data.augment``: every so many-th training film of a class gets changed copies beside it."""

    class_: Annotated[str, Field(alias="class", min_length=1)]
    every: Annotated[int, Field(ge=1)] = 1
    copies: Annotated[int, Field(ge=1, le=1000)]
    before_split: bool = False

    @field_validator("before_split")
    @classmethod
    def _after_the_split(cls, before_split: bool) -> bool:
        if before_split:
            raise ValueError(
                "copies made before the split leak: changed copies of one film come to stand on both sides, "
                "and the network is examined on films it has learned by heart; leave before_split out, and "
                "copies are made of training films only"
            )
        return before_split


class Distractor(Option):
    """``data.distractor``: a class that means nothing, of films drawn at random from other classes."""

    name: Annotated[str, Field(min_length=1)]
    from_: Annotated[tuple[str, ...], Field(alias="from", min_length=1)]
    count: Annotated[int, Field(ge=2)]  # over training and validation
