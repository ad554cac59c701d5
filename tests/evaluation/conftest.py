"""A small catalogue of noise and a bundle that was never calibrated, one of each for a module of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from carina.data.catalogue import Catalogue
from tests.bundles import tiny_bundle
from tests.evaluation.worlds import CLASSES, write_catalogue, write_films

FILMS = 120  # 60 for calibration: 40 diseased films of 40 patients, 20 in each of two classes


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films"), FILMS, size=64)


@pytest.fixture(scope="module")
def catalogue(films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return write_catalogue(tmp_path_factory.mktemp("made") / "catalogue", films, films_per_patient=1)


@pytest.fixture(scope="module")
def plain(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was never calibrated; it was trained on the other half of the films."""
    known = catalogue.table("train")["sha256"].to_pylist()
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", CLASSES, 64, trained_on=known)
