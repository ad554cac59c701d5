"""``Preparation``: how a film becomes the square that a network sees, as one value.

It stands in every bundle and in every cache. Knows no pixels; :mod:`carina.images.prepare` does the work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

# Raise it whenever the same Preparation yields pixels that are another gray level on average.
PREPARATION_VERSION = 1
Fit = Literal["stretch", "letterbox", "center_crop"]
Tone = Literal["plain", "equalised", "clahe"]
MOST_CROP = 0.25  # of each side


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a film becomes a square: ``size`` pixels a side, and what happens to its aspect ratio.

    ``letterbox`` keeps the whole film and adds black, ``center_crop`` keeps the central square,
    ``stretch`` distorts. The rest is off unless asked for, and takes away what tells where a film comes
    from: ``trim`` cuts off black margins, ``crop`` then this share of the width and height at each of the
    four sides, ``mask_letters`` paints over lettering in the margins, ``tone`` gives every film one curve
    (``equalised``, or tile by tile: ``clahe``).
    """

    size: int = 224
    fit: Fit = "letterbox"
    trim: bool = False
    crop: float = 0.0
    mask_letters: bool = False
    tone: Tone = "plain"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 8 <= self.size <= 4096:
            raise ValueError(f"Preparation: size is {self.size!r}; give a whole number from 8 to 4096")
        for key, known in (("fit", get_args(Fit)), ("tone", get_args(Tone))):
            if getattr(self, key) not in known:
                raise ValueError(
                    f"Preparation: {key} is {getattr(self, key)!r}; give one of {', '.join(known)}"
                )
        for key in ("trim", "mask_letters"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"Preparation: {key} is {getattr(self, key)!r}; give true or false")
        number = isinstance(self.crop, int | float) and not isinstance(self.crop, bool)
        if not number or not 0 <= self.crop <= MOST_CROP:
            raise ValueError(
                f"Preparation: crop is {self.crop!r}; give a share of each side from 0 to {MOST_CROP}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a bundle's manifest; steps that are off are left out."""
        values = dataclasses.asdict(self)
        off = {field.name: field.default for field in dataclasses.fields(self)[2:]}
        return {key: value for key, value in values.items() if key not in off or value != off[key]}

    @property
    def plain(self) -> Preparation:
        """The same size and fit with every further step off."""
        return Preparation(self.size, self.fit)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preparation:
        """The inverse of ``to_dict``; raises ``ValueError`` that names an unknown key or a wrong value."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values).difference(known))
        if unknown:
            raise ValueError(
                f"Preparation: unknown key {unknown[0]!r}; this version knows {', '.join(known)}"
            )
        return cls(**values)

    def fingerprint(self) -> str:
        """16 hex digits that change with every value and with the arithmetic behind it."""
        content = json.dumps({"version": PREPARATION_VERSION, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
