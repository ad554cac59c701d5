"""A phantom as a DICOM file: a digital chest film with the header a department would send.

Attributes and their types are those of the DX Image IOD (DICOM PS3.3, A.26). Needs pydicom, which is
imported when the first file is written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from carina.images.phantom.film import Phantom


def write_dicom(path: Path, made: Phantom, patient: str, film: int, *, inverted: bool) -> None:
    """Write ``made`` to ``path``, explicit little endian; ``inverted`` stores it as MONOCHROME1.

    All identifiers follow from the phantom and ``patient``: the same film gives the same bytes.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    def uid(*what: object) -> str:
        return str(generate_uid(entropy_srcs=["carina phantom", *(str(w) for w in (made.patient, *what))]))

    top = (1 << made.look.bits) - 1
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = uid("instance", film)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = f"2026{1 + made.patient % 12:02d}{film:02d}"
    ds.StudyTime = ds.AcquisitionTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer = "Carina"
    ds.ManufacturerModelName = "Phantom"
    ds.ReferringPhysicianName = ""
    ds.PatientName = f"Phantom^{patient}"
    ds.PatientID = patient
    ds.PatientBirthDate = ""
    ds.PatientSex = made.sex
    ds.PatientAge = f"{made.age:03d}Y"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = made.view
    ds.StudyInstanceUID = uid("study", film)
    ds.SeriesInstanceUID = uid("series", film)
    ds.StudyID = str(film)
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.PatientOrientation = ["L", "F"]
    ds.ImageLaterality = "U"
    ds.BurnedInAnnotation = "YES" if made.look.letters else "NO"
    ds.LossyImageCompression = "00"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.Rows, ds.Columns = made.pixels.shape
    ds.BitsAllocated = 8 if top < 256 else 16
    ds.BitsStored = made.look.bits
    ds.HighBit = made.look.bits - 1
    ds.PixelRepresentation = 0
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if inverted else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.WindowCenter, ds.WindowWidth = str((top + 1) // 2), str(top + 1)
    stored = np.subtract(top, made.pixels, dtype=made.pixels.dtype) if inverted else made.pixels
    raw = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
