"""What is asked of the system for one film, in its order: the quick form of the harness."""

from __future__ import annotations

from pathlib import Path

from tests.reliability import order


def test_file_then_name_then_folder_then_database_then_answer(tmp_path: Path, bundle: Path) -> None:
    found = order.load(tmp_path, bundle, order.QUICK)
    print(found)
    assert (found.in_order, found.faults) == (8, [])
