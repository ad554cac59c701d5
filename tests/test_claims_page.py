"""The worked examples of docs/claims.md are run, and print what the page says they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carina.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "claims.md"
EXAMPLES = re.findall(r"```\n\$ carina (.*?)\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


def test_the_page_has_an_example_of_each_verb_that_needs_no_model() -> None:
    assert {command.split()[0] for command, _ in EXAMPLES} == {"bayes", "plan", "simulate"}


@pytest.mark.parametrize(("command", "printed"), EXAMPLES, ids=[command[:60] for command, _ in EXAMPLES])
def test_an_example_prints_what_the_page_says(
    command: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PAGE.parent)
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
    assert [line.rstrip() for line in done.stdout.strip().splitlines()] == printed.strip().splitlines()
