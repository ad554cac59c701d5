"""SR and Secondary Capture: valid, in the same study, with the sender's own words, and never "well"."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_charset_files

from carina.errors import DeliveryError
from carina.scoring.triage import FORBIDDEN
from carina.serving.database import Database
from carina.serving.results.device import MODEL_NAME, NOTICE, is_ours, new_uid
from carina.serving.results.heat import heat
from carina.serving.results.picture import draw
from carina.serving.results.result import Result, gather
from carina.serving.results.sc import build_sc
from carina.serving.results.sr import build_sr, referenced
from carina.serving.settings import Settings
from tests import films
from tests.bundles import CELLS, tiny_manifest
from tests.serving.results.ward import NOW, OUTCOMES, Shelf, admit, faults, film, model

SETS = ("chrH31", "chrH32", "chrI2", "chrRuss", "chrX1", "chrX2", "chrGreek", "chrArab", "chrHbrw", "chrGerm",
        "chrFren", "chrJapMulti", "chrKoreanMulti", "chrFrenMulti")  # fmt: skip


def told(database: Database, shelf: Shelf, *outcomes: str, **study: Any) -> Result:
    with database.write() as session:
        row = admit(session, shelf, *outcomes, duty=model(session), **study)
        return gather(session, row.id, shelf, NOW)


def both(result: Result, settings: Settings) -> tuple[bytes, bytes]:
    return build_sr(result, settings, new_uid()), build_sc(result, settings, new_uid())


def read(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


def raw_name(content: bytes) -> bytes:
    """The bytes of PatientName as they stand in the file."""
    return bytes(read(content).get_item("PatientName").value)


def words(ds: Dataset) -> Iterator[str]:
    for element in ds.iterall():
        if element.VR in ("LO", "SH", "ST", "LT", "UT", "UC", "CS", "PN"):
            yield str(element.value)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_is_a_valid_sr_and_sc_of_the_same_study(
    sqlite: Database, settings: Settings, shelf: Shelf, tmp_path: Path, outcome: str
) -> None:
    result = told(sqlite, shelf, outcome, "unread")
    for content in both(result, settings):
        assert faults(content, tmp_path) == []
        ds = read(content)
        assert ds.StudyInstanceUID == result.study_uid
        assert (ds.PatientName, ds.PatientID, ds.PatientBirthDate) == ("Okonkwo^Ada^^Dr", "A-17", "19610203")
        assert (ds.IssuerOfPatientID, ds.AccessionNumber, ds.StudyID) == ("WARD", "ACC-9", "S1")
        assert (ds.StudyDate, ds.StudyTime, ds.StudyDescription) == ("20261123", "213000.5", "CHEST PA")
        assert ds.SeriesDescription == f"Carina triage: {result.label}"
        assert is_ours(ds)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_object_calls_a_patient_well(
    sqlite: Database, settings: Settings, shelf: Shelf, outcome: str
) -> None:
    result = told(sqlite, shelf, outcome, because="looks Normal, healthy and negative; read it")
    for content in both(result, settings):
        said = "\n".join(words(read(content))).casefold()
        assert not [word for word in FORBIDDEN if word in said]


def test_an_sr_says_the_outcome_the_finding_and_the_algorithm_in_codes(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    sr = read(build_sr(told(sqlite, shelf, "now", "usual"), settings, new_uid()))
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == (
        "PARTIAL",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    group = sr.ContentSequence[-2].ContentSequence[0]
    found = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in group.ContentSequence}
    finding = found["Finding"].ConceptCodeSequence[0]
    assert (finding.CodeValue, finding.CodingSchemeDesignator) == ("154283005", "SCT")
    assert found["Triage outcome"].ConceptCodeSequence[0].CodeValue == "flagged-now"
    assert found["Algorithm Name"].TextValue == "chest six"
    number = found["Probability of any disease according to the algorithm"].MeasuredValueSequence[0]
    assert float(number.NumericValue) == 93.0
    assert number.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    observers = [item for item in sr.ContentSequence if item.get("TextValue") == MODEL_NAME]
    assert len(observers) == 1
    assert NOTICE in sr.ContentSequence[-1].TextValue
    assert len(referenced(sr)) == 2


def test_a_film_without_a_score_has_no_number_and_its_reason(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    sr = read(build_sr(told(sqlite, shelf, "unread"), settings, new_uid()))
    assert not [item for item in sr.iterall() if item.keyword == "NumericValue"]
    said = " ".join(words(sr))
    assert "Not analysed: needs a reader" in said
    assert "truncated: the JPEG stream ends early" in said


def test_a_study_that_nothing_decided_is_not_analysed(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    result = told(sqlite, shelf, "usual", outcome=None, because=None, p_disease=None, threshold=None)
    assert result.outcome == "not analysed: needs a reader"
    assert result.code == "not_scored"
    assert "a person must read it" in result.because


@pytest.mark.parametrize("name", SETS)
def test_names_keep_their_characters_and_their_bytes(
    sqlite: Database, settings: Settings, shelf: Shelf, tmp_path: Path, name: str
) -> None:
    sent = dcmread(get_charset_files(f"{name}.dcm")[0], force=True)
    content = film(SpecificCharacterSet=sent.SpecificCharacterSet, PatientName=sent.PatientName)
    with sqlite.write() as session:
        row = admit(session, shelf, "now", files=[content], duty=model(session))
        result = gather(session, row.id, shelf, NOW)
    for made in both(result, settings):
        ds, source = read(made), read(content)
        assert ds.SpecificCharacterSet == source.SpecificCharacterSet
        assert ds.PatientName == source.PatientName
        assert raw_name(made) == raw_name(content)
        assert faults(made, tmp_path) == []


def test_words_of_ours_that_the_sender_cannot_spell_make_it_utf8(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    sent = dcmread(get_charset_files("chrH31.dcm")[0], force=True)
    content = film(SpecificCharacterSet=sent.SpecificCharacterSet, PatientName=sent.PatientName)
    with sqlite.write() as session:
        row = admit(session, shelf, "now", files=[content], duty=model(session), finding="Туберкулёз")
        result = gather(session, row.id, shelf, NOW)
    sr = read(build_sr(result, settings, new_uid()))
    assert sr.SpecificCharacterSet == "ISO_IR 192"
    assert str(sr.PatientName) == str(sent.PatientName)
    assert "Туберкулёз" in set(words(sr))


def test_a_header_that_cannot_be_read_is_replaced_by_the_rows(
    sqlite: Database, settings: Settings, shelf: Shelf, tmp_path: Path
) -> None:
    with sqlite.write() as session:
        row = admit(
            session, shelf, "soon", duty=model(session), patient_name="山田^太郎", birth_date="19700101"
        )
        shelf.films.clear()  # retention
        result = gather(session, row.id, shelf, NOW)
    for content in both(result, settings):
        ds = read(content)
        assert str(ds.PatientName) == "山田^太郎"
        assert (ds.SpecificCharacterSet, ds.PatientBirthDate) == ("ISO_IR 192", "19700101")
        assert faults(content, tmp_path) == []


def test_values_that_no_object_may_carry_become_empty_and_identifiers_stay(
    sqlite: Database, settings: Settings, shelf: Shelf, tmp_path: Path
) -> None:
    content = (
        film(PatientSex="X", StudyTime="213000")
        .replace(b"19610203", b"1961020X")
        .replace(b"213000", b"999999")
    )
    with sqlite.write() as session:
        row = admit(session, shelf, "now", files=[content], duty=model(session))
        result = gather(session, row.id, shelf, NOW)
    for made in both(result, settings):
        ds = read(made)
        assert (ds.PatientSex, ds.PatientBirthDate, ds.StudyTime) == ("", "", "")
        assert (ds.PatientID, ds.AccessionNumber) == ("A-17", "ACC-9")
        assert faults(made, tmp_path) == []


def test_an_sc_has_the_notice_at_both_ends_and_no_colour(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    sc = read(build_sc(told(sqlite, shelf, "now"), settings, new_uid()))
    page = sc.pixel_array
    assert sc.PhotometricInterpretation == "MONOCHROME2"
    assert sc.BurnedInAnnotation == "NO"
    assert page[:60].mean() > 200
    assert page[-60:].mean() > 200
    assert 0.001 < (page[62:-62] > 128).mean() < 0.2  # words on black


def test_the_picture_says_another_thing_for_each_outcome(sqlite: Database, shelf: Shelf) -> None:
    with sqlite.write() as session:
        duty = model(session)
        rows = [admit(session, shelf, each, duty=duty) for each in OUTCOMES]
        pages = [np.asarray(draw(gather(session, row.id, shelf, NOW))) for row in rows]
    assert (
        len({page[120:180].tobytes() for page in pages}) == 4
    )  # "likely clear" has the headline of the usual
    assert len({page[180:300].tobytes() for page in pages}) == 5


@pytest.mark.parametrize("allowed", [True, False])
def test_a_heat_map_is_in_the_capture_only_where_the_site_allows_it(
    sqlite: Database, settings: Settings, shelf: Shelf, tmp_path: Path, allowed: bool
) -> None:
    site = settings.model_copy(update={"heat_maps": allowed})
    cam = np.linspace(0, 2, CELLS * CELLS, dtype=np.float16)
    with sqlite.write() as session:
        duty = model(session, manifest={"preparation": tiny_manifest().preparation})
        row = admit(session, shelf, "now", files=[films.dicom(films.chest())], duty=duty)
        from carina.serving.schema import PredictionRow

        said = session.query(PredictionRow).one()
        said.cam, said.cam_shape = cam.tobytes(), [CELLS, CELLS]
        result = gather(session, row.id, shelf, NOW)
        picture = heat(session, result, shelf)
    assert isinstance(picture, Image.Image)
    content = build_sc(result, site, new_uid(), picture)
    sc = read(content)
    assert sc.PhotometricInterpretation == ("RGB" if allowed else "MONOCHROME2")
    assert sc.BurnedInAnnotation == ("YES" if allowed else "NO")
    assert faults(content, tmp_path) == []


def test_a_study_without_a_dicom_film_cannot_go_to_a_pacs(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    with sqlite.write() as session:
        row = admit(session, shelf, "now", duty=model(session))
        row.series[0].instances[0].media_type = "image/png"
        session.flush()
        result = gather(session, row.id, shelf, NOW)
    with pytest.raises(DeliveryError, match="no DICOM film"):
        build_sr(result, settings, new_uid())


def test_films_of_others_and_phantoms_are_not_ours() -> None:
    ds = Dataset()
    assert not is_ours(ds)
    ds.Manufacturer, ds.ManufacturerModelName = "Carina", "Phantom"
    assert not is_ours(ds)
