"""What stands in deploy/ names files, options and settings that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from carina.cli import app
from carina.serving.settings import Settings
from tests.serving.programs import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_COPIED = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src/carina/__init__.py")


def known(words: list[str]) -> None:
    """Fails for a verb or an option of a command line that Carina does not know."""
    command = get_command(app)
    while words and not words[0].startswith("-") and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word not in options]
    assert not unknown, command.name
    assert not hasattr(command, "commands"), "a verb is missing"


def test_the_unit_starts_carina_with_options_that_it_knows() -> None:
    unit = (DEPLOY / "carina.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    path, *words = shlex.split(start)
    assert Path(path).name == "carina"
    known(words)


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    unit = (
        (DEPLOY / "carina.service").read_text().replace("/opt/carina/bin/carina", shutil.which("true") or "")
    )
    (tmp_path / "carina.service").write_text(unit.replace("User=carina\nGroup=carina\n", ""))
    verify = [program("systemd-analyze", "systemd"), "verify", "--man=no", str(tmp_path / "carina.service")]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "carina.service" in line]
    assert said == []


def test_the_container_recipe_copies_files_and_calls_verbs_that_exist() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "COPY":
            assert all((ROOT / each).exists() for each in rest.split()[:-1])
    assert all((ROOT / each).is_file() for each in _COPIED)  # what pip needs of them
    (health,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    (start,) = [line for line in lines if line.startswith("CMD")]
    known(re.findall(r'"([^"]+)"', health)[1:])
    known(re.findall(r'"([^"]+)"', start))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "serve" in extras


@pytest.mark.parametrize("comments", [False, True])
def test_the_settings_file_has_keys_that_exist(comments: bool, tmp_path: Path) -> None:
    text = (DEPLOY / "carina.toml").read_text()
    if comments:  # what is only shown must be right too
        text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)
    found = tomllib.loads(text)
    settings = Settings.model_validate(found)
    assert settings.dicom.ae_title == "CARINA"
    assert bool(settings.destinations) is comments
