"""Rows of the database as the page and the REST interface give them out.

Pure. No class that means that nothing was found is ever named: the probability left over is given as
"none of these".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from carina.serving.schema import Delivery, Feedback, PredictionRow, Study
from carina.serving.web import words
from carina.serving.web.forms import (
    DeliveryFacts,
    FeedbackFacts,
    InstanceFacts,
    PredictionFacts,
    Row,
    StudyFacts,
)
from carina.serving.web.listing import Whole
from carina.serving.worklist import Row as Listed


def row(study: Study | Listed, now: datetime) -> Row:
    """One row of the worklist."""
    return Row(**_row(study, now))


def whole(found: Whole, healthy: dict[int, Sequence[str]], heat_maps: bool, now: datetime) -> StudyFacts:
    """A study with everything of it; ``healthy`` holds, for each model, the classes that mean no finding."""
    return StudyFacts(
        **_row(found.study, now),
        issuer=found.study.issuer,
        instances=[
            InstanceFacts(
                id=each.id,
                uid=each.uid,
                series=found.series[each.series_id].uid if each.series_id in found.series else None,
                modality=found.series[each.series_id].modality if each.series_id in found.series else None,
                view=each.view,
                sop_class=each.sop_class,
                transfer_syntax=each.transfer_syntax,
                media_type=each.media_type,
                name=each.name,
                size=each.size,
                received_at=each.received_at,
                sender=each.sender,
                conflict=each.conflict,
                problem=each.problem,
                prediction=prediction(found.said[each.id], healthy, heat_maps)
                if each.id in found.said
                else None,
            )
            for each in found.instances
        ],
        feedback=[feedback(each) for each in found.feedback],
        priors=[row(each, now) for each in found.priors],
        deliveries=[delivery(each) for each in found.deliveries],
    )


def prediction(said: PredictionRow, healthy: dict[int, Sequence[str]], heat_maps: bool) -> PredictionFacts:
    """What was said of one film."""
    shares: dict[str, float] = dict(said.probabilities or {})
    well = healthy.get(said.model_id or 0, ())
    diseases = {name: share for name, share in shares.items() if name not in well}
    return PredictionFacts(
        at=said.at,
        model=said.model_id,
        outcome=said.outcome,
        urgency=said.urgency,
        finding=said.finding,
        because=said.because,
        code=said.code,
        p_disease=said.p_disease,
        threshold=said.threshold,
        probabilities=dict(sorted(diseases.items(), key=lambda each: -each[1])),
        none_of_these=sum(share for name, share in shares.items() if name in well) if shares else None,
        heat_map=heat_maps and said.cam_shape is not None,
    )


def feedback(said: Feedback) -> FeedbackFacts:
    """What a reader said."""
    return FeedbackFacts(
        at=said.at,
        reader=said.reader,
        kind=said.kind,
        disease=said.disease,
        finding=said.finding,
        comment=said.comment,
    )


def delivery(sent: Delivery) -> DeliveryFacts:
    """One result on its way."""
    names = DeliveryFacts.model_fields
    return DeliveryFacts(**{name: getattr(sent, name) for name in names})


def _row(study: Study | Listed, now: datetime) -> dict[str, Any]:
    until = study.read_at or now
    same = {name: getattr(study, name) for name in _SAME}
    return {
        **same,
        "urgency": words.RANK_WORDS[study.rank],
        "waiting": max(0.0, (until - study.received_at).total_seconds()),
        "overdue": study.read_at is None and study.due_at is not None and study.due_at < now,
        "state": words.state(study),
    }


_SAME = tuple(name for name in Row.model_fields if name not in ("urgency", "waiting", "overdue", "state"))
