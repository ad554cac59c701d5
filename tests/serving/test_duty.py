"""The model on duty: loaded, tested, and never deciding when it should not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from carina.records import Refusal
from carina.scoring.triage import Outcome, Urgency
from carina.serving import duty as duty_room
from carina.serving.duty import Duty
from carina.serving.golden import FOLDER, Kept, keep, read_kept
from carina.serving.settings import Settings
from tests.bundles import tiny_bundle
from tests.serving.films import copy_bundle


@pytest.fixture
def own(settings: Settings, bundle: Path, tmp_path: Path) -> Settings:
    """A site with a bundle that a test may damage."""
    return settings.model_copy(update={"model": copy_bundle(bundle, tmp_path / "model")})


@pytest.fixture
def duty(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Duty]:
    monkeypatch.setattr(duty_room, "TRY_EVERY", 0.0)
    with Duty.load(own) as found:
        yield found


def test_a_good_bundle_is_on_duty_and_says_what_it_rests_on(duty: Duty) -> None:
    status = duty.status
    assert (status.ready, status.why_not, status.name) == (True, None, "tiny")
    assert status.threshold is None
    assert "Nobody has shown a threshold" in status.warnings[0]
    assert len(status.fingerprint or "") == 64


def test_the_first_answers_are_kept_and_asked_for_again(duty: Duty, own: Settings) -> None:
    (place,) = (own.data / FOLDER).iterdir()
    assert place.stat().st_mode & 0o077 == 0
    kept = read_kept(place)
    assert kept is not None
    assert kept.probabilities.shape == (3, 3)
    assert duty.test()


def test_other_answers_than_on_the_first_day_take_the_model_off_duty(duty: Duty, own: Settings) -> None:
    (place,) = (own.data / FOLDER).iterdir()
    kept = read_kept(place)
    assert kept is not None
    keep(place, Kept(kept.films, np.roll(kept.probabilities, 1, axis=1)))
    assert not duty.test()
    assert "answers the golden films otherwise" in (duty.why_not or "")
    assert not duty.check()  # and it stays away


def test_damaged_answers_of_the_first_day_are_not_trusted(duty: Duty, own: Settings) -> None:
    (place,) = (own.data / FOLDER).iterdir()
    place.write_bytes(place.read_bytes()[:-40])
    assert not duty.test()
    assert "cannot be read" in (duty.why_not or "")


def test_why_the_model_is_not_ready_is_logged_once_and_so_is_its_return(
    own: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duty_room, "TRY_EVERY", 0.0)
    caplog.set_level("INFO", "carina.serving.duty")
    assert own.model is not None
    aside = own.model.rename(own.model.with_name("aside"))
    with Duty.load(own) as duty:
        assert not duty.check()
        assert not duty.check()
        aside.rename(own.model)
        assert duty.check()
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == [
        "the model is not ready, and nothing is analysed", "the model is ready",
    ]  # fmt: skip
    assert str(own.model) in said[0]


def test_a_removed_bundle_is_off_duty_and_comes_back_when_it_is_put_back(duty: Duty, own: Settings) -> None:
    assert own.model is not None
    aside = own.model.rename(own.model.with_name("aside"))
    assert not duty.check()
    assert "is not there any more" in (duty.why_not or "")
    assert not duty.check()
    aside.rename(own.model)
    assert duty.check()


def test_what_was_begun_early_is_waited_for_and_not_done_twice(own: Settings) -> None:
    with Duty(own) as duty:
        duty.begin_soon()
        duty.begun()
        first = duty.model
        assert first is not None
        duty.begun()  # the worker was started again after a fault
        assert duty.model is first


def test_a_fault_of_ours_in_an_early_start_is_raised_where_it_is_waited_for(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with Duty(own) as duty:
        with monkeypatch.context() as patched:
            patched.setattr(duty_room, "self_test", broken)
            duty.begin_soon()
            with pytest.raises(RuntimeError, match="a fault of ours"):
                duty.begun()
        assert not duty.ready
        duty.begun()
        assert duty.ready


def test_a_changed_byte_takes_the_model_off_duty(duty: Duty, own: Settings) -> None:
    assert own.model is not None
    model = own.model / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    assert not duty.check()
    assert "was changed on the disk" in (duty.why_not or "")
    duty.begin()
    assert "is not the file that bundle.json lists" in (duty.why_not or "")


def test_another_model_never_slips_in_unseen(duty: Duty, own: Settings) -> None:
    assert own.model is not None
    shutil.rmtree(own.model)
    tiny_bundle(own.model, seed=5)
    assert not duty.check()
    duty.begin()
    assert "restart Carina to change models" in (duty.why_not or "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": None}, "no model is named"),
        ({"model": Path("nowhere")}, "nowhere: no such folder"),
        ({"site": "north"}, "no operating point for the site 'north'"),
        ({"urgent": ("TBC",)}, "the settings call 'TBC' urgent"),
        ({"suggest_clear": 0.99}, "no operating point"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said_and_nothing_is_raised(
    settings: Settings, change: dict[str, object], says: str
) -> None:
    with Duty.load(settings.model_copy(update=change)) as found:
        assert not found.ready
        assert says in (found.why_not or "")
        assert found.status.why_not == found.why_not


def test_a_network_that_answers_with_no_number_never_goes_on_duty(settings: Settings, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    from tests.bundles import tiny_model

    model = tiny_model()
    for tensor in model.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "bias"))
    onnx.checker.check_model(model)
    sick = tiny_bundle(tmp_path / "sick", model=model)
    with Duty.load(settings.model_copy(update={"model": sick})) as found:
        assert not found.ready
        assert "not finite" in (found.why_not or "")


def test_a_site_names_exactly_what_is_urgent(settings: Settings) -> None:
    urgent = settings.model_copy(update={"urgent": ("Bacterial Pneumonia",)})
    with Duty.load(urgent) as found:
        assert found.model is not None
        rules = found.model.policy.rules
    assert rules.of("Bacterial Pneumonia") is Urgency.NOW
    assert rules.of("COVID-19") is Urgency.SOON


def test_a_refused_film_is_not_analysed(duty: Duty) -> None:
    assert duty.model is not None
    decision = duty.model.decide(Refusal("7", "truncated", "truncated: it ends early; fetch it again"))
    assert decision.outcome is Outcome.NOT_ANALYSED
