"""The label map: the default's promises, a user's file over it, and errors a person can act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from carina.data.labels import LabelMap
from carina.errors import LabelError
from carina.records import SourceImage

REPORT = Path(__file__).parents[2] / "recipes" / "labels-report.toml"


def film(label: str, *findings: str, source: str = "mine") -> SourceImage:
    return SourceImage(Path("film.png"), source, label, findings)


def own(tmp_path: Path, text: str) -> LabelMap:
    path = tmp_path / "labels.toml"
    path.write_text(text, "utf-8")
    return LabelMap.load(path)


@pytest.mark.parametrize(
    ("reader", "label", "class_name"),
    [
        ("chest_xray", "NORMAL", "Normal"),
        ("chest_xray", "bacteria", "Bacterial Pneumonia"),
        ("chest_xray", "virus", "Viral Pneumonia"),
        ("chest_xray", "PNEUMONIA", None),
        ("figure1", "COVID-19", "COVID-19"),
        ("figure1", "unstated", None),
        ("actualmed", "No finding", "Normal"),
        ("actualmed", "inconclusive", None),
        ("covid_chestxray", "Pneumonia/Viral/COVID-19", "COVID-19"),
        ("covid_chestxray", "Pneumonia/Viral/SARS", "Viral Pneumonia"),
        ("covid_chestxray", "Pneumonia/Bacterial/Streptococcus", "Bacterial Pneumonia"),
        ("covid_chestxray", "Pneumonia/Bacterial", "Bacterial Pneumonia"),
        ("covid_chestxray", "Pneumonia/Fungal/Pneumocystis", "Other Findings"),
        ("covid_chestxray", "Tuberculosis", "TB"),
        ("covid_chestxray", "No Finding", "Normal"),
        ("covid_chestxray", "todo", None),
        ("radiography", "Lung Opacity", "Other Findings"),
        ("covid_cxnet", "COVID-19, nothing abnormal", "COVID-19"),
        ("hannover", "COVID-19", "COVID-19"),
        ("shenzhen", "0", "Normal"),
        ("montgomery", "1", "TB"),
        ("nih", "No Finding", "Normal"),
        ("nih", "Effusion|Mass", "Other Findings"),
        ("rsna", "Normal", "Normal"),
        ("rsna", "No Lung Opacity / Not Normal", "Other Findings"),
        ("rsna", "Target 0", None),
        ("chexpert", "No Finding", "Normal"),
        ("chexpert", "Edema|Pleural Effusion", "Other Findings"),
        ("chexpert", "uncertain", None),
        ("folder", "covid19", "COVID-19"),
        ("folder", "Covid-19", "COVID-19"),
        ("folder", "TUBERCULOSIS", "TB"),
        ("table", "no_finding", "Normal"),
        ("dicom", "Pneumonia-Bacterial", "Bacterial Pneumonia"),
        ("folder", "Pneumothorax", "Pneumothorax"),
        ("table", "unstated", None),
    ],
)
def test_the_default_map(reader: str, label: str, class_name: str | None) -> None:
    assert LabelMap.load().class_of(reader, film(label)) == class_name


@pytest.mark.parametrize("label", ["COVID-19", "covid_19", "Covid 19", "COVID--19"])
def test_case_and_separators_of_a_label_do_not_matter(label: str) -> None:
    assert LabelMap.load().class_of("hannover", film(label)) == "COVID-19"


def test_the_users_file_is_laid_over_the_default_key_by_key(tmp_path: Path) -> None:
    labels = own(tmp_path, '[nih]\n"Effusion" = "Effusion"\n"No Finding" = ""\n')
    assert labels.class_of("nih", film("Effusion")) == "Effusion"
    assert labels.class_of("nih", film("No Finding")) is None
    assert labels.class_of("nih", film("Mass")) == "Other Findings"  # the default's "*" is still there


def test_single_findings_are_asked_first_in_the_order_written(tmp_path: Path) -> None:
    labels = own(tmp_path, '[nih.findings]\nPneumothorax = "Pneumothorax"\nEffusion = "Effusion"\n')
    assert labels.class_of("nih", film("Effusion|Pneumothorax", "Effusion", "Pneumothorax")) == "Pneumothorax"
    assert labels.class_of("nih", film("Effusion|Mass", "Effusion", "Mass")) == "Effusion"
    assert labels.class_of("nih", film("Mass", "Mass")) == "Other Findings"


def test_a_section_may_name_the_users_own_folder(tmp_path: Path) -> None:
    labels = own(tmp_path, '[clinic]\nA15 = "TB"\n"*" = ""\n')
    assert labels.class_of("folder", film("a15", source="clinic")) == "TB"
    assert labels.class_of("folder", film("A09", source="clinic")) is None
    assert labels.class_of("folder", film("A09", source="elsewhere")) == "A09"


def test_films_that_show_nothing_abnormal_can_be_left_out(tmp_path: Path) -> None:
    labels = own(tmp_path, '[covid_cxnet]\n"COVID-19, nothing abnormal" = ""\n')
    assert labels.class_of("covid_cxnet", film("COVID-19, nothing abnormal")) is None
    assert labels.class_of("covid_cxnet", film("COVID-19")) == "COVID-19"


def test_aliases_can_be_added(tmp_path: Path) -> None:
    labels = own(tmp_path, '[aliases]\nTB = ["A15"]\n')
    assert labels.class_of("folder", film("a15")) == "TB"
    assert labels.class_of("folder", film("tuberculosis")) == "TB"


def test_the_reports_own_mapping_puts_the_whole_nih_sample_into_other_findings() -> None:
    labels = LabelMap.load(REPORT)
    assert labels.class_of("nih", film("No Finding")) == "Other Findings"
    assert labels.class_of("figure1", film("unstated")) == "COVID-19"
    assert labels.class_of("shenzhen", film("0")) == "Normal"


def test_a_label_of_a_public_set_that_nothing_covers_is_an_error_with_the_line_to_add() -> None:
    with pytest.raises(
        LabelError, match=r"\[shenzhen\] has no class for the label '2' of film\.png; add '\"2\" = "
    ):
        LabelMap.load().class_of("shenzhen", film("2"))


def test_the_users_healthy_classes_are_kept(tmp_path: Path) -> None:
    assert own(tmp_path, '[classes]\nhealthy = ["Unremarkable"]\n').healthy == ("Unremarkable",)
    assert LabelMap.load().healthy is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[nih\n", "not valid TOML"),
        ('x = "TB"\n', "'x' stands outside any section"),
        ("[nih]\nEffusion = 3\n", r"\[nih\] 'Effusion' is 3; give a class's name"),
        ('[nih.finding]\nEffusion = "x"\n', r"\[nih\.finding\] is unknown"),
        ("[nih.findings]\nEffusion = true\n", r"\[nih\.findings\] 'Effusion' is True"),
        ('[classes]\nhealthy = "Normal"\n', "healthy must be a list"),
        ("[classes]\nsick = []\n", "unknown key sick"),
        ('[aliases]\nTB = "A15"\n', r"\[aliases\] 'TB' must be a list"),
    ],
)
def test_a_wrong_map_is_refused_by_file_key_and_cure(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=rf"labels\.toml: .*{says}"):
        own(tmp_path, text)


def test_a_map_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot be read as a label map"):
        LabelMap.load(tmp_path / "none.toml")


def test_a_section_that_belongs_to_no_folder_is_an_error_that_names_the_folders(tmp_path: Path) -> None:
    labels = own(tmp_path, '[hospitl]\nTB = "TB"\n[nih]\n"*" = "x"\n')
    with pytest.raises(
        LabelError, match=r"\[hospitl\] belongs to no source here; the sources are .*hospital"
    ):
        labels.check_names(["hospital"])
    own(tmp_path, '[hospital]\nTB = "TB"\n').check_names(["hospital"])
