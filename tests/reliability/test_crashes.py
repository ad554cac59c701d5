"""Killed at any moment, the service holds what it acknowledged: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import crashes


@pytest.mark.slow
def test_what_was_acknowledged_is_on_the_list_once_after_a_kill(tmp_path: Path, bundle: Path) -> None:
    found = crashes.load(tmp_path, bundle, crashes.QUICK)
    print(found)
    assert found.acknowledged == 108
    assert found.kills == 1
    assert found.kept.well, str(found.kept)
