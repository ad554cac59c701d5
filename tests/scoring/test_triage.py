from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from carina.errors import NotAnImage
from carina.records import Prediction, Refusal
from carina.scoring.triage import (
    FORBIDDEN,
    LIKELY_CLEAR,
    Decision,
    Outcome,
    Policy,
    Rules,
    Urgency,
    decide,
    place,
    said,
)

RULES = Rules({"TB": Urgency.NOW, "Pneumonia": Urgency.SOON}, Urgency.SOON, counts_from=0.1)
SHOWN = Policy(RULES, threshold=0.3, shown="north: at least 95.0 %")


def prediction(healthy: str = "Normal", **shares: float) -> Prediction:
    """A film with these probabilities; what is missing to 1 is healthy."""
    found: Mapping[str, float] = {**shares, healthy: 1 - sum(shares.values())}
    probabilities = np.array(list(found.values()), np.float32)
    return Prediction(
        path="film.dcm",
        sha256="0" * 64,
        classes=tuple(found),
        healthy=frozenset({healthy}),
        logits=np.log(np.maximum(probabilities, 1e-9)),
        probabilities=probabilities,
        embedding=np.zeros(3, np.float32),
        cam=np.zeros((len(found), 2, 2), np.float32),
        prepared=np.zeros((8, 8), np.uint8),
    )


@pytest.mark.parametrize(
    ("shares", "policy", "label", "finding"),
    [
        ({"TB": 0.9}, SHOWN, "flagged: now", "TB"),
        ({"Pneumonia": 0.9}, SHOWN, "flagged: soon", "Pneumonia"),
        ({"Pneumonia": 0.6, "TB": 0.1}, SHOWN, "flagged: now", "Pneumonia"),  # TB counts from 0.1 on
        ({"Pneumonia": 0.6, "TB": 0.09}, SHOWN, "flagged: soon", "Pneumonia"),
        ({"TB": 0.16, "Pneumonia": 0.15}, SHOWN, "flagged: now", "TB"),
        ({"Other": 0.4}, SHOWN, "flagged: soon", "Other"),  # no rule: as the rules say of all others
        ({"Other": 0.3001}, SHOWN, "flagged: soon", "Other"),
        ({"TB": 0.29}, SHOWN, "not flagged: read as usual", None),
        ({"TB": 0.05}, SHOWN, "not flagged: read as usual", None),
        ({"TB": 0.29}, Policy(RULES), "not flagged: read as usual", None),
        ({"TB": 0.26, "Pneumonia": 0.25}, Policy(RULES), "flagged: now", "TB"),  # p_disease is 0.51
        ({"TB": 0.35, "Pneumonia": 0.14}, Policy(RULES), "not flagged: read as usual", None),
        ({"TB": 0.45, "A": 0.03}, Policy(RULES), "not flagged: read as usual", None),
    ],
)
def test_what_is_decided(shares: dict[str, float], policy: Policy, label: str, finding: str | None) -> None:
    decision = decide(prediction(**shares), policy)
    assert decision.label == label
    assert decision.finding == finding
    assert decision.p_disease == pytest.approx(sum(shares.values()), abs=1e-6)


def test_without_a_threshold_a_likeliest_disease_flags_below_an_even_chance() -> None:
    film = prediction(TB=0.3)
    many = Prediction(
        **{
            **{name: getattr(film, name) for name in film.__slots__},
            "classes": ("TB", "Normal", "Clear"),
            "healthy": frozenset({"Normal", "Clear"}),
            "probabilities": np.array([0.4, 0.3, 0.3], np.float32),
        }
    )
    assert decide(many, Policy(RULES)).outcome is Outcome.FLAGGED
    assert decide(many, Policy(RULES, threshold=0.5)).outcome is Outcome.NOT_FLAGGED


def test_a_refused_film_stands_above_all_that_are_not_flagged() -> None:
    refused = decide(Refusal("broken.dcm", "truncated", "truncated: it ends early; fetch it again"), SHOWN)
    assert (refused.label, refused.code) == ("not analysed: needs a reader", "truncated")
    assert refused.because == "it ends early; fetch it again"
    films = [
        decide(prediction(TB=0.29), SHOWN),
        refused,
        decide(prediction(Pneumonia=0.99), SHOWN),
        decide(prediction(TB=0.31), SHOWN),
        decide(prediction(TB=0.01), Policy(RULES, 0.3, "", clear_below=0.1)),
    ]
    assert [each.label for each in sorted(films, key=place)] == [
        "flagged: now",
        "flagged: soon",
        "not analysed: needs a reader",
        "not flagged: read as usual",
        "not flagged: read as usual",
    ]
    assert sorted(films, key=place)[-1].suggestion == LIKELY_CLEAR


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_a_score(bad: float) -> None:
    film = prediction(TB=0.4)
    film.probabilities[0] = bad
    decision = decide(film, SHOWN)
    assert (decision.outcome, decision.p_disease, decision.code) == (Outcome.NOT_ANALYSED, None, "not_finite")


@pytest.mark.parametrize(
    ("score", "policy", "suggestion"),
    [
        (0.05, SHOWN, None),  # nobody opted in
        (0.05, Policy(RULES, 0.3, "", clear_below=0.1), LIKELY_CLEAR),
        (0.12, Policy(RULES, 0.3, "", clear_below=0.1), None),
        (0.12, Policy(RULES, 0.3, "", clear_below=0.2), None),  # TB counts from 0.1 on
        (0.6, Policy(Rules(counts_from=0.7), 0.65, "", clear_below=0.65), None),  # TB is likeliest
        (0.4, Policy(Rules(counts_from=0.7), 0.65, "", clear_below=0.65), LIKELY_CLEAR),
        (0.05, Policy(RULES, 0.3, "", clear_below=0.1, withdrawn="scores have shifted"), None),
        (0.9, Policy(RULES, 0.3, "", clear_below=0.95), None),  # flagged is flagged
    ],
)
def test_likely_clear_is_said_only_where_it_was_asked_for_and_stands(
    score: float, policy: Policy, suggestion: str | None
) -> None:
    assert decide(prediction(TB=score), policy).suggestion == suggestion


def test_likely_clear_without_a_threshold_is_no_policy() -> None:
    with pytest.raises(ValueError, match="needs a threshold"):
        Policy(RULES, clear_below=0.1)


@pytest.mark.parametrize("word", [*FORBIDDEN, "Normal", "NEGATIVE", "Abnormal", "unhealthy", "ｎｏｒｍａｌ"])
def test_no_decision_can_say_that_nothing_is_wrong(word: str) -> None:
    for decision in (
        decide(prediction(**{f"Gram {word} pneumonia": 0.9}), SHOWN),
        decide(prediction(healthy=word, TB=0.1), Policy(RULES, 0.3, f"the town of {word}")),
        decide(prediction(healthy=word, TB=0.9), Policy(Rules({word: Urgency.NOW}), 0.3, word)),
        decide(Refusal("film.png", word, f"{word}: its header says {word}"), SHOWN),
    ):
        text = " ".join(str(value) for key, value in decision.to_dict().items() if key != "path")
        assert not any(each in text.lower() for each in (*FORBIDDEN, word.lower()))


def test_a_decision_that_would_say_it_cannot_be_made() -> None:
    for name in ("because", "finding", "code", "suggestion"):
        fields = {"because": "", name: "probably Normal"}
        with pytest.raises(ValueError, match="may not say"):
            Decision("film", Outcome.NOT_FLAGGED, p_disease=0.1, **fields)  # type: ignore[arg-type]


def test_the_users_own_path_is_left_as_it_is() -> None:
    refusal = Refusal("normal/film.png", NotAnImage.code, "not_an_image: text")
    assert decide(refusal, SHOWN).path == "normal/film.png"


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": Outcome.FLAGGED, "p_disease": 0.9},
        {"outcome": Outcome.NOT_FLAGGED, "p_disease": 0.1, "urgency": Urgency.SOON},
        {"outcome": Outcome.NOT_FLAGGED},
        {"outcome": Outcome.NOT_ANALYSED, "p_disease": 0.5},
        {"outcome": Outcome.NOT_FLAGGED, "p_disease": float("nan")},
        {"outcome": Outcome.NOT_ANALYSED, "suggestion": LIKELY_CLEAR},
    ],
)
def test_a_decision_that_contradicts_itself_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Decision("film", because="", **fields)  # type: ignore[arg-type]


def test_the_order_does_not_depend_on_the_order_of_arrival() -> None:
    films = [decide(prediction(TB=share), SHOWN) for share in (0.1, 0.9, 0.5)]
    orders = {tuple(sorted(each, key=place)) for each in itertools.permutations(films)}
    assert len(orders) == 1


def test_texts_without_such_words_are_left_alone() -> None:
    assert said("ﬁlm 3 of 4 – dark") == "ﬁlm 3 of 4 – dark"
