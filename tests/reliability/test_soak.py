"""Half a minute at a steady rate: the quick form of the soak, which mostly waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import soak


@pytest.mark.slow
def test_at_a_steady_rate_nothing_is_lost_and_no_descriptor_is_kept(tmp_path: Path, bundle: Path) -> None:
    found = soak.load(tmp_path, bundle, soak.QUICK)
    print(found)
    assert found.acknowledged == 121
    assert found.bad == 1 <= found.unanalysed
    assert found.kept.well, str(found.kept)
    assert found.moved <= 8
