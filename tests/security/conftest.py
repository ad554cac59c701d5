"""What the attacks share: one service in a process of its own, and a place for their figures."""

from __future__ import annotations

from collections.abc import Generator, Iterator
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
        until(lambda: reader.get("/ready").status_code == 200, 180)
        assert reader.post("/api/v1/uploads", content=film(0)).status_code == 201
        until(house.at_rest, 180)


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No attack ends the service, and none brings a fault of ours, or a traceback, into its log."""
    running: House | None = request.getfixturevalue("house") if "house" in request.fixturenames else None
    before = len(running.said()) if running else 0
    yield
    if running is not None:
        said = running.said()[before:]
        assert running.lives, said[-3000:]
        assert "Traceback" not in said
        assert [line for line in said.splitlines() if '"fault"' in line] == [], "a part of the service failed"


_FIGURES = Figures()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """``tell(promise, sentence)``: a figure for the page of promises."""
    return lambda promise, sentence: _FIGURES.tell(promise, sentence, request.path.stem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which modules had a test that failed."""
    report = yield
    if report.failed:
        _FIGURES.failed.add(item.path.stem)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep the figures, where that was asked for."""
    if session.config.getoption("--write") and _FIGURES.said:
        soak, share = (session.config.getoption(name) for name in ("--soak", "--share"))
        _FIGURES.keep(soak=soak, share=share)
