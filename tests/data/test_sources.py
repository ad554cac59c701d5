"""Every reader on a small copy of the layout it is for, and none on a layout that is not its own.

Readers look at names and tables only, so the films of most layouts here are empty files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from carina.data.sources import SOURCES, LeftOut, recognise, source_named
from carina.data.sources.cells import age_in_years, sex_letter, view_word
from carina.data.sources.names import patient_from_name
from carina.errors import SourceError
from carina.records import SourceImage


def put(root: Path, *names: str) -> Path:
    """Empty files below ``root``."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def write(root: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding)
    return root


def dicom(path: Path, **elements: str) -> Path:
    """A DICOM file without pixels: enough for a reader of headers."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = elements.pop(
        "SOPInstanceUID", generate_uid()
    )
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


KERMANY = ("NORMAL/IM-0115-0001.jpeg", "PNEUMONIA/person1_bacteria_2.jpeg", "PNEUMONIA/person23_virus_6.jpeg")
KERMANY_LABELS = {
    "IM-0115-0001.jpeg": ("NORMAL", "IM-0115"),
    "person1_bacteria_2.jpeg": ("bacteria", "person1"),
    "person23_virus_6.jpeg": ("virus", "person23"),
}


def kaggle_chest_xray(root: Path) -> Path:
    put(
        root,
        *(f"chest_xray/chest_xray/train/{name}" for name in KERMANY),
        "chest_xray/__MACOSX/train/._IM-0115.jpeg",
    )
    put(
        root,
        "chest_xray/chest_xray/test/NORMAL/NORMAL2-IM-0666-0001-0001.jpeg",
        "chest_xray/chest_xray/.DS_Store",
    )
    return put(root, "chest_xray/chest_xray/test/PNEUMONIA/person1_virus_7.jpeg")


def mendeley(root: Path) -> Path:
    return put(root, "train/NORMAL/NORMAL-28501-0001.jpeg", "train/PNEUMONIA/BACTERIA-7422-0001.jpeg")


def bare_pair(root: Path) -> Path:
    return put(root, *KERMANY)


def figure1(root: Path) -> Path:
    put(root, "images/COVID-00003a.jpg", "images/COVID-00003b.jpg", "images/COVID-00023.jpg")
    header = (
        "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,artifacts,notes"
    )
    rows = "COVID-00003a,8,M,28,,,39.1,90,AP erect,X-ray,,39°\nCOVID-00003b,8,M,50+,COVID-19,,,,AP,X-ray,,\n"
    rows += "COVID-00023,,F,early 40s,No finding,,,,,X-ray,,\nCOVID-00099,,,,COVID-19,,,,PA,X-ray,,\n"
    return write(root, "metadata.csv", f"{header}\n{rows}", "latin-1")


def actualmed(root: Path) -> Path:
    name = "CR.1.2.840.113564.1722810170.20200313090023421700.1003000225002.png"
    put(root, f"images/{name}", "images/CR.1.2.840.113564.1.2.png")
    header = (
        "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,imagename,notes"
    )
    rows = f"ANON196,,,,,,,,PA,X-ray,{name},Inconclusive\n"
    rows += "ANON24,,,,COVID-19,,,,AP,X-ray,CR.1.2.840.113564.1.2.png,"
    return write(root, "metadata.csv", f"{header}\n{rows}\n")


def covid_chestxray(root: Path) -> Path:
    put(root, "images/a.jpeg", "images/b-L.jpg", "images/ct.jpg", "images/extra.png", "volumes/x.nii.gz")
    header = "patientid,offset,sex,age,finding,survival,view,modality,folder,filename,doi,url,clinical_notes"
    rows = '2,0,M,65,Pneumonia/Viral/COVID-19,Y,PA,X-ray,images,a.jpeg,,,"two\nlines, and more"\n'
    rows += "13,4,M,35,Pneumonia/Bacterial/Klebsiella,,L,X-ray,images,b-L.jpg,,,\n"
    rows += "17,9,M,54,Pneumonia/Viral/COVID-19,Y,Axial,CT,images,ct.jpg,,,\n"
    return write(root, "metadata.csv", header + "\n" + rows)


def radiography(root: Path) -> Path:
    top = "COVID-19_Radiography_Dataset"
    for name in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        put(
            root,
            f"{top}/{name}/images/{name}-1.png",
            f"{top}/{name}/masks/{name}-1.png",
            f"{top}/{name}.metadata.xlsx",
        )
    return root


def radiography_2020(root: Path) -> Path:
    return put(
        root, "COVID-19/COVID-19 (1).png", "NORMAL/NORMAL (1).png", "Viral Pneumonia/Viral Pneumonia (1).png"
    )


def covid_cxnet(root: Path) -> Path:
    put(root, *(f"chest_xray_images/covid19/{name}.jpg" for name in ("001", "364", "481p-", "446p")))
    header = "\ufefffilename,patient_id,sex,age,view,label,pcr_test,survival,location"
    rows = "364.jfif,12,male,67,AP,COVID-19,positive,,\n900.jpg,1,,,,,,,\n"
    rows += "481p-.png,13,female,0.25,PA,COVID-19,negative,,\n"
    return write(root, "metadata.csv", header + "\n" + rows)


def hannover(root: Path) -> Path:
    put(root, "png/fff13f3a.jpg", "png/b343e657.png")
    header = "patient_id,image_id,sex,age,modality,projection"
    return write(root, "data.csv", f"{header}\n024e7871,fff13f3a,f,,CR,pa\n042f06a9,b343e657,m,50,DX,ap\n")


def shenzhen(root: Path) -> Path:
    put(root, "ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png", "ChinaSet_AllFiles/CXR_png/CHNCXR_0327_1.png")
    put(root, "ChinaSet_AllFiles/CXR_png/Thumbs.db")
    write(root, "ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0001_0.txt", "male 45yrs\nnormal\n")
    return write(
        root, "ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0327_1.txt", "Female , 8 months\nright upper PTB\n"
    )


def montgomery(root: Path) -> Path:
    put(
        root, "MontgomerySet/CXR_png/MCUCXR_0001_0.png", "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png"
    )
    text = "Patient's Sex: F\nPatient's Age: 027Y\nnormal\n"
    return write(root, "MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt", text)


def joined(root: Path) -> Path:
    put(root, "Lung Segmentation/CXR_png/CHNCXR_0001_0.png", "Lung Segmentation/CXR_png/MCUCXR_0104_1.png")
    return put(
        root, "Lung Segmentation/masks/CHNCXR_0001_0_mask.png", "Lung Segmentation/masks/MCUCXR_0104_1.png"
    )


NIH_HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


def nih(root: Path) -> Path:
    put(root, "images_001/images/00000013_005.png", "images_002/images/00001280_004.png", "test_list.txt")
    rows = (
        "00000013_005.png,Emphysema|Infiltration,5,13,60,M,AP\n00001280_004.png,No Finding,4,1280,414,F,PA\n"
    )
    return write(root, "Data_Entry_2017.csv", f"{NIH_HEADER},OriginalImage[Width,Height]\n{rows}")


def nih_sample(root: Path) -> Path:
    put(root, "sample/images/00000013_005.png", "sample/sample/images/00000013_005.png")
    rows = "00000013_005.png,Emphysema,5,13,060Y,M,AP\n"
    write(root, "sample/sample_labels.csv", f"{NIH_HEADER}\n{rows}")
    return write(root, "sample_labels.csv", f"{NIH_HEADER}\n{rows}")


def rsna(root: Path) -> Path:
    put(root, "stage_2_train_images/0a.dcm", "stage_2_train_images/0b.dcm", "stage_2_test_images/0c.dcm")
    write(
        root,
        "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target\n0a,1,2,3,4,1\n0a,5,6,7,8,1\n0b,,,,,0\n",
    )
    classes = "patientId,class\n0a,Lung Opacity\n0a,Lung Opacity\n0b,No Lung Opacity / Not Normal\n"
    return write(root, "stage_2_detailed_class_info.csv", classes)


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices\n"
)


def chexpert(root: Path) -> Path:
    top = "CheXpert-v1.0-small"
    names = [f"{top}/train/patient0000{i}/study1/view1_frontal.jpg" for i in (1, 2, 3)]
    lateral = f"{top}/valid/patient64541/study2/view2_lateral.jpg"
    put(root, *names, lateral)
    rows = f"{names[0]},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
    rows += f"{names[1]},Male,0,Frontal,PA,,,1.0,1.0,,-1.0,,,,,,,,\n"
    rows += f"{names[2]},Male,83,Frontal,AP,,,,,,,,-1.0,,,,,,\n"
    write(root, f"{top}/train.csv", CHEXPERT + rows)
    return write(
        root, f"{top}/valid.csv", CHEXPERT + f"{lateral},Male,73,Lateral,,0,0,1.0,0,0,0,0,0,0,0,0,0,0,0\n"
    )


def class_folders(root: Path) -> Path:
    put(root, "archive/train/TB/p0001_1.png", "archive/train/Normal/scan7.png", "archive/test/TB/p0001_2.PNG")
    return put(root, "archive/test/Normal/images/patient12/study1/a.jpg", "archive/test/Normal/.DS_Store")


def one_class(root: Path) -> Path:
    return put(root, "Covid-19/ryct.2020200034.fig5-day7.jpg", "Covid-19/1-s2.0-S01-fx1_lrg.jpg")


def three_classes_with_kermany_names(root: Path) -> Path:
    return put(root, *KERMANY, "COVID19/COVID19(1).jpg")


def csv_of_paths(root: Path) -> Path:
    put(root, "films/a/1.png", "films/b/1.png", "films/b/2.png")
    text = "Image_Path;Class;Patient_ID;View;Age;Sex\nfilms/a/1.png;TB;7;PA;061Y;F\n"
    text += "films/b/1.png;Normal;8;LL;40;male\n"
    return write(root, "labels.csv", text + "films/c/9.png;Normal;9;PA;33;M\n")


def dicom_by_study(root: Path) -> Path:
    for number in (1, 2):
        dicom(root / f"st{number}" / "IM1", StudyInstanceUID=f"1.2.3.{number}", PatientID=f"P{number}")
    return write(root, "labels.csv", "StudyInstanceUID,label\n1.2.3.1,TB\n1.2.3.7,Normal\n")


def dicom_by_path(root: Path) -> Path:
    dicom(root / "st1" / "a.dcm", PatientID="P1")
    dicom(root / "st2" / "b.dcm", PatientID="P2")
    return write(root, "labels.csv", "path,label\nst1/a.dcm,TB\nst2/b.dcm,Normal\n")


def dicom_in_class_folders(root: Path) -> Path:
    dicom(root / "TB" / "1.2.3.4")
    dicom(root / "Normal" / "IM2.dcm")
    return root


@dataclass(frozen=True)
class Layout:
    """How to lay a set out, which reader it is for, and what that reader should find in it."""

    build: Callable[[Path], Path]
    reader: str
    films: dict[str, tuple[str, str | None]]  # file name → label, patient
    left_out: tuple[str, ...] = ()  # codes


LAYOUTS = [
    Layout(
        kaggle_chest_xray,
        "chest_xray",
        {
            **KERMANY_LABELS,
            "NORMAL2-IM-0666-0001-0001.jpeg": ("NORMAL", "NORMAL2-IM-0666"),
            "person1_virus_7.jpeg": ("virus", "person1"),
        },
    ),
    Layout(
        mendeley,
        "chest_xray",
        {"NORMAL-28501-0001.jpeg": ("NORMAL", "28501"), "BACTERIA-7422-0001.jpeg": ("bacteria", "7422")},
    ),
    Layout(bare_pair, "chest_xray", KERMANY_LABELS),
    Layout(
        figure1,
        "figure1",
        {
            "COVID-00003a.jpg": ("unstated", "COVID-00003"),
            "COVID-00003b.jpg": ("COVID-19", "COVID-00003"),
            "COVID-00023.jpg": ("No finding", "COVID-00023"),
        },
        ("no_film",),
    ),
    Layout(
        actualmed,
        "actualmed",
        {
            "CR.1.2.840.113564.1722810170.20200313090023421700.1003000225002.png": (
                "inconclusive",
                "ANON196",
            ),
            "CR.1.2.840.113564.1.2.png": ("COVID-19", "ANON24"),
        },
    ),
    Layout(
        covid_chestxray,
        "covid_chestxray",
        {"a.jpeg": ("Pneumonia/Viral/COVID-19", "2"), "b-L.jpg": ("Pneumonia/Bacterial/Klebsiella", "13")},
        ("no_row", "not_a_radiograph"),
    ),
    Layout(
        radiography,
        "radiography",
        {
            "COVID-1.png": ("COVID", None),
            "Lung_Opacity-1.png": ("Lung Opacity", None),
            "Normal-1.png": ("Normal", None),
            "Viral Pneumonia-1.png": ("Viral Pneumonia", None),
        },
    ),
    Layout(
        radiography_2020,
        "radiography",
        {
            "COVID-19 (1).png": ("COVID", None),
            "NORMAL (1).png": ("Normal", None),
            "Viral Pneumonia (1).png": ("Viral Pneumonia", None),
        },
    ),
    Layout(
        covid_cxnet,
        "covid_cxnet",
        {
            "001.jpg": ("COVID-19", None),
            "364.jpg": ("COVID-19", "12"),
            "446p.jpg": ("COVID-19", None),
            "481p-.jpg": ("COVID-19, nothing abnormal", "13"),
        },
        ("no_film",),
    ),
    Layout(
        hannover,
        "hannover",
        {"fff13f3a.jpg": ("COVID-19", "024e7871"), "b343e657.png": ("COVID-19", "042f06a9")},
    ),
    Layout(
        shenzhen,
        "shenzhen",
        {"CHNCXR_0001_0.png": ("0", "CHNCXR_0001"), "CHNCXR_0327_1.png": ("1", "CHNCXR_0327")},
    ),
    Layout(montgomery, "montgomery", {"MCUCXR_0001_0.png": ("0", "MCUCXR_0001")}),
    Layout(
        joined,
        "shenzhen_montgomery",
        {"CHNCXR_0001_0.png": ("0", "CHNCXR_0001"), "MCUCXR_0104_1.png": ("1", "MCUCXR_0104")},
    ),
    Layout(
        nih,
        "nih",
        {
            "00000013_005.png": ("Emphysema|Infiltration", "00000013"),
            "00001280_004.png": ("No Finding", "00001280"),
        },
    ),
    Layout(nih_sample, "nih", {"00000013_005.png": ("Emphysema", "00000013")}, ("second_copy",)),
    Layout(
        rsna,
        "rsna",
        {"0a.dcm": ("Lung Opacity", "0a"), "0b.dcm": ("No Lung Opacity / Not Normal", "0b")},
        ("no_row",),
    ),
    Layout(
        class_folders,
        "folder",
        {
            "p0001_1.png": ("TB", "p0001"),
            "p0001_2.PNG": ("TB", "p0001"),
            "scan7.png": ("Normal", None),
            "a.jpg": ("Normal", "patient12"),
        },
    ),
    Layout(
        one_class,
        "folder",
        {
            "ryct.2020200034.fig5-day7.jpg": ("Covid-19", None),
            "1-s2.0-S01-fx1_lrg.jpg": ("Covid-19", None),
        },
    ),
    Layout(
        three_classes_with_kermany_names,
        "folder",
        {
            "IM-0115-0001.jpeg": ("NORMAL", "IM-0115"),
            "person1_bacteria_2.jpeg": ("PNEUMONIA", "person1"),
            "person23_virus_6.jpeg": ("PNEUMONIA", "person23"),
            "COVID19(1).jpg": ("COVID19", None),
        },
    ),
    Layout(dicom_by_study, "dicom", {"IM1": ("TB", None)}, ("no_film", "no_row")),
    Layout(dicom_by_path, "dicom", {"a.dcm": ("TB", None), "b.dcm": ("Normal", None)}),
    Layout(dicom_in_class_folders, "dicom", {"1.2.3.4": ("TB", None), "IM2.dcm": ("Normal", None)}),
]


def read(root: Path, reader: str) -> tuple[list[SourceImage], list[LeftOut]]:
    items = list(source_named(reader).read(root))
    return [i for i in items if isinstance(i, SourceImage)], [i for i in items if isinstance(i, LeftOut)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.build.__name__)
def test_each_layout_is_recognised_and_read_by_its_own_reader(layout: Layout, tmp_path: Path) -> None:
    root = layout.build(tmp_path)
    assert recognise(root).name == layout.reader
    films, left_out = read(root, layout.reader)
    assert {film.path.name: (film.label, film.patient) for film in films} == layout.films
    assert len(films) == len(layout.films)
    assert tuple(sorted(item.code for item in left_out)) == layout.left_out
    assert all(item.reason for item in left_out)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.build.__name__)
def test_no_reader_of_another_set_claims_a_layout(layout: Layout, tmp_path: Path) -> None:
    root = layout.build(tmp_path)
    claims = {source.name for source in SOURCES if not source.generic and source.recognise(root)}
    expected = {"shenzhen", "montgomery", layout.reader} if layout.build is joined else {layout.reader}
    assert claims <= expected


@pytest.mark.parametrize(
    "layout",
    [x for x in LAYOUTS if x.reader not in {"folder", "table", "dicom"}],
    ids=lambda x: x.build.__name__,
)
def test_a_set_is_recognised_from_one_folder_above(layout: Layout, tmp_path: Path) -> None:
    layout.build(tmp_path / "unpacked")
    assert recognise(tmp_path).name == layout.reader
    films, _ = read(tmp_path, layout.reader)
    assert {film.path.name: (film.label, film.patient) for film in films} == layout.films


@pytest.mark.parametrize(
    ("build", "inside", "reader"),
    [
        (kaggle_chest_xray, "chest_xray/chest_xray/train", "chest_xray"),
        (figure1, "images", "figure1"),
        (hannover, "png", "hannover"),
        (nih, "images_001", "nih"),
        (shenzhen, "ChinaSet_AllFiles/CXR_png", "shenzhen"),
    ],
)
def test_a_set_is_recognised_from_one_folder_below(
    build: Callable[[Path], Path], inside: str, reader: str, tmp_path: Path
) -> None:
    assert recognise(build(tmp_path) / inside).name == reader


def test_views_ages_and_sexes_come_from_the_tables(tmp_path: Path) -> None:
    films, _ = read(figure1(tmp_path / "figure1"), "figure1")
    assert [(film.view, film.age, film.sex) for film in films] == [
        ("AP ERECT", 28, "M"),
        ("AP", 50, "M"),
        (None, 40, "F"),
    ]
    films, _ = read(nih(tmp_path / "nih"), "nih")
    assert [(film.view, film.age) for film in films] == [("AP", 60), ("PA", None)]  # nobody is 414
    films, _ = read(hannover(tmp_path / "hannover"), "hannover")
    assert [(film.view, film.sex) for film in films] == [("PA", "F"), ("AP", "M")]
    films, _ = read(covid_chestxray(tmp_path / "cohen"), "covid_chestxray")
    assert [film.view for film in films] == ["PA", "LATERAL"]
    films, _ = read(shenzhen(tmp_path / "shenzhen"), "shenzhen")
    assert [(f.sex, f.age, f.findings) for f in films] == [
        ("M", 45, ("normal",)),
        ("F", pytest.approx(8 / 12, abs=1e-3), ("right upper PTB",)),
    ]
    films, _ = read(montgomery(tmp_path / "montgomery"), "montgomery")
    assert (films[0].sex, films[0].age, films[0].findings) == ("F", 27, ("normal",))


def test_the_joined_folder_says_of_each_film_which_set_it_is_from(tmp_path: Path) -> None:
    films, _ = read(joined(tmp_path), "shenzhen_montgomery")
    assert {film.path.name[:3]: film.source for film in films} == {"CHN": "shenzhen", "MCU": "montgomery"}


def test_a_film_with_many_rsna_boxes_is_read_once(tmp_path: Path) -> None:
    films, _ = read(rsna(tmp_path), "rsna")
    assert sorted(film.path.name for film in films) == ["0a.dcm", "0b.dcm"]


def test_rsna_without_the_class_table_does_not_call_a_film_normal(tmp_path: Path) -> None:
    rsna(tmp_path)
    (tmp_path / "stage_2_detailed_class_info.csv").unlink()
    films, _ = read(tmp_path, "rsna")
    assert {film.path.stem: film.label for film in films} == {"0a": "Lung Opacity", "0b": "Target 0"}


def test_chexpert_counts_only_what_is_stated_and_marks_what_is_uncertain(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    assert recognise(root).name == recognise(root / "CheXpert-v1.0-small").name == "chexpert"
    films, left_out = read(root, "chexpert")
    assert not left_out
    assert [(film.label, film.findings, film.view, film.age) for film in films] == [
        ("No Finding", ("Support Devices",), "AP", 68),
        ("Cardiomegaly|Lung Opacity", ("Cardiomegaly", "Lung Opacity", "Edema?"), "PA", None),
        ("uncertain", ("Pneumonia?",), "AP", 83),
        ("Cardiomegaly", ("Cardiomegaly",), "LATERAL", 73),
    ]
    assert films[3].patient == "patient64541"
    assert films[3].study == "patient64541/study2"


def test_a_covid_cxnet_film_of_a_child_says_so(tmp_path: Path) -> None:
    films, _ = read(covid_cxnet(tmp_path), "covid_cxnet")
    assert {film.path.stem: film.findings for film in films}["481p-"] == (
        "COVID-19",
        "child",
        "nothing abnormal",
        "PCR negative",
    )


def test_a_table_is_read_by_its_column_names(tmp_path: Path) -> None:
    root = csv_of_paths(tmp_path)
    assert recognise(root).name == recognise(root / "labels.csv").name == "table"
    films, left_out = read(root, "table")
    assert [(f.path.parent.name, f.label, f.patient, f.view, f.age, f.sex) for f in films] == [
        ("a", "TB", "7", "PA", 61, "F"),
        ("b", "Normal", "8", "LL", 40, "M"),
    ]
    assert [(item.path.name, item.code) for item in left_out] == [("9.png", "no_film"), ("2.png", "no_row")]


def test_a_row_never_gets_a_film_of_the_same_name_from_another_folder(tmp_path: Path) -> None:
    put(tmp_path, "p2/IM0001.png", "here/a.png", "x/b.png", "y/b.png")
    text = (
        "path,label\np1/IM0001.png,TB\np2/IM0001.png,Normal\n/home/somebody/films/here/a.png,TB\nb.png,TB\n"
    )
    write(tmp_path, "labels.csv", text)
    films, left_out = read(tmp_path, "table")
    assert [(film.path.parent.name, film.label) for film in films] == [("p2", "Normal"), ("here", "TB")]
    assert sorted(item.code for item in left_out) == ["no_film", "no_film", "no_row", "no_row"]


def test_a_film_whose_rows_disagree_is_left_out_and_one_with_a_row_for_each_box_is_read_once(
    tmp_path: Path,
) -> None:
    put(tmp_path, "1.png", "2.png")
    write(tmp_path, "labels.csv", "path,label,x\n1.png,TB,5\n1.png,TB,9\n2.png,TB,1\n2.png,Normal,\n")
    films, left_out = read(tmp_path, "table")
    assert [(film.path.name, film.label) for film in films] == [("1.png", "TB")]
    assert [(item.path.name, item.code) for item in left_out] == [("2.png", "contradiction")]
    assert "Normal, TB" in left_out[0].reason


def test_a_parquet_table_is_read_like_a_csv(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    put(tmp_path, "1.png")
    write_table(pa.table({"path": ["1.png"], "label": ["TB"], "patient": [7]}), tmp_path / "films.parquet")
    films, _ = read(tmp_path, "table")
    assert [(film.label, film.patient) for film in films] == [("TB", "7")]


def test_train_and_test_tables_side_by_side_are_read_as_one(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    write(tmp_path, "train.csv", "filename,label\n1.png,TB\n")
    write(tmp_path, "test.csv", "filename,label\n2.png,Normal\n")
    films, left_out = read(tmp_path, "table")
    assert [film.label for film in films] == ["Normal", "TB"]
    assert not left_out


def test_two_tables_that_both_fit_are_an_error_that_names_them(tmp_path: Path) -> None:
    write(put(tmp_path, "1.png"), "one.csv", "path,label\n1.png,TB\n")
    write(tmp_path, "two.csv", "path,label\n1.png,Normal\n")
    with pytest.raises(SourceError, match=r"one\.csv, two\.csv"):
        recognise(tmp_path)


@pytest.mark.parametrize("column", ["SOPInstanceUID", "AccessionNumber", "PatientID"])
def test_a_dicom_tree_is_labelled_by_what_its_headers_say(column: str, tmp_path: Path) -> None:
    value = {"SOPInstanceUID": "1.2.3.9", "AccessionNumber": "A-17", "PatientID": "P7"}[column]
    dicom(tmp_path / "x" / "IM1", **{column: value})
    write(tmp_path, "labels.csv", f"{column},label\n{value},TB\n")
    films, left_out = read(tmp_path, recognise(tmp_path).name)
    assert [(film.path.name, film.label) for film in films] == [("IM1", "TB")]
    assert not left_out


@pytest.mark.parametrize("name", ["nowhere", "notes.pdf", "empty"])
def test_what_holds_no_films_is_refused_with_the_cure(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(SourceError, match=f"{name}: .*(check the path|folder)"):
        recognise(tmp_path / name)


def test_an_unknown_reader_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(SourceError, match="chest_xray, figure1"):
        source_named("nihh")


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *(
            ("060Y", 60),
            ("45yrs", 45),
            ("9M", 0.75),
            ("26 W", 0.4983),
            ("50+", 50),
            ("early 40s", 40),
            ("1.5", 1.5),
        ),
        *(("-1", None), (" -9", None), ("01.02.1961", None), ("1961-02-01", None), ("50-60", 50)),
        *(("414", None), ("", None), ("unknown", None), ("0", 0), ("10 days", 0.0274), ("61,5", 61.5)),
    ],
)
def test_ages_are_read_as_the_sets_write_them(text: str, years: float | None) -> None:
    assert age_in_years(text) == years


@pytest.mark.parametrize(
    ("text", "letter"), [("M", "M"), ("female", "F"), ("Male", "M"), ("w", "F"), ("O", None), ("", None)]
)
def test_sexes(text: str, letter: str | None) -> None:
    assert sex_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "view"),
    [("pa", "PA"), ("L", "LATERAL"), ("Lateral", "LATERAL"), ("AP  erect", "AP ERECT"), ("nan", None)],
)
def test_views(text: str, view: str | None) -> None:
    assert view_word(text) == view


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        *(
            ("p0001_2", "p0001"),
            ("patient123", "patient123"),
            ("Case-7 b", "Case-7"),
            ("sub-01_ses-1", "sub-01"),
        ),
        *(
            ("person12_bacteria_3", "person12"),
            ("NORMAL2-IM-0007-0001", "NORMAL2-IM-0007"),
            ("00000013_005", "00000013"),
        ),
        *(
            ("pneumonia12", None),
            ("COVID-1", None),
            ("COVID-00003b", "COVID-00003"),
            ("p12abc", None),
            ("scan", None),
        ),
    ],
)
def test_the_patient_in_a_name(stem: str, patient: str | None) -> None:
    assert patient_from_name(stem) == patient


def test_every_source_says_its_title_licence_and_citation() -> None:
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert all(source.title and source.licence and source.citation for source in SOURCES)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    put(tmp_path, "TB/1.png", "Normal/2.png")
    (tmp_path / "TB" / "again").symlink_to(tmp_path, target_is_directory=True)
    films, _ = read(tmp_path, "folder")
    assert sorted(film.path.name for film in films) == ["1.png", "2.png"]
