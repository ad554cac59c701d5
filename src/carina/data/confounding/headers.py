"""What the headers of files say of a film: facts of how it was made and handled, none of the patient.

Width, height, bits, format and maker stand in the catalogue; the quantisation table of a JPEG is read
from the first bytes of the file where it is still there. File sizes are left out on purpose: without
loss they measure the picture, with loss they repeat the quantisation table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carina.data.confounding.lookaway import Features
from carina.images.jpeg import quantisation

_HEAD = 1 << 16  # bytes of a JPEG that are looked at


@dataclass(frozen=True, slots=True)
class Headers:
    """One column of numbers a fact, (N, F), and what each column is called."""

    names: tuple[str, ...]
    columns: Features


def headers(films: pa.Table) -> Headers:
    """The header facts of the films of a catalogue."""
    width, height = (films[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    formats = films["format"].to_pylist()
    tables = [
        _compression(Path(path)) if format_ == "jpeg" else None
        for path, format_ in zip(films["path"].to_pylist(), formats, strict=True)
    ]
    columns = {
        "shape (width to height)": np.round(width / np.maximum(height, 1), 3),
        "size in pixels": np.sqrt(width * height),
        "bits a pixel": films["bits"].to_numpy().astype(np.float64),
        "file format": _codes(formats),
        "maker of the device": _codes(films["manufacturer"].to_pylist()),
        "JPEG compression": np.array([-1.0 if table is None else table for table in tables]),
    }
    return Headers(tuple(columns), np.column_stack(list(columns.values())).astype(np.float32))


def _compression(path: Path) -> float | None:
    """The sum of the quantisation table: small is fine, large is coarse. None where it cannot be read."""
    try:
        with path.open("rb") as file:
            table = quantisation(file.read(_HEAD))
    except OSError:
        return None
    return float(sum(table)) if table else None


def _codes(values: Sequence[str | None]) -> NDArray[np.float64]:
    """Names as numbers, the most frequent first; what is not stated is -1."""
    names, counts = np.unique([value for value in values if value is not None], return_counts=True)
    place = {str(names[at]): rank for rank, at in enumerate(np.argsort(-counts, kind="stable"))}
    return np.array([-1.0 if value is None else place[value] for value in values])
