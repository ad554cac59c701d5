"""How odd a prepared film looks, as numbers that are 1 at the limit set on films prepared plainly.

What :mod:`carina.scoring.frontal` was taught, it was taught on films as they are. A preparation that trims
and crops shows less of a film, so that more true films look like a part, or like nothing known, than may
be refused. A bundle therefore carries how odd its validation films look, prepared as it prepares them, and
its limit is raised to a conformal quantile of theirs (Vovk, Gammerman & Shafer 2005), as that of the
distance is; it is never lowered. What is measured and not taught (blank, a lost band, exposure) has no dial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carina.errors import BundleError
from carina.images.preparation import Preparation
from carina.records import Looks
from carina.scoring.bundle import Bundle
from carina.scoring.contents import LOOK
from carina.scoring.distance import conformal
from carina.scoring.frontal import LIKE
from carina.scoring.sides import SURE

SECTION = LOOK
MOST_HELD_OUT = 600  # validation films behind the limit

_LEAST_LIKE = 0.2  # a film must be at least so likely a whole, upright frontal chest film
_STRANGE, _LESS_LIKE = 3500.0, 0.3  # and so likely where it lies far from all chest films
_STRANGEST = 7000.0
_MIRRORED = 1 / (1 + math.exp(-SURE))  # a chance
_LEAST = 1e-12  # of a chance: its logarithm must be finite
_MOST_CROP = 0.08  # of each side: what films vary by where the look was taught


@dataclass(frozen=True, slots=True)
class Oddness:
    """Each is 1 at the plain limit, and grows with what speaks against a film.

    ``unlike``: no whole, upright frontal chest film; ``strange``: far from all chest films; ``mirrored``.
    Chances count by their logarithm: twice as odd is the square of the chance.
    """

    unlike: float
    strange: float
    mirrored: float

    @property
    def worst(self) -> float:
        """The limit at which nothing of it is refused."""
        return max(self.unlike, self.strange, self.mirrored)


def is_cropped(preparation: Preparation) -> bool:
    """Whether the preparation cuts more off than films vary by, so that a part is what is to be seen."""
    return preparation.crop > _MOST_CROP


def oddness(found: Looks, *, cropped: bool = False) -> Oddness:
    """How odd a square looks; ``cropped``: that it looks like a part says nothing."""
    likely = float(found.like[0] + (found.like[LIKE.index("part")] if cropped else 0.0))
    against = math.log(max(likely, _LEAST))
    far = min(found.strange / _STRANGE, against / math.log(_LESS_LIKE))
    return Oddness(
        unlike=against / math.log(_LEAST_LIKE),
        strange=max(found.strange / _STRANGEST, far),
        mirrored=math.log(max(1 - found.mirrored, _LEAST)) / math.log(1 - _MIRRORED),
    )


def carried(worst: Sequence[float], beyond: int) -> dict[str, object]:
    """The section for a bundle: how odd validation films look, and how many are refused at any limit."""
    return {"held_out": sorted(round(each, 4) for each in worst), "beyond": beyond}


def look_limit(bundle: Bundle, share: float) -> tuple[float, str | None]:
    """How odd a film may look so that about ``share`` of true films is refused, and what must be said of it.

    Raises :class:`~carina.errors.BundleError` for a section that makes no sense.
    """
    if SECTION not in bundle.sections:
        plain = set(bundle.preparation.to_dict()) <= {"size", "fit"}
        said = (
            f"The bundle {bundle.name} does not say how odd true films look as it prepares them: the look of "
            "the picture may refuse more of them than stated. Export it again with this Carina."
        )
        return 1.0, None if plain else said
    try:
        held_out, beyond = _section(bundle.sections[SECTION])
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{bundle.root}: {SECTION}: {error}; export it again") from error
    found = conformal([*held_out, *[math.inf] * beyond], share)
    if math.isfinite(found):
        return max(1.0, found), None
    without = conformal(held_out, share)
    if math.isinf(without):  # so few films cannot show so small a share
        return 1.0, None
    said = (
        f"{beyond} of {len(held_out) + beyond} validation films are blank, lack a band or lose detail as "
        f"this bundle prepares them: the look of the picture refuses more than {share:.0%} of true films."
    )
    return max(1.0, without), said


def _section(section: Mapping[str, Any]) -> tuple[tuple[float, ...], int]:
    """How odd the films look, rising, and how many are refused at any limit; raises where it is neither."""
    if set(section) != {"held_out", "beyond"}:
        raise ValueError(f"it has the keys {sorted(section)}")
    held_out, beyond = tuple(sorted(float(each) for each in section["held_out"])), section["beyond"]
    if not isinstance(beyond, int) or beyond < 0 or not all(map(math.isfinite, held_out)):
        raise ValueError("its numbers make no sense")
    return held_out, beyond
