"""A tiny bundle and a few films that every test of this room may read, none may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carina.scoring.scorer import Scorer
from tests.bundles import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def scorer(bundle: Path) -> Scorer:
    return Scorer(bundle, threads=2, batch=4)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty different PNG films, ``film_00.png`` … ``film_19.png``."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(20):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(coarse).resize((120, 100)).save(folder / f"film_{number:02}.png")
    return folder
