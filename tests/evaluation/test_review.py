"""The page on which a person confirms or splits groups: in a real browser, from a disk, without a server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.data.decisions import Decisions
from carina.data.review import cases
from carina.errors import OutputError
from carina.evaluation.review_page import review
from tests.data.test_compile import clinic, picture, run, save

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases: one of three films with a conflict, one of two, and one of two with an ill-named class."""
    root = tmp_path_factory.mktemp("review")
    clinic(root / "a")
    for number in range(2):
        save(root / "b" / "TB" / f"copy {number}.jpg", number, quality=60)
    save(root / "b" / "Normal" / "again.jpg", 0, quality=80)
    evil = root / "c" / EVIL.replace("/", "")
    evil.mkdir(parents=True)
    for number in (400, 401, 402):
        Image.fromarray(picture(number)).save(evil / f"{number}.png")
    Image.fromarray(picture(400)).save(evil / "400 again.jpg", quality=70)
    run({"a": root / "a", "b": root / "b", "c": root / "c"}, root / "cat")
    return root / "cat"


def test_the_page_is_one_file_with_every_film_and_nothing_from_elsewhere(catalogue: Path) -> None:
    made = review(catalogue, workers=1)
    text = made.page.read_text("utf-8")
    assert (made.cases, made.shown, made.undecided, made.conflicting) == (3, 3, 3, 1)
    assert text.count("data:image/jpeg;base64,") == 7
    assert "labels disagree: Normal / TB" in text
    assert text.index("labels disagree") < text.index("Case 2")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert EVIL not in text
    assert "&lt;img src=x" in text


def test_a_long_list_is_cut_and_says_so(catalogue: Path, tmp_path: Path) -> None:
    made = review(catalogue, out=tmp_path / "page.html", limit=1, workers=1)
    assert (made.cases, made.shown) == (3, 1)
    assert "3 cases, 1 of them on this page" in made.page.read_text("utf-8")


def test_a_film_that_is_gone_leaves_a_note(catalogue: Path, tmp_path: Path) -> None:
    (case, *_) = cases(Catalogue.open(catalogue))
    gone = case.files[0][0].path
    kept = gone.read_bytes()
    gone.unlink()
    try:
        text = review(catalogue, out=tmp_path / "page.html", workers=1).page.read_text("utf-8")
    finally:
        gone.write_bytes(kept)
    assert text.count("The film cannot be read") == 1


def test_a_page_that_cannot_be_written_is_an_error(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="name another with --out"):
        review(catalogue, out=tmp_path / "file" / "page.html", workers=1)


def test_decisions_made_in_a_browser_are_kept(catalogue: Path, tmp_path: Path) -> None:
    """Clicks, as a person would; the saved file is read out of the page and handed to the verb."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser on this machine")
    page = review(catalogue, out=tmp_path / "page.html", workers=1).page
    clicks = """<script>{
      let saved = null;
      URL.createObjectURL = (blob) => { saved = blob; return "#"; };
      const cards = [...document.querySelectorAll(".case")];
      const select = cards[0].querySelectorAll("select")[1];
      select.value = "1"; select.dispatchEvent(new Event("change"));
      cards[1].querySelector('[data-all="same"]').click();
      cards[2].focus();
      cards[2].dispatchEvent(new KeyboardEvent("keydown", { key: "d" }));
      document.getElementById("save").click();
      saved.text().then((text) => {
        const out = document.createElement("pre");
        out.id = "saved"; out.textContent = text; document.body.append(out);
        out.dataset.count = document.getElementById("count").textContent;
      });
    }</script></body>"""
    page.write_text(page.read_text("utf-8").replace("</body>", clicks), "utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="saved" data-count="([^"]*)">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    assert found[1] == "3 of 3 decided"
    (tmp_path / "decisions.json").write_text(found[2])
    listed = cases(Catalogue.open(catalogue))
    made = Decisions.load(tmp_path / "decisions.json").made
    assert [sorted(map(len, decision.parts)) for decision in made] == [[1, 2], [2], [1, 1]]
    assert [decision.films for decision in made] == [frozenset(case.sha256s) for case in listed]

    kept = CliRunner().invoke(app, ["review", str(catalogue), "--apply", str(tmp_path / "decisions.json")])
    assert kept.exit_code == 0, kept.output
    assert "3 cases are decided" in kept.output
    assert "carina compile a=" in kept.output
    assert json.loads((catalogue / "decisions.json").read_text())["format"] == 1
    assert review(catalogue, out=tmp_path / "again.html", workers=1).undecided == 0
