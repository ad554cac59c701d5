from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

from carina.terminal import curve
from carina.training.lr_finder import Finding, suggest
from carina.training.lr_picture import picture
from tests.training.test_lr_finder import RATES
from tests.training.test_lr_finder import curve as losses


def found() -> Finding:
    return suggest(1, RATES, losses(1e-3, noise=0.02))


def test_the_picture_names_every_suggestion_and_is_the_same_every_time() -> None:
    svg = picture(found())
    assert svg == picture(found())
    assert b"<svg" in svg
    assert Image.open(io.BytesIO(picture(found(), "png"))).size[0] > 900


def test_a_finding_without_suggestions_is_drawn_too() -> None:
    assert b"<svg" in picture(suggest(0, RATES, np.full(len(RATES), 0.7)))


def test_the_curve_in_the_terminal_falls_from_left_to_right_and_marks_the_rate() -> None:
    made = found()
    text = curve(made.rates, made.smoothed, mark=made.lr)
    lines = text.splitlines()
    assert len(lines) == 14
    assert all(len(line) <= 10 + len(RATES) for line in lines)
    dots = [(line.index("●"), row) for row, line in enumerate(lines[:12]) if "●" in line]
    left = min(dots)[1]
    lowest = max(row for row, line in enumerate(lines[:12]) if "●" in line)
    assert left < lowest
    assert re.search("┊", text)
    assert lines[-1].split() == ["1e-07", "1e+01"]
