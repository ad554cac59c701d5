"""Faults of the disk are told to the sender: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import faults


@pytest.mark.slow
def test_a_fault_of_the_disk_is_never_a_success_and_a_failed_fsync_takes_the_store_out_of_service(
    tmp_path: Path, bundle: Path
) -> None:
    found = faults.load(tmp_path, bundle, faults.QUICK)
    print(found)
    assert (found.rounds, found.false, found.stuck) == (4, [], [])
    assert found.injected >= 4
    assert (found.fsyncs, found.marked) == (1, 1)
    assert found.kept.well, str(found.kept)
