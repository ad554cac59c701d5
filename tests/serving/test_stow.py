"""STOW-RS: each instance kept or refused on its own, whatever the pieces the bytes come in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from carina.errors import RequestError
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.intake import Intake
from carina.serving.multipart import Begin, Data, End, Parts
from carina.serving.schema import Instance
from carina.serving.settings import Settings
from carina.serving.stow import Answer, store
from tests.serving.instances import ROOT, instance, uid_of

TYPE = 'multipart/related; type="application/dicom"; boundary="films of today"'
DX, SR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture
def intake(sqlite: Database, tmp_path: Path, settings: Settings) -> Intake:
    return Intake(sqlite, Archive(tmp_path / "archive", settings), settings)


def body(*contents: bytes, kind: str = "application/dicom", boundary: str = "films of today") -> bytes:
    head = f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + content + b"\r\n" for content in contents) + f"--{boundary}--\r\n".encode()


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def send(intake: Intake, content: bytes, size: int = 65536, **how: Any) -> Answer:
    given = {"sender": "key", "address": "127.0.0.1", "largest": 2**24} | how
    return store(pieces(content, size), TYPE, intake, **given)


def events_of(content: bytes, size: int, boundary: str) -> list[Begin | Data | End]:
    parts = Parts(f"multipart/related; boundary={boundary}")
    events = [event for piece in pieces(content, size) for event in parts.feed(piece)]
    parts.finish()
    return events


def kept(intake: Intake) -> dict[str, bytes]:
    with intake.database.read() as session:
        found = session.scalars(select(Instance)).all()
    return {film.uid: (intake.archive.root / film.path).read_bytes() for film in found}


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
def test_every_instance_is_kept_byte_for_byte(intake: Intake, size: int) -> None:
    films = [instance(number, side=16) for number in range(3)]
    answer = send(intake, body(*films), size)
    assert answer.status == 200
    assert kept(intake) == {uid_of(number): film for number, film in enumerate(films)}
    assert [item["00081155"]["Value"][0] for item in answer.body["00081199"]["Value"]] == [
        uid_of(number) for number in range(3)
    ]
    assert answer.body["00081199"]["Value"][0]["00081150"] == {"vr": "UI", "Value": [DX]}


def test_one_that_cannot_be_taken_stops_none_of_the_others(intake: Intake) -> None:
    answer = send(intake, body(instance(1), b"no film", instance(2, SOPClassUID=SR), instance(3)))
    assert answer.status == 202
    assert sorted(kept(intake)) == [uid_of(1), uid_of(3)]
    reasons = [item["00081197"]["Value"][0] for item in answer.body["0008119A"]["Value"]]
    assert reasons == [0xC000, 0x0122]


@pytest.mark.parametrize(
    ("contents", "status"), [((b"no film",), 409), ((instance(1, SOPClassUID=SR),), 409)]
)
def test_where_all_fail_the_request_fails(intake: Intake, contents: tuple[bytes], status: int) -> None:
    assert send(intake, body(*contents)).status == status
    assert kept(intake) == {}


def test_a_full_disk_is_507_and_a_failing_one_500(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number))

    for number, status in ((errno.ENOSPC, 507), (errno.EIO, 500)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda *_, number=number: fail(number))
            answer = send(intake, body(instance(1), instance(2)))
        assert answer.status == status
        assert len(answer.body["0008119A"]["Value"]) == 2
    assert kept(intake) == {}
    assert send(intake, body(instance(1))).status == 200


def test_a_study_in_the_path_takes_only_its_own(intake: Intake) -> None:
    answer = send(intake, body(instance(1, study=5), instance(2, study=6)), study_uid=f"{ROOT}.1.5")
    assert answer.status == 202
    assert list(kept(intake)) == [uid_of(1)]
    (failed,) = answer.body["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [uid_of(2)]
    assert failed["00081197"]["Value"] == [0xA900]
    assert intake.adopt() == 0  # what was refused does not come in at the next start
    send(intake, body(instance(1, study=5)), study_uid=f"{ROOT}.1.6")
    assert list(kept(intake)) == [uid_of(1)]  # and what was kept before is not removed


def test_an_instance_that_is_too_large_leaves_nothing(intake: Intake) -> None:
    answer = send(intake, body(instance(1, side=256), instance(2, side=16)), largest=50_000)
    assert answer.status == 202
    assert list(kept(intake)) == [uid_of(2)]
    assert not list((intake.archive.root / "incoming").iterdir())


def test_a_request_that_breaks_off_keeps_what_was_whole(intake: Intake) -> None:
    content = body(instance(1), instance(2, side=256))
    with pytest.raises(RequestError, match="before its closing boundary"):
        send(intake, content[:-60_000])
    assert list(kept(intake)) == [uid_of(1)]
    assert not list((intake.archive.root / "incoming").iterdir())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom",
        "multipart/form-data; boundary=x",
        "multipart/related",
        "multipart/related; boundary=" + "x" * 71,
        'multipart/related; type="application/dicom+json"; boundary=x',
        'multipart/related; boundary="a\r\nb"',
    ],
)
def test_a_request_of_another_form_is_refused(intake: Intake, content_type: str) -> None:
    with pytest.raises(RequestError, match="Content-Type"):
        store([b""], content_type, intake, sender=None, address=None, largest=1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(100_000), "does not begin with its boundary"),
        (b"--b\r\n" + b"X: y\r\n" * 10_000, "bytes of headers"),
        (b"--b" + b"x" * 1000, "not followed by the end of its line"),
        (b"--bxx\r\n\r\nfilm\r\n--b--", "followed by something else"),
        (b"--b\r\n\r\n\r\n" * 100_002, "parts"),
        (b"", "before its closing boundary"),
    ],
)
def test_a_body_without_measure_is_cut_short(content: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        events_of(content, 5000, "b")


def test_parts_may_hold_what_looks_like_a_boundary() -> None:
    inner = b"\r\n--films\r\n-- --\r\n--film\r\n"
    content = body(inner, b"", kind="a/b", boundary="films-x")
    for size in (1, 2, 3, 1000):
        events = events_of(content, size, "films-x")
        assert [type(event) for event in events if not isinstance(event, Data)] == [Begin, End, Begin, End]
        assert b"".join(event.content for event in events if isinstance(event, Data)) == inner
