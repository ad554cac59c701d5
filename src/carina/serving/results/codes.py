"""The coded words of a result: SNOMED CT and DICOM where they have one, our own scheme otherwise.

Only codes that are in DICOM PS3.16 or in SNOMED CT's freely published browser stand here. A class that a
user made up gets a code made of its name, in the scheme ``99CARINA`` (PS3.16, 8: "99" begins local schemes).
"""

from __future__ import annotations

import hashlib

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from carina.scoring.triage import LIKELY_CLEAR, Outcome, said

SCHEME = "99CARINA"
PERCENT = Code("%", "UCUM", "Percent")
PROCEDURE = Code("399208008", "SCT", "Plain chest X-ray")

_FINDINGS = {
    "bacterial pneumonia": Code("53084003", "SCT", "Bacterial pneumonia"),
    "viral pneumonia": Code("75570004", "SCT", "Viral pneumonia"),
    "pneumonia": Code("233604007", "SCT", "Pneumonia"),
    "covid-19": Code("840539006", "SCT", "Disease caused by SARS-CoV-2"),
    "tb": Code("154283005", "SCT", "Pulmonary tuberculosis"),
    "tuberculosis": Code("154283005", "SCT", "Pulmonary tuberculosis"),
    "pleural effusion": codes.SCT.PleuralEffusion,
    "effusion": codes.SCT.PleuralEffusion,
    "pneumothorax": codes.SCT.Pneumothorax,
}
_OUTCOMES = {
    "flagged: now": ("flagged-now", "Flagged: now"),
    "flagged: soon": ("flagged-soon", "Flagged: soon"),
    str(Outcome.NOT_ANALYSED): ("not-analysed", "Not analysed: needs a reader"),
    str(Outcome.NOT_FLAGGED): ("not-flagged", "Not flagged: read as usual"),
}


def ours(value: str, meaning: str) -> CodedConcept:
    """A concept of our own scheme; ``value`` has at most 16 characters (SH)."""
    return CodedConcept(value=value, scheme_designator=SCHEME, meaning=meaning[:64])


OUTCOME = ("outcome", "Triage outcome")
SUGGESTION = ("suggestion", "Triage suggestion")
P_DISEASE = ("p-disease", "Probability of any disease according to the algorithm")
THRESHOLD = ("threshold", "Probability from which a film is flagged")


def outcome(label: str) -> CodedConcept:
    """One of the three outcomes, flagged ones with their urgency; ``KeyError`` for anything else."""
    return ours(*_OUTCOMES[label])


def suggestion() -> CodedConcept:
    """The suggestion "likely clear"; a person still reads the study."""
    return ours("likely-clear", f"{LIKELY_CLEAR}: a person must still read it".capitalize())


def finding(class_name: str) -> CodedConcept:
    """The concept of a class."""
    known = _FINDINGS.get(class_name.strip().casefold())
    if known is not None:
        return CodedConcept(*known[:3])
    digest = hashlib.sha256(class_name.encode()).hexdigest()
    return ours(f"class-{digest[:10]}", said(class_name))
