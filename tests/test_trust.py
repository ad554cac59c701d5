"""The verb audit, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from carina.cli import app
from tests.evaluation.worlds import write_catalogue, write_films


def test_audit_prints_the_table_and_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    films = write_films(tmp_path / "films", 12)
    write_catalogue(tmp_path / "catalogue", films)
    line = ["audit", str(tmp_path / "catalogue"), "--out", str(tmp_path / "out"), "--workers", "1"]
    told = CliRunner().invoke(app, [*line, "--set", "data.crop=0.1"])
    assert told.exit_code == 0, told.output
    assert "Cannot be told whether figures on these films are skill" in told.output
    assert "too few patients" in told.output
    assert "Remedies (crop 0.1) change what the pictures give away" in told.output
    assert (tmp_path / "out" / "audit.html").is_file()
