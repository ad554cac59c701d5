"""docs/promises.md says what was measured: every promise has its row, and every figure its promise."""

from __future__ import annotations

from tests import promises


def test_the_page_is_what_the_figures_say() -> None:
    page = promises.PAGE.read_text("utf-8")
    assert page == promises.render(page), "run: python -m tests.promises"


def test_every_figure_belongs_to_a_promise_and_names_its_command() -> None:
    names = [each.name for each in promises.promises()]
    assert len(names) == len(set(names))
    for path in promises.FOLDER.glob("*.json"):
        found = promises.figure(path.stem)
        assert found is not None
        assert found.name == path.stem in names
        assert found.command.startswith(("python -m ", "python benchmarks/", "make ", "pytest "))
