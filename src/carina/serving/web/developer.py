"""What a child process does for the page: a file in, its gray values or a heat map out."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from carina.children.wire import Message
from carina.images.prepare import Preparation, load
from carina.images.viewing import read_wide


def film(head: dict[str, Any], data: bytes) -> Message:
    """All gray values of the film in ``data``: uint16, little-endian, row by row; and its first window."""
    found = read_wide(data, head["name"])
    height, width = found.pixels.shape
    facts = {"width": width, "height": height, "low": found.low, "high": found.high, "bits": found.facts.bits}
    return facts, found.pixels.astype("<u2").tobytes()


def heat(head: dict[str, Any], data: bytes) -> Message:
    """The film as the network saw it under its class activation map, as PNG."""
    from carina.scoring.heatmap import overlay, png

    square, _ = load(data, Preparation.from_dict(head["preparation"]), name=head["name"])
    cam = np.frombuffer(base64.b64decode(head["cam"]), np.float16).reshape(head["cam_shape"])
    return {}, png(overlay(square, cam.astype(np.float32), head["title"], dark=True))


def work(head: dict[str, Any], data: bytes) -> Message:
    """One request: ``want`` is ``film`` or ``heat``."""
    return film(head, data) if head["want"] == "film" else heat(head, data)
