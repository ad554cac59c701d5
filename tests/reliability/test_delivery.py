"""Results arrive at a PACS that is away, refuses and hangs up: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import delivery


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the PACS's sockets
def test_every_result_arrives_under_its_uid_and_dead_letters_are_seen(tmp_path: Path, bundle: Path) -> None:
    found = delivery.load(tmp_path, bundle, delivery.QUICK)
    print(found)
    assert (found.planned, found.arrived, found.changed, found.strangers) == (4, 4, 0, 0)
    assert found.tries >= 4 + 1 + 2
    assert (found.letters, found.seen, found.late) == (4, 4, 4)
