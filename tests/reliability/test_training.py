"""A corrupt entry of the pixel cache is always found: part of the harness; kills are in tests/training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.training import flipped


@pytest.mark.parametrize("seed", range(5))
def test_twentyflipped_bytes_of_a_cache_entry_are_found(tmp_path: Path, seed: int) -> None:
    assert flipped(tmp_path, seed)
