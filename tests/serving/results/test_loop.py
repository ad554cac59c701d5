"""A PACS that sends our own results back to us: acknowledged, not kept, never scored."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.intake import Intake
from carina.serving.results.device import new_uid
from carina.serving.results.result import gather
from carina.serving.results.sc import build_sc
from carina.serving.schema import Instance, Job, Study, StudyState
from carina.serving.settings import Settings
from tests import films
from tests.serving.results.ward import NOW


def entered(intake: Intake, archive: Archive, content: bytes) -> str:
    incoming = archive.receive()
    incoming.write(content)
    return intake.take(incoming.finish(), origin="dicom", sender="PACS", address="127.0.0.1").status


@pytest.mark.parametrize("again", [1, 3])
def test_our_own_capture_neither_reopens_its_study_nor_makes_work(
    database: Database, settings: Settings, again: int
) -> None:
    archive = Archive(settings.archive, settings)
    intake = Intake(database, archive, settings)
    assert entered(intake, archive, films.dicom(films.chest())) == "stored"
    with database.write() as session:
        study = session.scalars(select(Study)).one()
        study.state = StudyState.COMPLETE
        session.flush()
        capture = build_sc(gather(session, study.id, archive, NOW), settings, new_uid())
    assert [entered(intake, archive, capture) for _ in range(again)] == ["ours"] * again
    with database.read() as session:
        study = session.scalars(select(Study)).one()
        assert (study.version, study.state) == (1, StudyState.COMPLETE)
        assert session.scalar(select(func.count()).select_from(Instance)) == 1
        assert session.scalar(select(func.count()).select_from(Job)) == 1
    assert sum(len(paths) for _, paths in archive.files()) == 1
    assert not list(Path(archive.root, "incoming").iterdir())
