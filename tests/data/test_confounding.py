"""The audit: worlds with a shortcut are named for it, worlds without are sound, small ones are unknown."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from carina.data.confounding.area import Auc, auc
from carina.data.confounding.association import (
    age_band,
    age_bands,
    cramers_v,
    cross_table,
    single_source_classes,
)
from carina.data.confounding.audit import Audit, full_audit, quick_audit, stored_verdict, write_audit
from carina.data.confounding.baselines import DISEASE, Baseline
from carina.data.confounding.headers import headers
from carina.data.confounding.lookaway import blacked_out, border_mask, reduced
from carina.data.confounding.marks import burnt_in_marks
from carina.data.confounding.verdict import Extent, Grade, Verdict, judge
from carina.images.lettering import outside_ellipse
from tests.data import shortcuts
from tests.data.shortcuts import SOURCES, World, enlarged, frame, gamma, letters


def is_tb(row: dict[str, object]) -> bool:
    return row["class"] == "TB"


def from_home(row: dict[str, object]) -> str:
    """The source that has most films of the class; every fifth film comes from the next one."""
    home = ("Bacterial Pneumonia", "TB", "Normal").index(str(row["class"]))
    guest = int(str(row["image_id"]), 16) % 5 == 0
    return SOURCES[(home + guest) % 3]


def border_per_source(world: World) -> World:
    shade = dict(zip(SOURCES, (20, 120, 220), strict=True))
    return world.stating(source=from_home).painted(lambda row, film: frame(film, shade[row["source"]]))


IN_PICTURES: dict[str, tuple[Callable[[World], World], str]] = {
    "letters on the films of one class": (
        lambda world: world.painted(lambda row, film: letters(film, "AP") if is_tb(row) else film), "marks"),
    "a frame around the films of one class": (
        lambda world: world.painted(lambda row, film: frame(film, 60) if is_tb(row) else film), "border"),
    "another film curve for one class": (
        lambda world: world.painted(lambda row, film: gamma(film, 2.0) if is_tb(row) else film), "border"),
    "one class from small copies that were enlarged": (
        lambda world: world.painted(lambda row, film: enlarged(film, 0.6) if is_tb(row) else film), "grain"),
    "one class brighter, as a thumbnail shows": (
        lambda world: world.painted(lambda row, film: film + 45 * is_tb(row)), "border"),
    "a border tint per source, and a source per class": (border_per_source, "source"),
}  # fmt: skip

IN_HEADERS: dict[str, tuple[Callable[[World], World], str, str | None]] = {
    "a source per class": (lambda world: world.stating(source=from_home), "source", None),
    "another shape for one class": (
        lambda world: world.stating(height=lambda row: row["height"] * (1 if is_tb(row) else 0.8) // 1),
        "header", "shape (width to height)"),
    "more bits for one class": (
        lambda world: world.stating(bits=lambda row: 12 if is_tb(row) else 8), "header", "bits a pixel"),
    "another file format for one class": (
        lambda world: world.stating(format=lambda row: "dicom" if is_tb(row) else "png"),
        "header", "file format"),
    "a device for one class": (
        lambda world: world.stating(manufacturer=lambda row: "Acme" if is_tb(row) else "Other"),
        "header", "maker of the device"),
}  # fmt: skip

SOUND: dict[str, Callable[[World], World]] = {
    "sources that look alike": lambda world: world,
    "sources that look different but have all classes": lambda world: world.painted(
        lambda row, film: letters(frame(film, 200), "L") if row["source"] == "north" else film
    ).stating(
        bits=lambda row: 12 if row["source"] == "west" else 8,
        width=lambda row: 1000 + int(np.random.default_rng(int(row["image_id"], 16)).integers(40)),
    ),
}


@pytest.mark.parametrize("world", IN_PICTURES)
def test_a_shortcut_in_the_pictures_is_named(world: str) -> None:
    change, shortcut = IN_PICTURES[world]
    verdict = audited(change(shortcuts.clean())).verdict
    assert verdict.grade is Grade.CONFOUNDED
    assert verdict.reasons[0].baseline == shortcut
    assert verdict.reasons[0].value >= 0.85
    if shortcut != "source":
        assert verdict.reasons[0].row == "TB"
        assert "source" not in {each.baseline for each in verdict.reasons}
        assert "header" not in {each.baseline for each in verdict.reasons}


@pytest.mark.parametrize("shortcut", ["marks", "border", "header"])
def test_a_shortcut_in_one_source_alone_is_never_sound(shortcut: str) -> None:
    def here(row: dict[str, object]) -> bool:
        return is_tb(row) and row["source"] == SOURCES[0]

    world = shortcuts.clean()
    if shortcut == "header":
        world = world.stating(bits=lambda row: 12 if here(row) else 8)
    else:
        draw = (lambda film: letters(film, "AP")) if shortcut == "marks" else (lambda film: frame(film, 60))
        world = world.painted(lambda row, film: draw(film) if here(row) else film)
    verdict = audited(world).verdict
    assert verdict.grade is Grade.DOUBTFUL
    first = verdict.reasons[0]
    assert (first.baseline, first.source, first.row) == (shortcut, SOURCES[0], "TB")
    assert f"among films of {SOURCES[0]}, " in verdict.sentence
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_letters_are_named_beside_the_border_they_stand_in() -> None:
    areas = {"border": (0.95, 0.9, 0.98), "marks": (0.9, 0.85, 0.94), "grain": (0.999, 0.99, 1.0)}
    found = [Baseline(key, {"TB": Auc(*area, 90, 90, 180)}) for key, area in areas.items()]
    extent = Extent({"TB": 90, "Normal": 90}, {"a": 90, "b": 90}, ("Normal",), {}, {})
    said = judge(found, extent).sentence
    assert "the border of the film alone (outer 12 %) tells TB (AUC 0.95)" in said
    assert "burnt-in lettering alone tells TB (AUC 0.90) as well" in said


def test_classes_of_one_source_alone_are_named_however_few_the_films_are() -> None:
    extent = Extent({"TB": 6, "Normal": 6}, {"a": 6, "b": 6}, ("Normal",), {"TB": "a", "Normal": "b"}, {})
    assert "TB comes from a only and Normal comes from b only" in judge([], extent).sentence


@pytest.mark.parametrize("world", IN_HEADERS)
def test_a_shortcut_outside_the_pictures_is_named_by_the_quick_form(world: str) -> None:
    change, shortcut, detail = IN_HEADERS[world]
    verdict = quick_audit(change(shortcuts.clean()).catalogue).verdict
    assert verdict.grade is Grade.CONFOUNDED
    assert (verdict.reasons[0].baseline, verdict.reasons[0].detail) == (shortcut, detail)


@pytest.mark.parametrize("world", SOUND)
def test_a_world_without_a_shortcut_is_sound(world: str) -> None:
    audit = audited(SOUND[world](shortcuts.clean()))
    assert audit.verdict.sentence.startswith("Sound")
    assert audit.verdict.reasons == ()
    seen = audit.baseline("thumbnail")
    assert seen is not None  # sees large lesions: it is shown and never judged
    assert (seen.rows[DISEASE].value or 0) > 0.7


def test_age_that_tells_the_class_makes_it_doubtful_and_no_more() -> None:
    world = shortcuts.clean().stating(age=lambda row: 4.0 if is_tb(row) else 50.0)
    verdict = quick_audit(world.catalogue).verdict
    assert verdict.grade is Grade.DOUBTFUL
    assert verdict.sentence.startswith("Doubtful: the age of the patient alone tells TB (AUC 1.00)")


def audited(world: World) -> Audit:
    return full_audit(world.catalogue, world, thorough=False)


def test_one_source_is_never_sound() -> None:
    verdict = audited(shortcuts.clean().stating(source=lambda row: "north")).verdict
    assert verdict.grade is Grade.UNKNOWN
    assert "all films come from one source" in verdict.sentence


def test_a_source_with_a_single_patient_is_named() -> None:
    lone = shortcuts.clean().stating(source=lambda row: "east" if row["patient"] == "p7" else row["source"])
    verdict = quick_audit(lone.catalogue).verdict
    assert verdict.grade is Grade.UNKNOWN
    assert "a single patient from east" in verdict.untold


def test_sources_of_one_patient_each_are_counted_and_never_reassure() -> None:
    lone = shortcuts.clean().stating(source=lambda row: f"from {row['patient']}")
    verdict = quick_audit(lone.catalogue).verdict
    assert verdict.grade is Grade.UNKNOWN
    assert "a single patient from each of 120 sources" in verdict.sentence
    assert len(verdict.sentence) < 400


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (lambda row: int(str(row["image_id"]), 16) < 12, "fewer than 20 patients of Bacterial Pneumonia (4)"),
        (lambda row: row["class"] == "TB", "there is one class only"),
        (lambda row: row["class"] != "Normal", "no class means healthy"),
        (lambda row: row["class"] == "TB" or row["source"] == "north", "fewer than 20 patients of"),
    ],
)
def test_what_too_few_films_cannot_tell_is_said_and_never_sound(
    chosen: Callable[[dict[str, object]], bool], words: str
) -> None:
    small = shortcuts.clean().some(chosen)
    verdict = full_audit(small.catalogue, small, thorough=False).verdict
    assert verdict.grade is not Grade.SOUND
    assert any(words in each for each in verdict.untold)


def test_films_of_one_patient_are_one_witness() -> None:
    """Forty films of four patients a class, told apart without a mistake, prove little."""
    world = shortcuts.clean().stating(patient=lambda row: f"{row['class']}{int(row['image_id'], 16) % 4}")
    verdict = quick_audit(world.stating(bits=lambda row: 12 if is_tb(row) else 8).catalogue).verdict
    assert verdict.grade is Grade.UNKNOWN
    assert "fewer than 20 patients" in verdict.sentence


def test_missing_ages_are_counted_and_do_not_count_as_an_age() -> None:
    world = shortcuts.clean().stating(age=lambda row: 50.0 if is_tb(row) else None)
    audit = quick_audit(world.catalogue)
    assert audit.tables[1].unstated == 80
    assert audit.baseline("age") == Baseline("age", why="one value only")
    assert "age is not stated for 67 % of the films" in audit.verdict.untold


def test_the_quick_form_never_says_sound() -> None:
    verdict = quick_audit(shortcuts.clean().catalogue).verdict
    assert (verdict.grade, verdict.quick) == (Grade.UNKNOWN, True)
    assert "the pictures were not looked at (carina audit does)" in verdict.untold


def test_a_shortcut_within_one_source_is_seen_there_and_fails_elsewhere() -> None:
    def paint(row: dict[str, object], film: np.ndarray) -> np.ndarray:
        marked = row["class"] == {"north": "TB", "south": "Normal"}.get(str(row["source"]))
        return letters(film, "AP") if marked else film

    world = shortcuts.clean().painted(paint)
    marks = full_audit(world.catalogue, world).baseline("marks")
    assert marks is not None
    assert (marks.within["north"]["TB"].value or 0) > 0.9
    elsewhere = marks.unseen["north"]["TB"].value
    assert elsewhere is not None
    assert elsewhere < 0.2  # there letters meant Normal


def test_a_source_of_one_class_is_asked_for_it_against_films_that_were_kept_back() -> None:
    """East has TB alone, and others have TB: letters tell it there too, where all films of TB have them."""
    world = shortcuts.clean().stating(
        source=lambda row: "east" if is_tb(row) and int(row["image_id"], 16) % 2 else row["source"]
    )
    lettered = world.painted(lambda row, film: letters(film, "AP") if is_tb(row) else film)
    marks = full_audit(lettered.catalogue, lettered).baseline("marks")
    assert marks is not None
    assert set(marks.unseen["east"]) == {"TB"}
    assert (marks.unseen["east"]["TB"].value or 0) > 0.9
    assert marks.unseen["east"]["TB"].positives == 20


def test_the_same_films_give_the_same_audit_in_any_order() -> None:
    world = shortcuts.clean()
    turned = World(world.rows[::-1], world.films[::-1])
    one, other = (quick_audit(each.catalogue) for each in (world, turned))
    assert one.verdict == other.verdict
    for mine, its in zip(one.baselines, other.baselines, strict=True):
        assert mine.accuracy == its.accuracy
        assert [area.value for area in mine.rows.values()] == pytest.approx(
            [area.value for area in its.rows.values()]
        )


def test_an_audit_is_read_back_for_its_own_films_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    catalogue = shortcuts.clean().catalogue
    here = type(catalogue)(tmp_path, {}, catalogue.films, catalogue.classes, catalogue.healthy, "a" * 64)
    audit = quick_audit(here)
    assert stored_verdict(here) is None
    write_audit(tmp_path, audit.to_dict())
    assert stored_verdict(here) == audit.verdict
    other = type(catalogue)(tmp_path, {}, catalogue.films, catalogue.classes, catalogue.healthy, "b" * 64)
    assert stored_verdict(other) is None
    (tmp_path / "audit.json").write_text(json.dumps({"kind": "carina audit"}))
    assert stored_verdict(here) is None


def test_cramers_v_of_a_known_table() -> None:
    # phi² = 1/9, so the plain V is 1/3; Bergsma's correction takes (1/599) off phi² and shrinks the size
    value, why = cramers_v([[200, 100], [100, 200]])
    assert why is None
    assert value == pytest.approx(0.33105, abs=1e-4)
    assert cramers_v([[50, 50], [50, 50]]) == (0.0, None)
    assert cramers_v([[70, 0], [0, 70]])[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("counts", "why"),
    [([[3, 4]], "one value only"), ([[3, 0], [4, 0]], "one class only"), ([], "nothing is stated"),
     ([[0, 0]], "nothing is stated"), ([[1, 0], [0, 1]], "too few films")],
)  # fmt: skip
def test_an_association_that_cannot_be_told_is_none(counts: list[list[int]], why: str) -> None:
    assert cramers_v(counts) == (None, why)


def test_classes_of_one_source_are_named_where_there_are_several() -> None:
    labels = ["TB", "TB", "Normal", "Normal"]
    table = cross_table("source", ["a", "a", "a", "b"], labels, ("TB", "Normal"))
    assert single_source_classes(table) == {"TB": "a"}
    alone = cross_table("source", ["a"] * 4, labels, ("TB", "Normal"))
    assert single_source_classes(alone) == {}


def test_ages_of_a_set_stand_in_for_those_of_its_films() -> None:
    assert age_bands([None, None, 30.0], ["kids", "mixed", "kids"], {"kids": (1, 5), "mixed": (1, 60)}) == [
        "0–5", None, "18–39",
    ]  # fmt: skip
    assert [age_band(age) for age in (0, 5.9, 6, 79, 80, 130)] == [
        "0–5",
        "0–5",
        "6–17",
        "60–79",
        "80+",
        "80+",
    ]
    assert age_band(float("nan")) is None


def test_an_area_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(400) < 200
    scores = rng.normal(size=400) + positive
    each = auc(scores, positive, np.arange(400))
    assert each.value == pytest.approx(0.76, abs=0.04)
    assert each.low is not None
    assert each.high is not None
    assert each.high - each.low == pytest.approx(0.095, abs=0.02)
    clustered = auc(np.repeat(scores, 5), np.repeat(positive, 5), np.repeat(np.arange(400), 5))
    assert clustered.value == pytest.approx(each.value)
    assert clustered.low == pytest.approx(each.low, abs=0.01)  # five copies are no more witnesses than one


def test_a_faultless_area_on_few_films_is_not_certain() -> None:
    positive = np.arange(16) < 8
    few = auc(positive.astype(float), positive, np.arange(16))
    assert few.value == 1.0
    assert few.low is not None
    assert 0.6 < few.low < 0.85
    assert auc(np.zeros(4), np.zeros(4, np.bool_), np.arange(4)).why == "no film to find"


def test_masks_leave_what_they_promise() -> None:
    assert border_mask(64).mean() == pytest.approx(1 - 0.75**2)
    assert outside_ellipse(64).mean() == pytest.approx(1 - np.pi * 0.46**2, abs=0.01)
    films = np.zeros((12, 64, 64), np.uint8)
    films[:, 32, 32] = np.arange(12)  # in the lungs: nobody outside may notice
    assert np.ptp(blacked_out(reduced(films, 64))) == 0


def test_letters_are_counted_and_edges_are_not() -> None:
    plain = np.full((1, 192, 192), 60, np.float32)
    lettered = np.stack([letters(plain[0], "A  B"), frame(plain[0], 200), plain[0]]).astype(np.uint8)
    assert burnt_in_marks(lettered)[:, 0].tolist() == [2, 0, 0]


def test_headers_read_the_compression_of_a_jpeg(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    for quality in (30, 90):
        Image.new("L", (32, 32), 90).save(tmp_path / f"{quality}.jpg", quality=quality)
    world = shortcuts.clean().some(lambda row: int(str(row["image_id"]), 16) < 3)
    names = ["30.jpg", "90.jpg", "gone.jpg"]
    found = headers(
        world.stating(
            format=lambda row: "jpeg", path=lambda row: str(tmp_path / names[int(row["image_id"], 16)])
        ).catalogue.films
    )
    coarse, fine, gone = found.columns[:, found.names.index("JPEG compression")]
    assert coarse > fine > 64
    assert gone == -1


def test_a_verdict_survives_its_plain_form() -> None:
    verdict = quick_audit(IN_HEADERS["a source per class"][0](shortcuts.clean()).catalogue).verdict
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
