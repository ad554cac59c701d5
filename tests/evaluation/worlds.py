"""Small catalogues and sets of predictions for the tests of this room."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from carina.data import catalogue
from carina.evaluation.predictions import Predictions

CLASSES = ("Bacterial Pneumonia", "COVID-19", "Normal")


def write_films(folder: Path, count: int, *, seed: int = 0, size: int = 80) -> list[Path]:
    """Noise of different brightness, told apart by its content."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"film_{number:03}.png" for number in range(count)]
    for path in paths:
        level = rng.integers(20, 200)
        Image.fromarray(rng.integers(level, level + 50, (size, size), dtype=np.uint8)).save(path)
    return paths


def write_catalogue(
    out: Path,
    paths: Sequence[Path],
    *,
    classes: Sequence[str] = CLASSES,
    healthy: Sequence[str] = ("Normal",),
    valid: float = 0.5,
    films_per_patient: int = 2,
    sources: Sequence[str] = ("hospital_a",),
) -> catalogue.Catalogue:
    """The films in turn as the given classes; the first part is the validation split, the rest training.

    Patients are dealt to ``sources`` in turn.
    """
    rows = []
    for number, path in enumerate(paths):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(
            {
                "image_id": sha256[:16],
                "path": str(path.resolve()),
                "class": classes[number % len(classes)],
                "findings": [],
                "source": sources[number // films_per_patient % len(sources)],
                "patient": f"p:{number // films_per_patient}",
                "group": sha256[:16],
                "split": "valid" if number < valid * len(paths) else "train",
                "width": 80,
                "height": 80,
                "sha256": sha256,
                "label": classes[number % len(classes)],
                "bits": 8,
                "format": "png",
                "bytes": path.stat().st_size,
            }
        )
    return catalogue.write(out, rows, {"classes": list(classes), "healthy": list(healthy)}, {})


def predictions(count: int = 60, *, seed: int = 0, refused: Sequence[int] = ()) -> Predictions:
    """Made-up answers for films that exist only as rows, right for most."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    logits = rng.normal(size=(count, len(CLASSES)))
    logits[np.arange(count), labels] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities[list(refused)] = np.nan
    films = pa.Table.from_pylist(
        [
            {
                "image_id": f"{number:016x}",
                "path": f"/films/film_{number}.png",
                "patient": f"a:{number // 2}",
                "group": f"{number:016x}",
                "source": "hospital_a",
                "split": "valid",
            }
            for number in range(count)
        ]
    )
    reasons = tuple(
        "truncated: the stream ends early; fetch it again" if n in refused else None for n in range(count)
    )
    return Predictions(films, CLASSES, frozenset({"Normal"}), labels, probabilities, reasons)
