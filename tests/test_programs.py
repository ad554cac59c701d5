"""Lines that a person copies call the programs that are meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from carina import programs


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An environment with programs of its own, and the system's; neither is on the path yet."""
    environment, system = tmp_path / "a place" / "bin", tmp_path / "usr" / "bin"
    for folder, names in ((environment, ("python", "carina", "storescu")), (system, ("storescu",))):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    return environment, system


def test_dcmtk_is_meant_whatever_python_programs_come_first(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, system = places
    monkeypatch.setenv("PATH", f"{environment}:{system}")
    assert programs.dcmtk("storescu") == str(system / "storescu")
    (environment / "storescu").unlink()
    assert programs.dcmtk("storescu") == "storescu"


def test_carina_is_called_by_its_path_where_it_would_not_be_found(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment, system = places
    monkeypatch.setenv("PATH", str(system))
    monkeypatch.chdir(tmp_path)
    assert programs.carina() == "'a place/bin/carina'"
    monkeypatch.chdir(system)
    assert programs.carina() == f"'{environment}/carina'"
    monkeypatch.setenv("PATH", str(environment))
    assert programs.carina() == "carina"
