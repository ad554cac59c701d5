from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.errors import OutputError
from carina.images.phantom import phantom
from carina.scoring.bundle import Bundle
from carina.scoring.triage import FORBIDDEN, Policy
from carina.scoring.triage_run import Worklist, triage_films
from carina.scoring.worklist_files import COLUMNS, write_worklist


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six chest phantoms, a page of noise, and a file that ends early."""
    folder = tmp_path_factory.mktemp("ward")
    for number in range(6):
        made = phantom("Normal" if number % 2 else "TB", seed=number, size=224)
        Image.fromarray(made.pixels).save(folder / f"chest {number}.png")
    noise = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "=noise.png")
    (folder / "<b>torn.png").write_bytes((folder / "chest 0.png").read_bytes()[:400])
    return folder


@pytest.fixture(scope="module")
def worklist(bundle: Path, ward: Path) -> Worklist:
    policy = Policy(threshold=0.5, shown="north: at least 95.0 % of disease found, shown on 60 people")
    return triage_films([ward], Bundle.open(bundle), policy, pictures=True)


def test_what_is_no_chest_film_and_what_cannot_be_read_need_a_reader(worklist: Worklist) -> None:
    found = {Path(each.path).name: each for each in worklist.decisions}
    assert found["=noise.png"].code == "not_a_chest_film"
    assert found["<b>torn.png"].code == "truncated"
    assert {each.label for name, each in found.items() if name.startswith("chest")} <= {
        "flagged: now",
        "flagged: soon",
        "not flagged: read as usual",
    }
    assert worklist.counts["not analysed: needs a reader"] == 2
    assert sum(worklist.counts.values()) == 8


def test_every_film_that_could_be_read_has_a_small_picture(worklist: Worklist) -> None:
    assert len(worklist.pictures) == 7
    assert max(map(len, worklist.pictures.values())) < 20_000


def test_a_bundle_without_embeddings_says_that_it_cannot_refuse_by_distance(worklist: Worklist) -> None:
    assert any("carries no embeddings" in each for each in worklist.warnings)


def test_the_csv_has_a_row_a_film_and_no_formulas(worklist: Worklist, tmp_path: Path) -> None:
    write_worklist(worklist, tmp_path / "list.csv")
    text = (tmp_path / "list.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["place"]) for row in rows] == list(range(1, 9))
    assert {row["decision"] for row in rows if not row["p_disease"]} == {"not analysed: needs a reader"}
    assert "nan" not in text.lower()
    assert not re.search(r"(^|,)=", text)


def test_the_json_says_by_what_was_decided(worklist: Worklist, tmp_path: Path) -> None:
    write_worklist(worklist, tmp_path / "list.json")
    content = json.loads((tmp_path / "list.json").read_text())
    assert content["threshold"] == 0.5
    assert [film["place"] for film in content["films"]] == list(range(1, 9))
    assert "Not a medical device" in content["notice"]
    assert all(film["p_disease"] is None or 0 <= film["p_disease"] <= 1 for film in content["films"])


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_the_page_needs_nothing_else_and_runs_nothing(worklist: Worklist, tmp_path: Path) -> None:
    write_worklist(worklist, tmp_path / "list.html")
    page = _Seen()
    page.feed((tmp_path / "list.html").read_text())
    links = [value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href")]
    assert len(links) == 7
    assert all(link is not None and link.startswith("data:image/jpeg;base64,") for link in links)
    assert "script" not in {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("tr") == 9
    assert "<b>torn.png" in page.text


def test_no_form_of_a_worklist_says_that_nothing_is_wrong(worklist: Worklist, tmp_path: Path) -> None:
    for ending in ("csv", "json", "html"):
        write_worklist(worklist, tmp_path / f"list.{ending}")
        text = (tmp_path / f"list.{ending}").read_text().lower()
        text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
        assert not [word for word in FORBIDDEN if word in text]


def test_an_unknown_ending_is_refused(worklist: Worklist, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.csv, \.json, \.html"):
        write_worklist(worklist, tmp_path / "list.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_triage_prints_the_list_and_writes_what_was_asked_for(
    bundle: Path, ward: Path, tmp_path: Path
) -> None:
    out = tmp_path / "list.html"
    done = CliRunner().invoke(
        app, ["triage", str(ward), "--model", str(bundle), "--out", str(out), "--top", "3"]
    )
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert lines[0].split() == ["place", "decision", "suspected", "p_disease", "film", "why", "not"]
    assert len(lines) == 4
    assert "Nobody has shown a threshold for this model here" in done.stderr
    assert "2 not analysed: needs a reader" in done.stderr
    assert out.exists()
