"""Stopped, saved, restored, upgraded: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import upgrade


@pytest.mark.slow
def test_a_stop_a_backup_and_another_version_lose_nothing(tmp_path: Path, bundle: Path) -> None:
    found = upgrade.load(tmp_path, bundle, upgrade.QUICK)
    print(found)
    assert found.acknowledged == 50
    assert found.kept.well, str(found.kept)
    assert found.saved.well, str(found.saved)
    assert found.rows == found.restored > 8
    assert found.whole
    assert "was written by a newer Carina (revision 9999); install that version" in found.refusal
