from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from carina.evaluation.calibrate import calibrate
from carina.evaluation.card import card_files, contents
from carina.evaluation.card_text import BLANK
from carina.evaluation.evaluate import evaluate
from carina.evaluation.rewrite import rewrite
from carina.scoring.bundle import Bundle
from tests.bundles import tiny_bundle, tiny_manifest
from tests.evaluation.worlds import write_catalogue, write_films


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, then calibrated, then with the figures of an evaluation: plain → north → shown."""
    root = tmp_path_factory.mktemp("card")
    films = write_films(root / "films", 240)
    catalogue = write_catalogue(root / "catalogue", films, valid=0.7, films_per_patient=1)
    tiny_bundle(root / "plain", trained_on=["0" * 64])
    calibrate(root / "plain", catalogue, targets=[0.9], site="north", out=root / "north", split="valid")
    evaluate(root / "north", catalogue, split="train", out=root / "evaluation", card=root / "shown")
    return root


def test_a_card_follows_from_the_manifest_alone() -> None:
    manifest = tiny_manifest()
    assert card_files(manifest) == card_files(manifest)
    content = contents(manifest)
    assert content["intended_use"]["classes"] == list(manifest.classes)
    assert content["data"]["training_images"] == manifest.data.fingerprint
    assert any("never calibrated" in each for each in content["limits"])


def test_a_network_taught_for_another_mix_says_for_which() -> None:
    recipe = {"train": {"prevalence": {"Normal": 90, "TB": 10}}}
    manifest = tiny_manifest().model_copy(update={"recipe": recipe})
    assert any("where classes occur as Normal 90 %, TB 10 %" in each for each in contents(manifest)["limits"])
    assert not any("where classes occur" in each for each in contents(tiny_manifest())["limits"])


def test_calibrating_writes_the_points_on_the_card_and_leaves_the_model_alone(road: Path) -> None:
    before, after = Bundle.open(road / "plain").manifest, Bundle.open(road / "north").manifest
    assert before.files["model.onnx"] == after.files["model.onnx"]
    card = (road / "north" / "card.md").read_text()
    assert "| north | 90.0% |" in card
    point = Bundle.open(road / "north").manifest.sections["operating_points"]["north"]["points"][0]
    spared = point["specificity"]
    assert f"of {spared['people']} ({spared['low']:.1%} to {spared['high']:.1%})" in card
    for name, recall in point["classes"].items():
        limit = int(1000 * recall["limit"]) / 10
        assert f"{name} {recall['found']} of {recall['people']}, shown at least {limit:.1f} %" in card
    assert "168 calibration films 0 could not be scored and are in no figure;" in card
    content = json.loads((road / "north" / "card.json").read_text())
    assert list(content["operating_points"]) == ["north"]
    assert not any("never calibrated" in each for each in content["limits"])


def test_an_evaluation_writes_its_figures_with_intervals_and_groups(road: Path) -> None:
    (found,) = json.loads((road / "shown" / "card.json").read_text())["figures"].values()
    metrics = json.loads((road / "evaluation" / "metrics.json").read_text())
    assert found["rates"]["recall of disease"] == metrics["metrics"]["detection"]["sensitivity"]
    assert {each["kind"] for each in found["subgroups"]} == {"source"}
    card = (road / "shown" / "card.md").read_text()
    assert f"**{metrics['verdict']['sentence']}**" in card
    rate = found["rates"]["recall of disease"]
    assert f"{rate['hits']:,} of {rate['films']:,} films, {rate['patients']:,} patients" in card
    assert "source: hospital_a" in card
    assert "at no threshold here: the most probable class is a disease." in card
    (point,) = metrics["claims"]["points"]
    found_here, spared = point["sensitivity"], point["specificity"]
    assert "The operating points of north, on these films:" in card
    assert f"| {found_here['hits']} of {found_here['people']} (" in card
    assert f"| {spared['hits']} of {spared['people']} (" in card
    assert f"| {point['verdict']} |" in card


def test_the_verdict_stands_before_any_figure(road: Path) -> None:
    card = (road / "shown" / "card.md").read_text()
    assert card.index("believed") < card.index("recall of disease")
    assert card.index("not a medical device") < card.index("## Intended use")


def test_checklists_are_filled_in_where_the_run_knows_and_blank_elsewhere(road: Path) -> None:
    lists = json.loads((road / "shown" / "card.json").read_text())["checklists"]
    assert [len(items) for items in lists.values()] == [44, 52]
    assert list(lists) == ["CLAIM 2024", "TRIPOD+AI"]
    answers = {each["item"]: each["answer"] for each in lists["CLAIM 2024"]}
    assert answers["44"] is None  # nobody but a person knows who paid
    assert answers["37"] is not None
    assert answers["1"].startswith("deep learning: ")
    tripod = {each["item"]: each["answer"] for each in lists["TRIPOD+AI"]}
    assert tripod["10"] is None  # how many there were is no reason why they are enough
    assert "training films" in tripod["21"]
    assert tripod["12f"] == tripod["24"] is not None
    card = (road / "shown" / "card.md").read_text()
    assert card.count(BLANK) == sum(each["answer"] is None for items in lists.values() for each in items)


def test_every_fact_that_a_checklist_names_is_known() -> None:
    lists = tomllib.loads(files("carina.evaluation").joinpath("checklists.toml").read_text("utf-8"))
    plain = contents(tiny_manifest())["checklists"]
    for key, title in (("claim", "CLAIM 2024"), ("tripod", "TRIPOD+AI")):
        numbers = [number for number, _, _ in lists[key][0]["items"]]
        main = [number.rstrip("abcdefg") for number in numbers]
        last = {"claim": 44, "tripod": 27}[key]
        assert list(dict.fromkeys(main)) == [str(number) for number in range(1, last + 1)]
        for item in set(main):  # parts are lettered without a gap
            parts = [number for number, of in zip(numbers, main, strict=True) if of == item]
            assert parts in ([item], [f"{item}{letter}" for letter in "abcdefg"[: len(parts)]])
        unknown = [fact for _, _, fact in lists[key][0]["items"] if fact and not _known(fact)]
        assert not unknown
        assert len(plain[title]) == len(numbers)


def _known(fact: str) -> bool:
    from carina.evaluation.card import _facts

    manifest = tiny_manifest()
    return fact in _facts(manifest, contents(manifest))


def test_a_rewritten_bundle_keeps_its_other_sections(road: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(road / "north")
    written = rewrite(bundle, tmp_path / "more", {"notes": {"by": "a test"}})
    assert set(written.manifest.sections) == {"operating_points", "notes"}
    assert Bundle.open(tmp_path / "more").manifest.files["card.json"] == written.manifest.files["card.json"]


def test_terms_that_are_the_licence_are_said_once() -> None:
    facts = {"title": "A folder", "licence": "yours", "terms": "yours"}
    manifest = tiny_manifest().model_copy(update={"sections": {"sources": {"ward": facts}}})
    assert "- ward: A folder. licence: yours\n" in card_files(manifest)["card.md"].decode()


def test_a_class_name_cannot_break_the_table() -> None:
    card = card_files(tiny_manifest(("A | B", "<script>", "Normal")))["card.md"].decode()
    assert "A \\| B" in card
    assert "<script>" not in card
