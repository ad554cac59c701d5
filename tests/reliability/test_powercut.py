"""A power cut loses nothing that was acknowledged: the quick form of the harness, on a volume of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import powercut, volume


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_power_cut(tmp_path: Path, bundle: Path) -> None:
    if why := volume.missing():
        pytest.skip(why)
    found = powercut.load(tmp_path, bundle, powercut.QUICK)
    print(found)
    assert found.acknowledged >= 1
    assert [each.well for each in found.kept] == [True], str(found)
