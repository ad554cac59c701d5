"""The round trip with a real PACS: results stand beside the films, once each, whatever happened before."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import func, select

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.listener import Listener
from carina.serving.results import plan
from carina.serving.results.delivery import Delivery
from carina.serving.results.sc import SECONDARY_CAPTURE
from carina.serving.results.sr import COMPREHENSIVE_SR
from carina.serving.schema import Base, Instance, Job, Study, StudyState
from carina.serving.schema import Delivery as Row
from carina.serving.settings import Destination, Settings
from tests import films
from tests.serving.programs import program
from tests.serving.results.orthanc import WEB, Orthanc
from tests.serving.results.test_delivery import Clock
from tests.serving.results.ward import DX, NOW, Shelf, admit, film, model


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc of this test's own."""
    running = Orthanc(tmp_path / "orthanc")
    yield running
    running.stop()


def by(pacs: Orthanc, kind: str) -> dict[str, Any]:
    """The destination, by C-STORE or by STOW-RS."""
    if kind == "dicom":
        return {"kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom, "ae_title": "PACS"}
    return {"kind": "stow", "url": f"{pacs.url}/dicom-web"}


def site(settings: Settings, destination: dict[str, Any]) -> Settings:
    chosen = Destination.model_validate({"name": "pacs", "since": "audit", **destination})
    return settings.model_copy(update={"destinations": (chosen,)})


def errors(database: Database) -> list[str | None]:
    """Why what was not sent was not."""
    with database.read() as session:
        return list(session.scalars(select(Row.error)))


def sent_to(pacs: Orthanc, content: bytes, folder: Path) -> None:
    """A film, from a modality to the PACS with DCMTK's storescu."""
    path = folder / f"{generate_uid()}.dcm"
    path.write_bytes(content)
    scu = program("storescu", "dcmtk")
    subprocess.run([scu, "-aec", "PACS", "127.0.0.1", str(pacs.dicom), str(path)], check=True, timeout=60)


@pytest.mark.parametrize("kind", ["dicom", "stow"])
def test_sr_and_sc_are_found_in_the_study_of_the_film(
    sqlite: Database, settings: Settings, shelf: Shelf, pacs: Orthanc, tmp_path: Path, kind: str
) -> None:
    if kind == "stow" and not WEB.is_file():
        pytest.skip("needs Orthanc's DICOMweb plug-in (orthanc-dicomweb)")
    chosen = site(settings, by(pacs, kind))
    content = film(PatientName="Yamada^Tarou=山田^太郎", SpecificCharacterSet="ISO_IR 192")
    sent_to(pacs, content, tmp_path)
    with sqlite.write() as session:
        row = admit(session, shelf, "now", files=[content], duty=model(session))
        plan.enqueue(session, row, chosen, NOW)
        uid = row.uid
    assert Delivery(chosen, sqlite, shelf).step() == 2, errors(sqlite)
    found = {each["class"]: each["says"] for each in pacs.found(uid)}
    assert found == {
        DX: None,
        COMPREHENSIVE_SR: "Carina triage: flagged: now",
        SECONDARY_CAPTURE: "Carina triage: flagged: now",
    }
    assert len(pacs.get("/studies")) == len(pacs.get("/patients")) == 1
    assert len(pacs.get("/series")) == 3


# pynetdicom leaves it to the interpreter to close a socket that was refused
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_results_wait_for_a_pacs_that_is_down_and_arrive_once_each(
    sqlite: Database, settings: Settings, shelf: Shelf, pacs: Orthanc
) -> None:
    chosen, clock = site(settings, by(pacs, "dicom")), Clock()
    with sqlite.write() as session:
        duty = model(session)
        rows = [admit(session, shelf, each, duty=duty) for each in ("now", "soon", "usual", "unread")]
        for row in rows:
            plan.enqueue(session, row, chosen, NOW)
        uids = [row.uid for row in rows]
    delivery = Delivery(chosen, sqlite, shelf, clock=clock)
    pacs.stop()
    for _ in range(3):
        assert delivery.step() == 0
        clock.now += timedelta(minutes=30)
    pacs.start()
    assert delivery.step() == 8, errors(sqlite)
    assert delivery.step() == 0
    assert pacs.get("/statistics")["CountInstances"] == 8
    for uid in uids:
        assert sorted(str(each["class"]) for each in pacs.found(uid)) == [SECONDARY_CAPTURE, COMPREHENSIVE_SR]


ROUTE = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'carina')
end
"""


def test_a_pacs_that_forwards_everything_gets_its_films_looked_at_and_our_results_are_left_alone(
    sqlite: Database, settings: Settings, tmp_path: Path
) -> None:
    archive = Archive(settings.archive, settings)
    listener = Listener(settings, sqlite, archive)
    listener.start()
    pacs = Orthanc(tmp_path / "orthanc", carina=listener.port, lua=ROUTE)
    try:
        chosen = site(settings, by(pacs, "dicom"))
        content = films.dicom(films.chest(), Manufacturer="Siemens")
        sent_to(pacs, content, tmp_path)
        assert until(lambda: counted(sqlite, Instance) == 1)
        with sqlite.write() as session:
            row = session.scalars(select(Study)).one()
            row.state, row.outcome, row.because = (
                StudyState.COMPLETE,
                "not analysed: needs a reader",
                "no model",
            )
            plan.enqueue(session, row, chosen, NOW)
        assert Delivery(chosen, sqlite, archive).step() == 2
        assert len(pacs.found("1.2.3")) == 3
        assert until(lambda: listener.received == 2)  # the film, then our capture; an SR is not negotiated
        with sqlite.read() as session:
            study = session.scalars(select(Study)).one()
            assert (study.version, study.state) == (1, StudyState.COMPLETE)
        assert counted(sqlite, Instance) == counted(sqlite, Job) == 1
        assert [path for _, paths in archive.files() for path in paths] == [
            f"{path}" for path in stored(sqlite)
        ]
    finally:
        pacs.stop()
        listener.stop()


def counted(database: Database, table: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def stored(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Instance.path)))


def until(holds: Any, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(holds())
