from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from carina.errors import ClaimError, RulesError
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.operating import SECTION
from carina.scoring.policy import policy, read_rules
from carina.scoring.triage import Urgency
from tests.bundles import tiny_bundle


def calibrated(
    folder: Path,
    sites: Mapping[str, Mapping[float, float]],
    nobody_with: str = "",
    limits: Mapping[str, float] | None = None,
) -> Bundle:
    """A tiny bundle with points: site → target → shown limit; thresholds fall with the target."""
    plain = Bundle.open(tiny_bundle(folder / "plain"))
    section, lowest = {}, limits or {}
    known = {each: 0 if each == nobody_with else 10 for each in ("Bacterial Pneumonia", "COVID-19")}
    for name, points in sites.items():
        section[name] = {
            "created": "2026-01-01T00:00:00+00:00", "carina": "0.1.0",
            "model": plain.manifest.files["model.onnx"],
            "catalogue": "0" * 64, "split": "valid", "films": 400, "refused": 0, "sources": ["x"],
            "points": [
                {
                    "target": target, "confidence": 0.95, "per_class": False, "threshold": 1 - target,
                    "sensitivity": {"found": 199, "people": 200, "limit": limit},
                    "specificity": {"spared": 60, "people": 100, "low": 0.5, "high": 0.7},
                    "classes": {
                        each: {"found": 9 * count, "people": 10 * count, "limit": lowest.get(each, 0.92)}
                        for each, count in known.items()
                    },
                    "films": 400, "below": 100,
                }
                for target, limit in points.items()
            ],
        }  # fmt: skip
    manifest = plain.manifest.model_copy(update={"sections": {SECTION: section}})
    return write_bundle(
        folder / "calibrated", manifest, {name: plain.root / name for name in plain.manifest.files}
    )


def test_the_sites_highest_point_decides_unless_another_is_named(tmp_path: Path) -> None:
    bundle = calibrated(tmp_path, {"north": {0.9: 0.91, 0.98: 0.9817}})
    assert policy(bundle, site="north").threshold == pytest.approx(0.02)
    assert policy(bundle, site="north", target=0.9).threshold == pytest.approx(0.1)
    assert (
        "north: at least 98.1 % of disease found, shown on 200 people" in policy(bundle, site="north").shown
    )


def test_the_threshold_of_one_site_is_never_taken_for_another(tmp_path: Path) -> None:
    bundle = calibrated(tmp_path, {"north": {0.9: 0.91}})
    with pytest.raises(ClaimError, match="say whose films these are with --site"):
        policy(bundle)
    with pytest.raises(ClaimError, match="no operating point for the site 'south'"):
        policy(bundle, site="south")


def test_the_default_site_needs_no_name(tmp_path: Path) -> None:
    bundle = calibrated(tmp_path, {"default": {0.9: 0.91}, "north": {0.95: 0.96}})
    assert policy(bundle).threshold == pytest.approx(0.1)


def test_a_bundle_that_was_never_calibrated_has_no_threshold(tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_bundle(tmp_path / "tiny"))
    assert policy(bundle).threshold is None
    with pytest.raises(ClaimError, match="it has none at all"):
        policy(bundle, clear=0.99)


def test_likely_clear_needs_a_point_that_was_shown_here(tmp_path: Path) -> None:
    bundle = calibrated(tmp_path, {"north": {0.9: 0.9012, 0.98: 0.9817}})
    assert policy(bundle, site="north").clear_below is None
    chosen = policy(bundle, site="north", target=0.9, clear=0.98)
    assert (chosen.threshold, chosen.clear_below) == (pytest.approx(0.1), pytest.approx(0.02))
    with pytest.raises(ClaimError, match=r"at least 95% shown for 'north'; 90\.1 % is"):
        policy(bundle, site="north", clear=0.9)
    with pytest.raises(ClaimError, match=r"0\.99 was not shown"):
        policy(bundle, site="north", clear=0.99)


def test_likely_clear_needs_somebody_with_every_disease(tmp_path: Path) -> None:
    bundle = calibrated(tmp_path, {"north": {0.98: 0.9817}}, nobody_with="COVID-19")
    with pytest.raises(ClaimError, match="needs people with COVID-19"):
        policy(bundle, site="north", clear=0.98)


def test_likely_clear_needs_every_disease_to_be_found_by_itself(tmp_path: Path) -> None:
    shown = {"Bacterial Pneumonia": 0.97, "COVID-19": 0.05}  # one person, who was found
    bundle = calibrated(tmp_path, {"north": {0.98: 0.9817}}, limits=shown)
    with pytest.raises(ClaimError, match=r"at least 90% shown for each disease; for COVID-19 5\.0 % is"):
        policy(bundle, site="north", clear=0.98)


def test_a_site_or_a_reason_cannot_say_that_nothing_is_wrong(tmp_path: Path) -> None:
    name = "Normal Healthy Hospital"
    chosen = policy(
        calibrated(tmp_path, {name: {0.98: 0.9817}}), site=name, withdrawn="too many negative films"
    )
    assert chosen.shown.startswith("… … Hospital: at least 98.1 %")
    assert chosen.withdrawn == "too many … films"


def test_the_rules_of_carina_call_contagion_urgent() -> None:
    rules = read_rules()
    assert [rules.of(name) for name in ("TB", "COVID-19", "Viral Pneumonia", "Gout")] == [
        Urgency.NOW,
        Urgency.NOW,
        Urgency.SOON,
        Urgency.SOON,
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[urgency]\nTB = "later"', "urgency.TB"),
        ("counts_from = 2", "counts_from"),
        ("counts_from = nan", "counts_from"),
        ('urgent = "now"', "urgent"),
        ("[urgency", "not valid TOML"),
    ],
)
def test_rules_that_make_no_sense_are_refused_with_their_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(RulesError, match=r"rules\.toml: ") as fault:
        read_rules(tmp_path / "rules.toml")
    assert says in str(fault.value)


def test_a_rule_for_a_class_that_is_no_disease_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[urgency]\nNormal = "soon"', "utf-8")
    bundle = Bundle.open(tiny_bundle(tmp_path / "tiny"))
    with pytest.raises(RulesError, match="the rules give 'Normal' an urgency"):
        policy(bundle, rules=read_rules(tmp_path / "rules.toml"))


def test_rules_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="cannot be read"):
        read_rules(tmp_path / "none.toml")
