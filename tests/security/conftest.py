"""What the attacks share: one service in a process of its own, and a place for their figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed (carina[serve])")

from tests.bundles import tiny_bundle
from tests.security.figures import Figures, Tell
from tests.security.house import House, until
from tests.serving.films import film


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes for films of 64 pixels."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, bundle: Path, soak: bool) -> Iterator[House]:
    """A service with one listed sender, a key and a user of each role; it is attacked again and again.

    Its deadlines are those of a fresh start under full loads, and shorter in quick ones.
    """
    dicom = {} if soak else {"pdu_seconds": 3.0}
    with House(tmp_path_factory.mktemp("house") / "site", bundle, dicom=dicom) as running:
        warm(running)
        yield running


def warm(house: House) -> None:
    """Let one film through, so that what a first film loads is not taken for what an attack costs."""
    with house.client() as reader:
        until(lambda: reader.get("/ready").status_code == 200)
        assert reader.post("/api/v1/uploads", content=film(0)).status_code == 201
        until(house.at_rest)


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No attack ends the service, and none brings a traceback into its log."""
    yield
    if "house" in request.fixturenames:
        running: House = request.getfixturevalue("house")
        assert running.lives, running.said()[-3000:]
        assert "Traceback" not in running.said()
        assert '"fault"' not in running.said(), "a part of the service failed, and was started again"


_FIGURES = Figures()


@pytest.fixture
def tell() -> Tell:
    """``tell(promise, sentence)``: a figure for the page of promises."""
    return _FIGURES.tell
