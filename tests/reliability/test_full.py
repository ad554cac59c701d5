"""No room, no leave, no writing: the quick form of the harness, on a volume of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import full, volume


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_told_on_every_way_in_and_on_the_page(
    tmp_path: Path, bundle: Path
) -> None:
    if why := volume.missing():
        pytest.skip(why)
    found = full.load(tmp_path, bundle, full.QUICK)
    print(found)
    assert found.answers["below the watermark"] == found.answers["full"] == (0xA700, 507, 507)
    assert found.answers["read-only"] == (0x0110, 500, 500)
    assert found.red == ["below the watermark", "full", "read-only"]
    assert found.left > 15 << 20
    assert found.kept.well, str(found.kept)
