"""Say when not to answer: is it a film that this model was made for? Asked before a score counts.

Three questions, each cheap, in this order: what the header says (modality, body part, view, age against
the bundle's intended use); what the picture looks like (blank, inverted, turned, cut, mirrored, no
chest at all: :mod:`carina.scoring.frontal`, which no bundle is part of); and how far it lies from the
bundle's own training films in the space of its embedding. The last two limits are set on validation films
for a stated share of true films that may be refused. What is refused needs a reader; it is never
"nothing found".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carina.images.preparation import Preparation
from carina.records import FilmFacts, Looks, Prediction, Refusal
from carina.scoring.bundle import Bundle
from carina.scoring.distance import Reference, reference
from carina.scoring.frontal import LIKE, looks
from carina.scoring.intended import IntendedUse, intended_use
from carina.scoring.oddness import carried, is_cropped, look_limit, oddness

FALSE_REFUSALS = 0.02  # of true films, about so many are refused, look and distance together
SPENT_ON_LOOKS = 0.01  # set aside for the look of the picture, which is fixed; the rest is the distance's

_BLANK = 6.0  # standard deviation in gray levels
# 2 of 1,422 true films of seven sets lie beyond one of these; they were set on the same films
_MOST_BLACK, _MOST_WHITE = 0.25, 0.16  # of the picture
_FEWEST_BITS = 5.6  # of its grays; 8 would be all of them alike
_MOST_LOST = 0.2  # of a side: a band without picture at one edge and not at the other
_MOST_STUCK = 0.12  # of a side: lines that repeat each other; 3 of 5,000 true films of seven sets have more
_FEWEST_PIXELS = 64  # of the shorter side, where the model looks at so many: below it sees interpolation
_ASPECTS = (0.45, 2.2)  # width over height of a whole film; strips are parts

REASONS = {
    "blank": "the picture is blank or nearly so; take or send it again",
    "inverted": "dark and bright look exchanged; send it with the right photometric interpretation",
    "turned": "it looks turned by a quarter; turn it upright",
    "upside_down": "it looks upside down; turn it upright",
    "part": "it looks like a part of a chest film; send the whole film",
    "too_small": "it has fewer pixels than the model looks at; send the film, no thumbnail of it",
    "exposure": "so much of it is black, white or one gray that detail is lost; take or send it again",
    "mirrored": "left and right look exchanged (or the heart is on the right); a reader must look",
    "not_a_chest_film": "it does not look like a frontal chest film; this model reads nothing else",
}


def sane(prepared: NDArray[np.uint8], *, cropped: bool = False, limit: float = 1.0) -> str | None:
    """What is wrong with the look of a prepared film (S, S) uint8: a code of ``REASONS``, or None.

    ``cropped``: the preparation itself cuts the edges off, so a part is what is to be seen. ``limit``: how
    odd a film may look (:mod:`carina.scoring.oddness`).
    """
    return judged(looks(prepared), cropped=cropped, limit=limit)


def judged(found: Looks, *, cropped: bool = False, limit: float = 1.0) -> str | None:
    """The code for what a square looks like."""
    if found.spread < _BLANK:
        return "blank"
    if found.stuck > _MOST_STUCK:
        return "part"
    odd = oddness(found, cropped=cropped)
    if odd.unlike > limit:
        likest = LIKE[1 + int(np.argmax(found.like[1:]))]
        return "not_a_chest_film" if likest == "other" else likest
    if odd.strange > limit:
        return "not_a_chest_film"
    if found.lost > _MOST_LOST and not cropped:
        return "part"
    black, white, bits = found.grays
    if black > _MOST_BLACK or white > _MOST_WHITE or bits < _FEWEST_BITS:
        return "exposure"
    return "mirrored" if odd.mirrored > limit else None


def how_odd(films: Iterable[NDArray[np.uint8]], preparation: Preparation) -> dict[str, object]:
    """What a bundle carries of the look of its validation films, (S, S) uint8 each, as it prepares them."""
    cropped, worst, beyond = is_cropped(preparation), list[float](), 0
    for film in films:
        found = looks(film)
        if judged(found, cropped=cropped, limit=math.inf) is None:
            worst.append(oddness(found, cropped=cropped).worst)
        else:
            beyond += 1
    return carried(worst, beyond)


@dataclass(frozen=True, slots=True)
class Gate:
    """The three questions for one bundle. ``warnings`` say which of them it cannot ask."""

    intended: IntendedUse = field(default_factory=IntendedUse)
    reference: Reference | None = None
    threshold: float | None = None  # of the distance
    cropped: bool = False  # the preparation cuts more off than a film may lack
    oddest: float = 1.0  # how odd a film may look, as this bundle prepares it
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle, false_refusals: float = FALSE_REFUSALS) -> Gate:
        """The gate of a bundle; ``false_refusals`` is the share of true films that may be refused.

        ``SPENT_ON_LOOKS`` of it is spent on the look of the picture, what is left on the distance; both
        limits are set on validation films that went through the bundle's own preparation.
        Bundles of before embeddings were carried have no distance, and ``warnings`` say so. Raises
        :class:`~carina.errors.BundleError` for sections that cannot be read.
        """
        known, cropped = reference(bundle), is_cropped(bundle.preparation)
        oddest, said = look_limit(bundle, SPENT_ON_LOOKS)
        told = () if said is None else (said,)
        if known is None:
            missing = (
                f"The bundle {bundle.name} carries no embeddings of its training films: it cannot "
                "refuse films by their distance from them. Export it again with this Carina."
            )
            return cls(intended_use(bundle), cropped=cropped, oddest=oddest, warnings=(*told, missing))
        left = false_refusals - SPENT_ON_LOOKS
        if left < 1e-9:
            spent = (
                f"The look of the picture alone may refuse about {SPENT_ON_LOOKS:.0%} of true films, which "
                f"is all of the {false_refusals:.1%} that were allowed: no film is refused by its distance."
            )
            return cls(intended_use(bundle), known, math.inf, cropped, oddest, (*told, spent))
        threshold = known.threshold(left)
        few = (
            f"{len(known.held_out)} held-out films are too few to set a distance that refuses only "
            f"{left:.1%} of true films: no film is refused by its distance."
        )
        warnings = (*told, few) if math.isinf(threshold) else told
        return cls(intended_use(bundle), known, threshold, cropped, oddest, warnings)

    def refusal(self, prediction: Prediction) -> Refusal | None:
        """Why this prediction must not count, or None."""
        found = self.why(prediction.prepared, prediction.embedding, prediction.facts, prediction.looks)
        return None if found is None else Refusal(prediction.path, found[0], f"{found[0]}: {found[1]}")

    def why(
        self,
        prepared: NDArray[np.uint8],
        embedding: NDArray[np.float32],
        facts: FilmFacts | None = None,
        seen: Looks | None = None,
    ) -> tuple[str, str] | None:
        """Code and reason for one film: (S, S) uint8, (D,), its facts and its look where known."""
        said = self.intended.why_not(facts) if facts is not None else None
        if said is not None:
            return said
        if facts is not None and min(facts.width, facts.height) < min(_FEWEST_PIXELS, len(prepared)):
            return "too_small", REASONS["too_small"]
        strip = facts is not None and not _ASPECTS[0] <= facts.width / facts.height <= _ASPECTS[1]
        seen = seen or looks(prepared)
        code = "part" if strip else judged(seen, cropped=self.cropped, limit=self.oddest)
        if code is not None:
            return code, REASONS[code]
        if self.reference is None or self.threshold is None:
            return None
        distance = self.reference.distance(embedding)
        if not distance <= self.threshold:  # NaN is far
            text = (
                f"it lies further from the films the model was taught with ({distance:.3f}) than all but few "
                f"true films ({self.threshold:.3f}); a reader must look"
            )
            return "unlike_training", text
        return None


def checked(answers: Iterable[Prediction | Refusal], gate: Gate) -> Iterator[Prediction | Refusal]:
    """The answers in their order; a prediction that must not count becomes its refusal."""
    for answer in answers:
        if isinstance(answer, Prediction):
            yield gate.refusal(answer) or answer
        else:
            yield answer
