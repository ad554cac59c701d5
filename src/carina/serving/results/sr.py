"""A result as DICOM SR: a Comprehensive SR of template TID 1500, beside the films it speaks of.

One measurement group for the study and one for each film (TID 1501): the outcome in coded words, what the
model suspects, probabilities in percent, which algorithm said so (TID 4019), and why. The observer is a
device. It is a preliminary, partial, unverified document: nobody has checked it, and it says so. There is no
way in it to say that nothing is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carina.scoring.triage import LIKELY_CLEAR
from carina.serving.results import device
from carina.serving.results.dicom import evidence, identity, written
from carina.serving.results.header import plain
from carina.serving.results.result import FilmResult, ModelFacts, Result
from carina.serving.settings import Settings

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        SourceImageForMeasurementGroup,
        TextContentItem,
    )
    from pydicom import Dataset

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
_CLEAN_ENOUGH = 0.01  # shares below it are left out of a film's list of classes


def build_sr(result: Result, settings: Settings, uid: str) -> bytes:
    """The SR as a file, explicit little endian. ``uid`` is its SOP Instance UID.

    Raises DeliveryError where the study has no film that could be referred to.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport
    from pydicom.uid import ExplicitVRLittleEndian

    from carina.serving.results import codes

    films = evidence(result)
    report = MeasurementReport(
        observation_context=_observer(settings),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=[_study(result, uid), *(_film(each, result, uid) for each in result.films)],
    )
    notice = f"{device.NOTICE} {device.DUTY}"
    report[0].ContentSequence.append(_text(notice))
    sr = ComprehensiveSR(
        evidence=films,
        content=report,
        sop_instance_uid=uid,
        series_instance_uid=device.uid_from("series", uid),
        series_number=9701,
        instance_number=1,
        is_complete=False,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **identity(result, settings),
    )
    return written(sr, result, _said(result))


def _said(result: Result) -> list[str]:
    """Every text of ours, for the choice of the character set."""
    model = [result.model.name, result.model.shown] if result.model else []
    films = [text for film in result.films for text in (film.because, film.finding or "", *film.shares)]
    return [plain(text) for text in (result.because, result.finding or "", *model, *films)]


def _observer(settings: Settings) -> ObservationContext:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes as standard

    who = DeviceObserverIdentifyingAttributes(
        uid=device.device_uid(settings),
        name=plain(settings.dicom.ae_title),
        manufacturer_name=device.MANUFACTURER,
        model_name=device.MODEL_NAME,
        serial_number=device.VERSION,
    )
    return ObservationContext(observer_device_context=ObserverContext(standard.DCM.Device, who))


def _study(result: Result, uid: str) -> MeasurementsAndQualitativeEvaluations:
    films = [_source(film) for film in result.films]
    return _group(result, result.model, name="study", uid=device.uid_from(uid, "study"), sources=films)


def _film(film: FilmResult, result: Result, uid: str) -> MeasurementsAndQualitativeEvaluations:
    name = f"film {1 + [each.uid for each in result.films].index(film.uid)}"
    return _group(film, result.model, name=name, uid=device.uid_from(uid, film.uid), sources=[_source(film)])


def _group(
    told: Result | FilmResult,
    model: ModelFacts | None,
    *,
    name: str,
    uid: str,
    sources: list[SourceImageForMeasurementGroup],
) -> MeasurementsAndQualitativeEvaluations:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation, TrackingIdentifier

    from carina.serving.results import codes

    label = f"{told.outcome}: {told.urgency}" if told.urgency else told.outcome
    evaluations = [QualitativeEvaluation(codes.ours(*codes.OUTCOME), codes.outcome(label))]
    if isinstance(told, Result) and told.suggestion == LIKELY_CLEAR:
        evaluations.append(QualitativeEvaluation(codes.ours(*codes.SUGGESTION), codes.suggestion()))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=name),
        finding_type=codes.finding(told.finding) if told.finding else None,
        algorithm_id=_algorithm(model) if model is not None else None,
        measurements=_measurements(told) or None,
        qualitative_evaluations=evaluations,
        source_images=sources,
    )
    why = plain(told.because if told.code is None else f"{told.code}: {told.because}")
    group[0].ContentSequence.append(_text(why))
    return group


def _measurements(told: Result | FilmResult) -> list[Measurement]:
    from carina.serving.results import codes

    if told.p_disease is None:
        return []
    found = [_percent(codes.ours(*codes.P_DISEASE), told.p_disease)]
    if told.threshold is not None:
        found.append(_percent(codes.ours(*codes.THRESHOLD), told.threshold))
    if isinstance(told, FilmResult):
        loud = sorted(told.shares.items(), key=lambda item: -item[1])
        found += [_percent(codes.finding(name), share) for name, share in loud if share >= _CLEAN_ENOUGH]
    return found


def _percent(name: object, share: float) -> Measurement:
    from highdicom.sr import Measurement

    from carina.serving.results import codes

    return Measurement(name=name, value=_digits(share), unit=codes.PERCENT)


def _digits(share: float) -> float:
    """Percent with two digits, never rounded into certainty."""
    return round(100 * share, 2) if share in (0.0, 1.0) else min(99.99, max(0.01, round(100 * share, 2)))


def _algorithm(model: ModelFacts) -> AlgorithmIdentification:
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(
        name=plain(model.name, 64),
        version=model.fingerprint[:16],
        manufacturer=device.MANUFACTURER,
        parameters=[f"carina {device.VERSION}", plain(model.shown)],
    )


def _source(film: FilmResult) -> SourceImageForMeasurementGroup:
    from highdicom.sr import SourceImageForMeasurementGroup

    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=film.sop_class, referenced_sop_instance_uid=film.uid
    )


def _text(value: str) -> TextContentItem:
    from highdicom.sr import RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes as standard

    return TextContentItem(
        name=standard.DCM.Comment, value=value, relationship_type=RelationshipTypeValues.CONTAINS
    )


def referenced(sr: Dataset) -> set[str]:
    """The SOP Instance UIDs an SR speaks of."""
    return {
        each.ReferencedSOPInstanceUID
        for study in sr.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    }
