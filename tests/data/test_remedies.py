"""Remedies: each takes away the shortcut it is for, and leaves the lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from carina.data.confounding import lookaway
from carina.data.confounding.baselines import Subjects, by_trees
from carina.data.confounding.marks import burnt_in_marks
from carina.data.splits import SplitRow
from carina.images.prepare import prepare
from tests.data import shortcuts
from tests.data.shortcuts import SIZE, frame, gamma, letters

SIGHTS = {
    "border": lambda films: lookaway.border_only(lookaway.reduced(films, lookaway.SIDE)),
    "thumbnail": lambda films: lookaway.thumbnail(lookaway.reduced(films, lookaway.SIDE)),
    "marks": burnt_in_marks,
}


def mounted(film: np.ndarray) -> np.ndarray:
    """The whole film on a black sheet, 6 % wider at each side."""
    sheet, margin = np.zeros((SIZE, SIZE), np.float32), round(0.06 * SIZE)
    inner = SIZE - 2 * margin
    small = Image.fromarray(film.astype(np.uint8)).resize((inner, inner), Image.Resampling.BILINEAR)
    sheet[margin:-margin, margin:-margin] = small
    return sheet


def tells_tb(films: np.ndarray, sight: str) -> float:
    """The area of TB against the rest, from one way of not looking at the lungs."""
    rows = [
        SplitRow(r["image_id"], r["patient"], r["group"], r["class"], r["source"])
        for r in shortcuts.clean().rows
    ]
    subjects = Subjects.of(rows, shortcuts.CLASSES, ("Normal",))
    return by_trees(sight, SIGHTS[sight](films), subjects, thorough=False).rows["TB"].value or 0.0


@pytest.mark.parametrize(
    ("paint", "steps", "told_by"),
    [
        (mounted, {"trim": True}, "border"),
        (lambda film: frame(film, 220), {"crop": 0.06}, "border"),
        (lambda film: letters(film, "AP"), {"mask_letters": True}, "marks"),
        (lambda film: letters(film, "AP"), {"crop": 0.2}, "marks"),
        (lambda film: gamma(film, 2.0), {"tone": "equalised"}, "border"),
        (lambda film: film * 0.6, {"tone": "equalised"}, "border"),
    ],
    ids=[
        "trim margins",
        "crop a frame",
        "mask letters",
        "crop letters",
        "equalise a curve",
        "equalise dark films",
    ],
)
def test_a_remedy_takes_away_its_shortcut_and_leaves_the_lungs(
    paint: Callable[[np.ndarray], np.ndarray], steps: dict[str, object], told_by: str
) -> None:
    """The films of TB are painted over; each class keeps its lesions."""
    films = shortcuts.clean().painted(lambda row, film: paint(film) if row["class"] == "TB" else film).films
    remedy = replace(lookaway.PREPARATION, **steps)  # type: ignore[arg-type]
    prepared = np.stack([prepare(film, remedy) for film in films])
    assert tells_tb(films, told_by) > 0.9
    assert tells_tb(prepared, told_by) < 0.75
    assert tells_tb(prepared, "thumbnail") > 0.6
