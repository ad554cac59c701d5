"""The audit of a catalogue and a bundle: two files, one verdict, and what the model knows of sources."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from carina.data.catalogue import Catalogue
from carina.data.confounding.audit import stored_verdict
from carina.data.splits import SplitRow
from carina.errors import CatalogueError, DataError, OutputError
from carina.evaluation.audit import AuditResult, audit
from carina.evaluation.evaluate import evaluate
from carina.evaluation.probe import source_probes
from carina.images.prepare import Preparation
from tests.bundles import tiny_bundle
from tests.evaluation.worlds import CLASSES, write_catalogue, write_films

SOURCES = ("north", "south")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 72 films of noise, and a bundle that knows nothing."""
    root = tmp_path_factory.mktemp("audit")
    films = write_films(root / "films", 72)
    write_catalogue(root / "catalogue", films, films_per_patient=1, sources=SOURCES)
    tiny_bundle(root / "bundle", CLASSES, 64)
    return root


@pytest.fixture(scope="module")
def result(folder: Path) -> AuditResult:
    return audit(folder / "catalogue", out=folder / "out", model=folder / "bundle", split="valid", workers=1)


def test_page_and_figures_are_written_and_the_catalogue_keeps_the_verdict(
    result: AuditResult, folder: Path
) -> None:
    assert sorted(path.name for path in result.out.iterdir()) == ["audit.html", "audit.json"]
    read = json.loads((result.out / "audit.json").read_text())
    assert read["verdict"]["grade"] == result.audit.verdict.grade
    assert read["model"]["films"] == 36
    assert {each["key"] for each in read["baselines"]} == {
        "source", "age", "view", "sex", "header", "marks", "border", "blacked_out", "grain", "thumbnail",
    }  # fmt: skip
    assert stored_verdict(Catalogue.open(folder / "catalogue")) == result.audit.verdict


def test_the_page_is_whole_and_says_the_verdict_first(result: AuditResult) -> None:
    page = (result.out / "audit.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|\#)""", page)
    assert result.audit.verdict.sentence in page.partition("<nav")[0]
    for words in (
        "border only",
        "The model tiny was asked about 36 films of the split valid",
        "Films by source and class",
        "8 × 8",
    ):
        assert words in page


def test_the_terminal_gets_a_row_for_each_baseline_and_the_model(result: AuditResult) -> None:
    head, rows = result.table()
    assert head == ("who sees only", "accuracy", *CLASSES, "")
    assert rows[0][0] == "the model (valid)"
    assert len(rows) == 11
    assert result.lines()[0] == result.audit.verdict.sentence


def test_remedies_are_measured_before_and_after(folder: Path) -> None:
    asked = Preparation(64, crop=0.1, tone="equalised")
    done = audit(folder / "catalogue", out=folder / "remedied", preparation=asked, workers=1)
    read = json.loads((done.out / "audit.json").read_text())
    assert read["remedied"]["preparation"] == {
        "size": 192,
        "fit": "stretch",
        "crop": 0.1,
        "tone": "equalised",
    }
    assert [each["key"] for each in read["remedied"]["baselines"]] == [
        "marks", "border", "blacked_out", "grain", "thumbnail",
    ]  # fmt: skip
    _, rows = done.table()
    assert sum(row[0] == "  after the remedies" for row in rows) == 5
    assert "Remedies (crop 0.1, tone equalised) change what the pictures give away" in done.lines()[1]
    page = (done.out / "audit.html").read_text()
    assert "Before and after the remedies" in page
    assert "Before and after the remedies" not in (folder / "out" / "audit.html").read_text()


def test_evaluation_quotes_the_verdict_of_the_audit(result: AuditResult, folder: Path) -> None:
    done = evaluate(folder / "bundle", folder / "catalogue", split="valid", out=folder / "evaluation")
    assert done.metrics["verdict"]["sentence"] == result.audit.verdict.sentence
    assert set(done.metrics["verdict"]["within_source"]) == set(SOURCES)
    assert result.audit.verdict.sentence in "\n".join(done.lines())


def test_a_bundle_of_other_classes_is_refused_before_the_work(folder: Path, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "bundle", ("Normal", "TB"), 64)
    with pytest.raises(DataError, match="is not one of the bundle's"):
        audit(folder / "catalogue", out=tmp_path / "out", model=other, split="valid")
    with pytest.raises(CatalogueError, match="no film is on the side 'test'"):
        audit(folder / "catalogue", out=tmp_path / "out", model=folder / "bundle")


def test_a_file_in_the_way_is_an_output_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be made"):
        audit(folder / "catalogue", out=tmp_path / "out")


def test_a_probe_finds_the_source_in_an_embedding_that_knows_it_and_only_there() -> None:
    rng = np.random.default_rng(0)
    rows = [
        SplitRow(str(n), f"p{n}", f"g{n}", ("TB", "Normal")[n % 2], SOURCES[n // 2 % 2]) for n in range(160)
    ]
    blind = rng.normal(size=(160, 12)).astype(np.float32)
    knows = blind.copy()
    tb = np.array([row.class_name == "TB" for row in rows])
    knows[tb, 3] += 4 * np.array([row.source == "north" for row in rows])[tb]
    found = {each.class_name: each for each in source_probes(rows, knows)}
    assert found["TB"].area > 0.95
    assert found["Normal"].area < 0.7
    assert found["TB"].films == {"north": 40, "south": 40}
    assert found["TB"].most_frequent == 0.5


def test_a_class_of_one_source_has_no_probe() -> None:
    rows = [SplitRow(str(n), f"p{n}", f"g{n}", "TB", "north") for n in range(40)]
    assert source_probes(rows, np.zeros((40, 3), np.float32)) == []
