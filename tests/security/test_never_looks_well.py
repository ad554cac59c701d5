"""What is no whole, upright chest film is never "not flagged"; without a model nothing is.

How many real films are refused beside it is measured by ``benchmarks/frontal.py``, ``benchmarks/sides.py``
and, with a trained bundle, ``benchmarks/claims.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from carina.images.phantom import phantom
from carina.images.phantom.exposure import Look
from carina.images.phantom.foreign import KINDS as FOREIGN
from carina.images.phantom.foreign import foreign
from carina.images.phantom.scenes import KINDS as SCENES
from carina.images.phantom.scenes import SPOILT, scene, spoilt
from carina.scoring.triage import Outcome, place
from carina.serving import duty as duty_room
from carina.serving.duty import Duty
from carina.serving.golden import FOLDER
from carina.serving.schema import PredictionRow, Rank, Study
from carina.serving.service import Service
from carina.serving.settings import Settings
from carina.taxonomy import SIX_CLASSES
from tests.security.figures import Tell
from tests.security.house import until
from tests.serving.films import film

Picture = NDArray[np.uint8]
TELLTALE = ("mirrored", "belly only")  # found in part only; the measured share stands in docs/results.md


def chest(seed: int) -> Picture:
    """A phantom of 8 bits, as a picture."""
    made = phantom(SIX_CLASSES[seed % 6], seed=31_000 + seed, look=Look(bits=8), size=224)
    return made.pixels.astype(np.uint8)


def decided(duty: Duty, folder: Path, pictures: dict[str, list[Picture]]) -> dict[str, list[Any]]:
    """The decision on each picture, by kind; as a service would decide it, from a file."""
    assert duty.model is not None
    folder.mkdir()
    for kind, group in pictures.items():
        for number, picture in enumerate(group):
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{kind}-{number}.png")
    found: dict[str, list[Any]] = {}
    for answer in duty.model.scorer.score(folder):
        kind = Path(answer.path).stem.rpartition("-")[0]
        found.setdefault(kind, []).append(duty.model.decide(answer))
    return found


def test_what_is_no_chest_film_needs_a_reader_and_stands_above_what_was_not_flagged(
    bundle: Path, tmp_path: Path, tell: Tell, soak: bool
) -> None:
    each = 60 if soak else 3
    chests = [chest(seed) for seed in range(2 * each)]
    pictures = {kind: [foreign(kind, seed=61_000 + n, size=224) for n in range(each)] for kind in FOREIGN}
    pictures |= {kind: [scene(kind, seed=61_000 + n, size=224) for n in range(each)] for kind in SCENES}
    wrong = {how: [spoilt(one, how) for one in chests[:each]] for how in SPOILT}
    settings = Settings.model_validate({"data": tmp_path / "data", "model": bundle})
    with Duty.load(settings) as duty:
        found = decided(duty, tmp_path / "films", pictures | wrong | {"true": chests})

    def refused(kinds: Any) -> float:
        outcomes = [decision.outcome for kind in kinds for decision in found[kind]]
        return float(np.mean([outcome is Outcome.NOT_ANALYSED for outcome in outcomes]))

    other, ruined = refused(pictures), refused([how for how in SPOILT if how not in TELLTALE])
    partly = ", ".join(f"{how} {refused([how]):.0%}" for how in TELLTALE)
    tell(
        "strange",
        f"drawn: {other:.1%} of {each * len(pictures)} pictures that are no chest film, {ruined:.1%} of "
        f"films inverted, turned, cut or half lost; in part: {partly}; of true ones {refused(['true']):.1%}",
    )
    ranked = sorted((place(one), one.outcome) for group in found.values() for one in group)
    places = [outcome for _, outcome in ranked]
    last = max(at for at, outcome in enumerate(places) if outcome is Outcome.NOT_ANALYSED)
    assert Outcome.NOT_FLAGGED not in places[:last], "nothing unread stands below an unflagged film"
    assert other >= 0.99
    assert ruined >= 0.97
    assert refused(["blank", "noise"]) == 1
    assert refused(["true"]) <= 0.05


@pytest.fixture
def service(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service with a model of its own; a model that is not ready is tried again at once."""
    monkeypatch.setattr(duty_room, "TRY_EVERY", 0.0)
    own = shutil.copytree(bundle, tmp_path / "model")
    given = {"data": tmp_path / "data", "model": own, "free_bytes": 0, "quiet_seconds": 0.2}
    web = {"port": 0, "sign_in": False}
    running = Service(Settings.model_validate(given | {"dicom": {"port": 0}, "web": web}))
    running.start()
    yield running
    running.stop()


def removed(service: Service) -> None:
    shutil.rmtree(service.settings.model or "")


def changed(service: Service) -> None:
    assert service.settings.model is not None
    with (service.settings.model / "model.onnx").open("r+b") as file:
        file.seek(500)
        file.write(b"\xff" * 8)


def failing_its_self_test(service: Service) -> None:
    (kept,) = (service.settings.data / FOLDER).iterdir()
    kept.write_bytes(b"{}")
    assert service.duty is not None
    service.duty.test()


@pytest.mark.parametrize("fault", [removed, changed, failing_its_self_test], ids=lambda each: each.__name__)
def test_without_its_model_nothing_is_analysed_and_the_page_says_so(
    service: Service, fault: Callable[[Service], None], tell: Tell
) -> None:
    assert service.database is not None
    database = service.database
    with httpx.Client(base_url=f"http://127.0.0.1:{service.web_port}", timeout=60) as client:
        until(lambda: client.get("/ready").status_code == 200)
        page = client.get("/worklist", headers={"Accept": "text/html"}).text
        token = page.partition('name="csrf" content="')[2].partition('"')[0]
        headers = {"X-CSRF-Token": token, "Origin": str(client.base_url).rstrip("/")}

        def send(number: int) -> None:
            assert client.post("/api/v1/uploads", content=film(number), headers=headers).status_code == 201

        send(0)
        until(lambda: len(rows(database)) == 1)
        fault(service)
        for number in (1, 2, 3):
            send(number)
        until(lambda: len(rows(database)) == 4)
        page = client.get("/worklist", headers={"Accept": "text/html"}).text
        ready = client.get("/ready").status_code
    said = rows(database)[1:]
    tell(
        "modelless",
        f"model {fault.__name__.replace('_', ' ')}: {len(said)} of 3 films not analysed, page red",
    )
    assert {row.outcome for row in said} == {Outcome.NOT_ANALYSED}
    assert {row.code for row in said} == {"no_model"}
    assert {row.p_disease for row in said} == {None}
    assert 'class="faults"' in page
    assert ready == 503
    with database.read() as session:
        ranks = {
            study.rank for study in session.scalars(select(Study)) if study.outcome == Outcome.NOT_ANALYSED
        }
    assert ranks == {Rank.NOT_ANALYSED}
    assert Rank.NOT_ANALYSED < Rank.NOT_FLAGGED, "above what was not flagged"


def rows(database: Any) -> list[PredictionRow]:
    with database.read() as session:
        return list(session.scalars(select(PredictionRow).order_by(PredictionRow.id)))
