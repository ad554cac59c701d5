"""The catalogue: what was written comes back, every tool opens it, and damage is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carina.data import catalogue
from carina.data.catalogue import Catalogue
from carina.errors import CatalogueError

MANIFEST = {"classes": ["TB", "Normal"], "healthy": ["Normal"]}


def film(number: int, class_name: str, split: str, **more: Any) -> dict[str, Any]:
    sha256 = f"{number:064x}"[::-1]
    row = {
        "image_id": sha256[:16],
        "path": f"/films/{number}.png",
        "class": class_name,
        "findings": ["Effusion", "Mass"] if number % 2 else [],
        "source": "clinic",
        "patient": f"clinic:{number}",
        "group": sha256[:16],
        "split": split,
        "view": "PA",
        "age": 40.5 if number else None,
        "sex": None,
        "width": 10,
        "height": 12,
        "sha256": sha256,
        "study": None,
        "label": "1",
        "bits": 8,
        "format": "png",
        "manufacturer": None,
        "bytes": 99,
    }
    return row | more


FILMS = [
    film(2, "Normal", "valid"),
    film(0, "TB", "train"),
    film(1, "Normal", "train"),
    film(3, "TB", "valid"),
]


@pytest.fixture
def made(tmp_path: Path) -> Catalogue:
    return catalogue.write(
        tmp_path / "cat", FILMS, MANIFEST, {"dropped.csv": [("a.png", "clinic", "x", "c", "why")]}
    )


def test_what_was_written_comes_back(made: Catalogue) -> None:
    again = Catalogue.open(made.root)
    assert len(again) == 4
    assert again.classes == ("TB", "Normal")
    assert again.healthy == {"Normal"}
    assert again.table("valid")["path"].to_pylist() == ["/films/2.png", "/films/3.png"]
    assert again.labels("valid").tolist() == [1, 0]
    assert again.labels().dtype == np.int64
    assert again.fingerprint == made.fingerprint == made.manifest["fingerprint"]
    assert (made.root / "dropped.csv").read_text("utf-8").splitlines() == [
        "path,source,label,code,reason",
        "a.png,clinic,x,c,why",
    ]


def test_pandas_polars_and_duckdb_open_it(made: Catalogue) -> None:
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    path = made.root / "catalogue.parquet"
    columns = ["image_id", "path", "class", "findings", "source", "patient", "group", "split"]
    frame = pandas.read_parquet(path)
    assert list(frame.columns)[: len(columns)] == columns
    assert frame.loc[frame["path"] == "/films/3.png", "findings"].item().tolist() == ["Effusion", "Mass"]
    assert polars.read_parquet(path).filter(polars.col("class") == "TB").height == 2
    query = f"SELECT split, count(*) FROM '{path}' GROUP BY split ORDER BY split"
    assert duckdb.sql(query).fetchall() == [("train", 2), ("valid", 2)]


def test_the_same_films_in_another_order_give_the_same_bytes(made: Catalogue, tmp_path: Path) -> None:
    other = catalogue.write(tmp_path / "other", FILMS[::-1], MANIFEST, {})
    assert (other.root / "catalogue.parquet").read_bytes() == (made.root / "catalogue.parquet").read_bytes()


@pytest.mark.parametrize(
    ("column", "value"), [("class", "TB"), ("split", "test"), ("patient", "clinic:9"), ("group", "g")]
)
def test_the_fingerprint_changes_with_use_and_not_with_place(
    column: str, value: str, made: Catalogue, tmp_path: Path
) -> None:
    moved = [row | {"path": f"/elsewhere/{row['path']}"} for row in FILMS]
    assert catalogue.write(tmp_path / "moved", moved, MANIFEST, {}).fingerprint == made.fingerprint
    changed = [FILMS[0] | {column: value}, *FILMS[1:]]
    assert catalogue.write(tmp_path / "changed", changed, MANIFEST, {}).fingerprint != made.fingerprint


def damage_parquet(root: Path) -> None:
    raw = bytearray((root / "catalogue.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (root / "catalogue.parquet").write_bytes(raw)


def edit_manifest(root: Path, **change: Any) -> None:
    manifest = json.loads((root / "catalogue.json").read_text("utf-8")) | change
    (root / "catalogue.json").write_text(json.dumps(manifest), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (damage_parquet, "is not the file that was compiled; compile"),
        (lambda root: (root / "catalogue.parquet").unlink(), r"catalogue\.parquet is missing; compile"),
        (lambda root: (root / "catalogue.json").unlink(), "its compile did not finish"),
        (lambda root: (root / "catalogue.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "catalogue.json").write_text("[]"), "not the manifest of a catalogue"),
        (lambda root: edit_manifest(root, format=99), "format 99; this Carina reads 1"),
        (lambda root: edit_manifest(root, classes=["TB"]), "contradict each other"),
        (lambda root: edit_manifest(root, images=5), "contradict each other"),
    ],
)
def test_a_damaged_catalogue_is_refused_with_the_cure(spoil: Any, says: str, made: Catalogue) -> None:
    spoil(made.root)
    with pytest.raises(CatalogueError, match=says):
        Catalogue.open(made.root)


def test_a_folder_that_is_not_there_is_an_error_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no such folder; make a catalogue with: carina compile"):
        Catalogue.open(tmp_path / "none")


def test_a_side_without_films_is_an_error_that_names_the_sides(made: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="no film is on the side 'test'; there are train, valid"):
        made.table("test")


def test_an_older_catalogue_is_replaced_and_its_prepared_films_stay(made: Catalogue) -> None:
    (made.root / "pixels").mkdir()
    (made.root / "pixels" / "kept").write_text("x")
    again = catalogue.write(made.root, FILMS[:2], MANIFEST, {})
    assert len(again) == 2
    assert (made.root / "pixels" / "kept").exists()
    assert not list(made.root.parent.glob(".*.partial"))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(CatalogueError, match=r"are no catalogue \(thesis\.docx\); choose another --out"):
        catalogue.write(tmp_path, FILMS, MANIFEST, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_manifest_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_text('{"kind": "library"}')
    with pytest.raises(CatalogueError, match="is not Carina's; choose another --out"):
        catalogue.check_may_write(tmp_path)


def test_a_write_that_fails_leaves_the_older_catalogue_as_it_was(made: Catalogue) -> None:
    with pytest.raises(Exception, match=r"nullable|null"):
        catalogue.write(made.root, [FILMS[0] | {"sha256": None}], MANIFEST, {})
    assert Catalogue.open(made.root).fingerprint == made.fingerprint


def test_opening_one_loads_no_image_library(made: Catalogue) -> None:
    code = (
        "import sys; from carina.data.catalogue import Catalogue;"
        "Catalogue.open(sys.argv[1]).labels('train');"
        "print(sorted({'PIL', 'pydicom', 'torch'}.intersection(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, made.root], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
