"""The films of one side of a catalogue: their truth, whether the bundle knows them, and its answers.

What an evaluation and a calibration have in common. Nothing is measured here.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from carina.data.catalogue import Catalogue
from carina.data.pixels import PixelCache
from carina.errors import DataError
from carina.evaluation.answers import Tell, answers
from carina.evaluation.bootstrap import Mask
from carina.evaluation.contamination import Contamination, Identity, contamination, familiar
from carina.evaluation.metrics import Labels
from carina.evaluation.predictions import Predictions
from carina.records import Refusal
from carina.scoring.abstain import Gate
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import TRAINING_IMAGES
from carina.scoring.operating import Site
from carina.scoring.scorer import Scorer

ALL = "all"  # every side of a catalogue


def side(catalogue: Catalogue, split: str | None) -> pa.Table:
    """The films of one side, or every film (None and ``all``)."""
    return catalogue.table(None if split == ALL else split)


def truth(films: pa.Table, bundle: Bundle, catalogue: Catalogue) -> Labels:
    """The class of each film as an index into the bundle's classes, (N,).

    Raises DataError where bundle and catalogue do not mean the same by their classes.
    """
    names = films["class"].to_pylist()
    strange = sorted(set(names).difference(bundle.classes))
    if strange:
        raise DataError(
            f"{catalogue.root}: the class {strange[0]!r} is not one of the bundle's "
            f"({', '.join(bundle.classes)}); compile it with a label map that gives the bundle's classes"
        )
    torn = sorted(name for name in set(names) if (name in bundle.healthy) != (name in catalogue.healthy))
    if torn:
        says = "healthy" if torn[0] in bundle.healthy else "diseased"
        raise DataError(
            f"{catalogue.root}: {torn[0]!r} is {says} for the bundle but not for the catalogue; "
            "compile the catalogue again and name the same healthy classes"
        )
    index = {name: number for number, name in enumerate(bundle.classes)}
    return np.array([index[name] for name in names], dtype=np.int64)


def known_films(films: pa.Table, bundle: Bundle, catalogue: Catalogue) -> Contamination:
    """How many of the films are not new to the bundle."""
    return contamination(_identity(films), _identity(catalogue.table()), trained_on(bundle))


def trained_on_them(films: pa.Table, bundle: Bundle, catalogue: Catalogue) -> Mask:
    """Which films are not new to the bundle, (N,): none of them where it lists no training film."""
    found = familiar(_identity(films), _identity(catalogue.table()), trained_on(bundle))
    return np.array([reason is not None for reason in found], dtype=bool)


def chosen_on_them(films: pa.Table, site: Site, catalogue: Catalogue) -> Mask:
    """Which films (or people) the thresholds of the site were chosen on, (N,).

    A site that an older Carina calibrated remembers no films; then it can be told in the very catalogue
    that was used only.
    """
    if site.chosen_on is not None:
        asked, known = (_identity(table, "image_id") for table in (films, catalogue.table()))
        found = familiar(asked, known, frozenset(site.chosen_on))
        return np.array([reason is not None for reason in found], dtype=bool)
    if site.catalogue != catalogue.fingerprint:
        return np.zeros(films.num_rows, dtype=bool)
    return np.array([site.split in (ALL, each) for each in films["split"].to_pylist()], dtype=bool)


def ask(
    films: pa.Table, labels: Labels, scorer: Scorer, cache: PixelCache | None, progress: Tell | None
) -> Predictions:
    """The bundle's answers, one for each film. Raises DataError where none of them can be scored.

    What the bundle's gate would refuse has its answer all the same, and the code beside it: figures are of
    all films, so that no refusal can make them look better.
    """
    bundle = scorer.bundle
    asked = answers(scorer, films, cache, progress, Gate.of(bundle))
    given = [answer for answer, _ in asked]
    reasons = tuple(answer.reason if isinstance(answer, Refusal) else None for answer in given)
    if all(reason is not None for reason in reasons):
        raise DataError(
            f"none of the {len(given)} films could be scored; the first: {films['path'][0]}: {reasons[0]}"
        )
    probabilities = np.full((len(given), len(bundle.classes)), np.nan)
    for row, answer in enumerate(given):
        if not isinstance(answer, Refusal):
            probabilities[row] = answer
    return Predictions(
        films,
        bundle.classes,
        bundle.healthy,
        labels,
        probabilities,
        reasons,
        tuple(code for _, code in asked),
    )


def _identity(films: pa.Table, name: str = "sha256") -> Identity:
    return Identity(*(films[each].to_pylist() for each in (name, "group", "patient")))


def trained_on(bundle: Bundle) -> frozenset[str]:
    path = bundle.root / TRAINING_IMAGES
    return frozenset(path.read_text(encoding="ascii").split()) if path.is_file() else frozenset()
