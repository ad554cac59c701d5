"""A shelf of films for each test."""

from __future__ import annotations

import pytest

from tests.serving.results.ward import Shelf


@pytest.fixture
def shelf() -> Shelf:
    """Stored films in memory."""
    return Shelf()
