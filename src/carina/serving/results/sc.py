"""A result as a Secondary Capture: the summary page that every PACS can show.

It has the notice burnt in, no identity burnt in, and a heat map only where the site allows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carina.serving.results import device
from carina.serving.results.dicom import evidence, identity, written
from carina.serving.results.picture import draw
from carina.serving.results.result import Result
from carina.serving.settings import Settings

if TYPE_CHECKING:
    from PIL import Image
    from pydicom import Dataset

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def build_sc(result: Result, settings: Settings, uid: str, heat: Image.Image | None = None) -> bytes:
    """The Secondary Capture as a file, explicit little endian. ``uid`` is its SOP Instance UID.

    ``heat`` is drawn only where ``settings.heat_maps`` allows it. Raises DeliveryError where the study has no
    film that a PACS could know.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    films = evidence(result)
    page = np.asarray(draw(result, heat if settings.heat_maps else None))  # (H, W) or (H, W, 3) uint8
    header = films[0]
    image = SCImage(
        pixel_array=page,
        photometric_interpretation="RGB" if page.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced below: a page of words has none
        study_instance_uid=result.study_uid,
        series_instance_uid=device.uid_from("series", uid),
        series_number=9702,
        sop_instance_uid=uid,
        instance_number=1,
        patient_id=header.PatientID,
        patient_name=header.PatientName,  # nobody's yet
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        accession_number=header.AccessionNumber,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **identity(result, settings),
    )
    _complete(image, films, heat=page.ndim == 3)
    return written(image, result, [])


def _complete(image: Dataset, films: list[Dataset], *, heat: bool) -> None:
    from pydicom import Dataset

    image.PatientOrientation = None
    image.Laterality = ""  # Type 2C: a chest is no paired part, and dciodvfy asks for it all the same
    image.ConversionType = "WSD"
    image.SecondaryCaptureDeviceManufacturer = device.MANUFACTURER
    image.SecondaryCaptureDeviceManufacturerModelName = device.MODEL_NAME
    image.SecondaryCaptureDeviceSoftwareVersions = device.VERSION
    image.BurnedInAnnotation = "YES" if heat else "NO"  # a film may have letters in it; our words name nobody
    image.DerivationDescription = f"Summary by a triage model. {device.NOTICE}"
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime
    sources = []
    for film in films:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = film.SOPClassUID, film.SOPInstanceUID
        sources.append(item)
    image.SourceImageSequence = sources
