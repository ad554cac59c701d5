"""Did the bundle see these films, or their like, while it was trained?

Pure. A film can be known in three ways: it was trained on itself, a near copy of it was, or another
film of the same patient was. The last two can only be seen for training films that stand in the same
catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from carina.evaluation.wording import counted


@dataclass(frozen=True, slots=True)
class Contamination:
    """How many of ``films`` the bundle knows; each film is counted once, for its strongest reason.

    All counts are None when the bundle does not list the films it was trained on.
    """

    films: int
    same_film: int | None
    near_copy: int | None
    same_patient: int | None

    @property
    def known(self) -> int:
        """All films that are not new to the bundle."""
        return (self.same_film or 0) + (self.near_copy or 0) + (self.same_patient or 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes films the same: content, near-copy group, patient. Parallel columns of one catalogue."""

    sha256: Sequence[str]
    group: Sequence[str]
    patient: Sequence[str]


def contamination(films: Identity, catalogue: Identity, trained_on: Set[str]) -> Contamination:
    """Count the ``films``, a part of ``catalogue``, that a bundle ``trained_on`` these sha256s knows."""
    if not trained_on:
        return Contamination(len(films.sha256), None, None, None)
    found = familiar(films, catalogue, trained_on)
    return Contamination(len(films.sha256), *(found.count(reason) for reason in range(3)))


def familiar(films: Identity, catalogue: Identity, met: Set[str]) -> list[int | None]:
    """Why each of the ``films`` is not new to who ``met`` these: 0 the film, 1 a near copy, 2 the patient.

    The strongest reason counts; None where there is none. ``met`` are names as in ``Identity.sha256``.
    """
    seen = [index for index, sha256 in enumerate(catalogue.sha256) if sha256 in met]
    groups = {catalogue.group[index] for index in seen}
    patients = {catalogue.patient[index] for index in seen}
    found = list[int | None]()
    for sha256, group, patient in zip(films.sha256, films.group, films.patient, strict=True):
        reasons = (sha256 in met, group in groups, patient in patients)
        found.append(reasons.index(True) if any(reasons) else None)
    return found


def warning(found: Contamination, split: str) -> str | None:
    """What a reader must know before the figures; None where there is nothing to say."""
    if found.same_film is None:
        return (
            "The bundle does not list the films it was trained on, so nobody can tell whether these films "
            "are new to it. If they are not, every figure is too good."
        )
    if not found.known:
        return None
    reasons = [
        (found.same_film, "it was trained on them"),
        (found.near_copy, "it was trained on near copies of them"),
        (found.same_patient, "it was trained on other films of the same patients"),
    ]
    said = "; ".join(f"{counted(count or 0, 'film')}: {why}" for count, why in reasons if count)
    start = f"{found.known:,} of {counted(found.films, 'film')} are not new to this bundle ({said}). "
    if split == "train":
        return start + "Figures on training films show what the bundle remembers, not what it can do."
    return start + (
        "Every figure is too good by an unknown amount. Compile all sets into one catalogue and train on its "
        "training split, or evaluate other films."
    )
