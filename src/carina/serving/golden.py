"""Golden films: does the model on duty still answer as on its first day here?

Three phantoms, drawn once and kept in the data folder with the answers that the model gave to them at its
first start. At each later start, and now and then in between, they go the way of every film (file, decoding
process, network) and the answers must be finite, differ from film to film, and be those that are kept. A
library, a processor or a disk that changed something is found before it meets a patient.
"""

from __future__ import annotations

import io
import os
import secrets
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.errors import BundleError
from carina.records import Refusal
from carina.scoring.decoding import Decoders
from carina.scoring.inputs import Input
from carina.scoring.scorer import Scorer

TOLERANCE = 1e-3  # of a probability: far above what another processor may round, far below a decision
FOLDER = "self-test"

_DRAWN = (("Normal", 11), ("TB", 12), ("Bacterial Pneumonia", 13))  # class and seed of a phantom
_SIDE = 256  # pixels
_LEAST = 1e-6  # by which answers to different films differ


@dataclass(frozen=True, slots=True)
class Kept:
    """Films (3, 256, 256) uint8 and the answers to them (3, C) float32."""

    films: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


def self_test(scorer: Scorer, decoders: Decoders, data: Path, fingerprint: str) -> None:
    """Ask the model about the golden films; its first answers are kept below ``data``.

    Raises :class:`~carina.errors.BundleError` when it fails: then it must decide nothing.
    """
    place = data / FOLDER / f"{fingerprint[:32]}.npz"
    kept = read_kept(place)
    films = kept.films if kept is not None else drawn()
    answers = ask(scorer, decoders, films)
    if kept is None:
        keep(place, Kept(films, answers))
        return
    if kept.probabilities.shape != answers.shape:
        raise BundleError(f"{place}: holds answers of another model; move it away, and check the model first")
    worst = float(np.abs(answers.astype(np.float64) - kept.probabilities).max())
    if not worst <= TOLERANCE:
        raise BundleError(
            f"{scorer.bundle.root}: it answers the golden films otherwise than at its first start here (by "
            f"{worst:.4f}); find out what changed (library, processor, disk) before it goes on duty again"
        )


def ask(scorer: Scorer, decoders: Decoders, films: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The answers (N, C) to films (N, H, W), on the way that every film goes.

    Raises :class:`~carina.errors.BundleError` where they cannot be the answers of a working model.
    """
    root, size = scorer.bundle.root, scorer.bundle.preparation.size
    squares = np.empty((len(films), size, size), np.uint8)
    for number, film in enumerate(films):
        found = decoders.load(Input(f"golden film {number + 1}", data=_png(film)))
        if isinstance(found, Refusal):
            raise BundleError(f"{root}: golden film {number + 1} cannot be read ({found.reason})")
        squares[number] = np.frombuffer(found.square, np.uint8).reshape(size, size)
    answers = scorer.predict(squares).probabilities
    if float(np.ptp(answers, axis=0).max()) < _LEAST:
        raise BundleError(f"{root}: it gives the same answer to every golden film; train it again")
    return answers


def drawn() -> NDArray[np.uint8]:
    """The golden films, (3, 256, 256)."""
    from carina.images.phantom import phantom

    films = [phantom(name, seed=seed, size=_SIDE).pixels for name, seed in _DRAWN]
    return np.stack(films).astype(np.uint8)


def read_kept(place: Path) -> Kept | None:
    """What is kept; None where nothing is. Raises :class:`~carina.errors.BundleError` for a damaged file."""
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as arrays:
            kept = Kept(arrays["films"], arrays["probabilities"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{place}: the answers of the first start cannot be read ({type(error).__name__}); "
            "check the model, then move this file away"
        ) from error
    if kept.films.dtype != np.uint8 or kept.films.ndim != 3 or not len(kept.films):
        raise BundleError(f"{place}: holds no golden films; check the model, then move this file away")
    return kept


def keep(place: Path, kept: Kept) -> None:
    """Write films and answers in one piece, readable by this user alone."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            np.savez(file, films=kept.films, probabilities=kept.probabilities)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _png(film: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "PNG")
    return buffer.getvalue()
