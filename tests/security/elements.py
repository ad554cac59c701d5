"""A film with a word of a stranger's in every text element that DICOM knows."""

from __future__ import annotations

import io
from collections.abc import Sequence

import films
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
_LEFT = (0x00080005, 0x00080060)  # of what the film is read with; the others may say anything


def hostile_film(words: Sequence[str], number: int) -> tuple[bytes, int]:
    """A chest film with one of ``words``, in turn, in each text element; and how many elements that are."""
    import pydicom

    ds = pydicom.dcmread(io.BytesIO(films.dicom(films.chest(seed=number))))
    ds.StudyInstanceUID = f"1.2.826.0.1.3680043.10.999.9.{number}"
    ds.SeriesInstanceUID, ds.SOPInstanceUID = f"{ds.StudyInstanceUID}.1", f"{ds.StudyInstanceUID}.1.1"
    ds.SpecificCharacterSet = "ISO_IR 192"
    count = 0
    for tag, (vr, _, _, retired, _) in DicomDictionary.items():
        group = tag >> 16
        taken = retired or group in (0, 2, 0x28) or tag in _LEFT or (group > 8 and tag in ds)
        if vr not in TEXT or taken:
            continue
        word = words[count % len(words)]
        if vr in ("AE", "CS", "SH", "LO", "PN"):
            word = word[:64].replace("\\", "/")
        if vr not in ("LO", "LT", "PN", "SH", "ST", "UC", "UT"):  # the others are ASCII
            word = word.encode("ascii", "replace").decode("ascii")
        said = "LO" if vr in ("DS", "IS") else vr  # pydicom would not write words for numbers
        ds[tag] = DataElement(tag, said, word, validation_mode=config.IGNORE)
        count += 1
    for tag in (
        0x00100010,
        0x00100020,
        0x00081030,
        0x0008103E,
        0x00080050,
        0x00080090,
        0x00080080,
        0x00200010,
    ):
        vr = DicomDictionary[tag][0]
        ds[tag] = DataElement(tag, vr, words[number % len(words)][:64], validation_mode=config.IGNORE)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    stream = io.BytesIO()
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        Dataset.save_as(ds, stream, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = before
    return stream.getvalue(), count
