"""Databases that are away for a while: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import databases


@pytest.mark.slow
def test_a_locked_a_restarted_and_a_killed_database_lose_nothing_and_double_nothing(
    tmp_path: Path, bundle: Path
) -> None:
    found = databases.load(tmp_path, bundle, databases.QUICK)
    print(found)
    assert found.acknowledged == 80
    assert found.sqlite.well, str(found.sqlite)
    assert found.postgresql.well, str(found.postgresql)
