"""What the quick forms share: the tiny bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes for films of 64 pixels."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")
