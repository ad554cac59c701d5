"""A film that ends its reader stops no other: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import poisoned


@pytest.mark.slow
def test_films_that_kill_hang_or_fill_the_decoder_are_left_to_a_reader_and_the_others_are_scored(
    tmp_path: Path, bundle: Path
) -> None:
    found = poisoned.load(tmp_path, bundle, poisoned.QUICK)
    print(found)
    assert found.scored == found.good == 20
    assert {kind: code for kind, (_, code, _) in found.waits.items()} == {
        "KILLS": "crashed", "HANGS": "timed_out", "FILLS": "too_large",
    }  # fmt: skip
    assert all(tries <= 2 for _, _, tries in found.waits.values())
