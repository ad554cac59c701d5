"""The DICOM port, spoken to by DCMTK and by pynetdicom: kept as sent, refused as one should."""

from __future__ import annotations

import io
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select

from carina.errors import ListenerError
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.header import IMAGES, read_header
from carina.serving.listener import Listener
from carina.serving.schema import Base, Instance, Study
from carina.serving.settings import Settings
from tests.serving.instances import instance, uid_of
from tests.serving.programs import program

DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.22"


class Site:
    """A listener on a free port, with its archive and its SQLite database."""

    def __init__(self, folder: Path, settings: Settings, **dicom: Any) -> None:
        changed = settings.dicom.model_copy(update=dicom)
        self.settings = settings.model_copy(update={"dicom": changed})
        self.database = Database(f"sqlite:///{folder / 'site.sqlite'}")
        Base.metadata.create_all(self.database.engine)
        self.archive = Archive(folder / "archive", self.settings)
        self.listener = Listener(self.settings, self.database, self.archive)
        self.listener.start()

    def close(self) -> None:
        self.listener.stop()
        self.database.close()

    def kept(self) -> dict[str, bytes]:
        """SOP Instance UID → the stored file."""
        with self.database.read() as session:
            found = session.scalars(select(Instance).order_by(Instance.id)).all()
        return {film.uid: (self.archive.root / film.path).read_bytes() for film in found}

    def associate(self, classes: Any = tuple(IMAGES), **how: Any) -> Any:
        entity = AE(ae_title=how.pop("calling", "SENDER"))
        for uid in classes:
            entity.add_requested_context(uid, how.get("syntax", ExplicitVRLittleEndian))
        called = how.pop("called", "CARINA")
        return entity.associate("127.0.0.1", self.listener.port, ae_title=called)


@pytest.fixture
def site(tmp_path: Path, settings: Settings) -> Iterator[Site]:
    running = Site(tmp_path, settings)
    yield running
    running.close()


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=check, timeout=60
    )


def data_set(content: bytes) -> bytes:
    return content[read_header(io.BytesIO(content), "").content_at :]


def test_echoscu_is_answered(site: Site) -> None:
    run(program("echoscu", "dcmtk"), "-aec", "CARINA", "127.0.0.1", site.listener.port)


@pytest.mark.parametrize("options", [["-R", "-xe"], ["-R", "-xi"], ["-R", "--max-send-pdu", "4096"]])
def test_what_storescu_sends_is_kept_and_entered(site: Site, tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.dcm").write_bytes(instance(number, study=1, side=200))
    command = [program("storescu", "dcmtk"), *options, "+sd", "-aec", "CARINA"]
    run(*command, "127.0.0.1", site.listener.port, folder)
    kept = site.kept()
    assert sorted(kept) == [uid_of(number) for number in range(4)]
    if "-xi" not in options:
        for number in range(4):
            assert data_set(kept[uid_of(number)]) == data_set((folder / f"{number}.dcm").read_bytes())
    with site.database.read() as session:
        (study,) = session.scalars(select(Study))
    assert study.patient_name == "Doe^Jane"
    assert not list((site.archive.root / "incoming").iterdir())


def test_a_film_is_entered_with_who_sent_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "film.dcm").write_bytes(instance(1))
    command = [program("storescu", "dcmtk"), "-aet", "MODALITY1", "-aec", "CARINA"]
    run(*command, "127.0.0.1", site.listener.port, tmp_path / "film.dcm")
    with site.database.read() as session:
        (film,) = session.scalars(select(Instance))
    assert (film.sender, film.address) == ("MODALITY1", "127.0.0.1")


def test_dcmsend_sends_mixed_transfer_syntaxes_as_they_are(site: Site, tmp_path: Path) -> None:
    syntaxes = [
        ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless,
        RLELossless, DeflatedExplicitVRLittleEndian,
    ]  # fmt: skip
    files = []
    for number, syntax in enumerate(syntaxes):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(instance(number, side=96, syntax=syntax))
    run(
        program("dcmsend", "dcmtk"), "--decompress-never", "-aec", "CARINA", "127.0.0.1", site.listener.port,
        *files,
    )  # fmt: skip
    kept = site.kept()
    for number, (file, syntax) in enumerate(zip(files, syntaxes, strict=True)):
        there, here = pydicom.dcmread(file), pydicom.dcmread(io.BytesIO(kept[uid_of(number)]))
        if syntax.is_compressed and not syntax.is_deflated:  # dcmsend converts the others as it likes
            assert here.file_meta.TransferSyntaxUID == syntax
            assert data_set(kept[uid_of(number)]) == data_set(file.read_bytes())
        assert np.array_equal(here.pixel_array, there.pixel_array)


def test_the_same_film_twice_is_acknowledged_twice_and_kept_once(site: Site) -> None:
    association = site.associate()
    ds = pydicom.dcmread(io.BytesIO(instance(7)))
    assert [association.send_c_store(ds).Status for _ in range(2)] == [0, 0]
    association.release()
    assert list(site.kept()) == [uid_of(7)]


def test_every_image_class_is_taken_and_a_report_is_not(site: Site) -> None:
    association = site.associate((*IMAGES, SR))
    assert {str(context.abstract_syntax) for context in association.accepted_contexts} == set(IMAGES)
    assert [str(context.abstract_syntax) for context in association.rejected_contexts] == [SR]
    for number, sop_class in enumerate(IMAGES):
        ds = pydicom.dcmread(io.BytesIO(instance(number, SOPClassUID=sop_class)))
        assert association.send_c_store(ds).Status == 0
    association.release()
    assert len(site.kept()) == len(IMAGES)


def test_a_message_that_names_another_class_than_was_agreed_is_refused(site: Site) -> None:
    association = site.associate()
    association._reactor_checkpoint.clear()  # the answer is ours to take
    while not association._is_paused:
        time.sleep(0.01)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = DX_PROCESSING, uid_of(7)
    request.DataSet = io.BytesIO(data_set(instance(7)))
    agreed = next(c for c in association.accepted_contexts if c.abstract_syntax != DX_PROCESSING)
    association.dimse.send_msg(request, agreed.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert answer.Status == 0x0122
    association.release()
    assert site.kept() == {}


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"free_bytes": 2**62}, 0xA700), ({}, 0x0110)],
)
def test_what_cannot_be_kept_is_not_acknowledged(
    tmp_path: Path, settings: Settings, changes: dict[str, Any], status: int
) -> None:
    site = Site(tmp_path, settings.model_copy(update=changes))
    if not changes:
        site.archive.fault = "the disk failed before"
    association = site.associate()
    ds = pydicom.dcmread(io.BytesIO(instance(7)))
    assert association.send_c_store(ds).Status == status
    association.release()
    assert site.kept() == {}
    site.close()


def test_an_instance_without_end_is_refused_and_leaves_nothing(tmp_path: Path, settings: Settings) -> None:
    site = Site(tmp_path, settings, largest_instance=2**20)
    association = site.associate()
    ds = pydicom.dcmread(io.BytesIO(instance(7, side=1024)))
    assert association.send_c_store(ds).Status == 0xC001
    assert association.send_c_store(pydicom.dcmread(io.BytesIO(instance(8)))).Status == 0
    association.release()
    assert list(site.kept()) == [uid_of(8)]
    assert not list(site.archive.root.rglob("*.part"))
    site.close()


def test_an_aborted_association_loses_nothing_that_was_acknowledged(site: Site) -> None:
    association = site.associate()
    assert association.send_c_store(pydicom.dcmread(io.BytesIO(instance(7)))).Status == 0
    association.abort()
    assert list(site.kept()) == [uid_of(7)]


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("MODALITY", "CARINA", None),
        ("STRANGER", "CARINA", "Calling AE Title Not Recognized"),
        ("MODALITY", "OTHER", "Called AE Title Not Recognized"),
    ],
)
def test_only_listed_senders_that_ask_for_us_are_served(
    tmp_path: Path, settings: Settings, calling: str, called: str, reason: str | None
) -> None:
    peers = settings.dicom.model_validate({"peers": [{"ae_title": "MODALITY"}]}).peers
    site = Site(tmp_path, settings, peers=peers)
    # DCMTK, because pynetdicom now and then takes a refusal for an aborted connection
    command = [program("echoscu", "dcmtk"), "-aet", calling, "-aec", called, "127.0.0.1", site.listener.port]
    done = run(*command, check=reason is None)
    if reason is not None:
        assert done.returncode != 0
        assert "Result: Rejected Permanent, Source: Service User" in done.stderr
        assert f"Reason: {reason}" in done.stderr
    site.close()


def test_a_listed_sender_from_another_address_is_not_even_heard(tmp_path: Path, settings: Settings) -> None:
    peers = settings.dicom.model_validate(
        {"peers": [{"ae_title": "MODALITY", "addresses": ["192.0.2.0/24"]}]}
    ).peers
    site = Site(tmp_path, settings, peers=peers)
    with socket.create_connection(("127.0.0.1", site.listener.port), timeout=5) as caller:
        assert caller.recv(1) == b""
    site.close()


def test_an_address_of_the_network_needs_a_list_of_senders_and_tls(settings: Settings) -> None:
    def listener(**dicom: Any) -> None:
        changed = settings.dicom.model_validate({"host": "0.0.0.0", "port": 0} | dicom)
        given = settings.model_copy(update={"dicom": changed})
        Listener(given, Database("sqlite://"), Archive(settings.archive, given))

    with pytest.raises(ListenerError, match="no sender is listed"):
        listener()
    with pytest.raises(ListenerError, match="without TLS"):
        listener(peers=[{"ae_title": "MODALITY"}])


def test_a_port_that_is_taken_is_told(site: Site, settings: Settings) -> None:
    dicom = settings.dicom.model_copy(update={"port": site.listener.port})
    second = Listener(settings.model_copy(update={"dicom": dicom}), site.database, site.archive)
    with pytest.raises(ListenerError, match="the DICOM port cannot be opened"):
        second.start()


def test_stopping_leaves_no_thread_and_no_half_film(tmp_path: Path, settings: Settings) -> None:
    site = Site(tmp_path, settings)
    association = site.associate()
    begin = time.monotonic()
    site.close()
    assert time.monotonic() - begin < 5
    assert site.listener.associations == 0
    association.abort()


def certificates(folder: Path) -> tuple[Path, Path]:
    openssl = program("openssl", "openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    run(
        openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
        "-days", "2", "-subj", "/CN=localhost",
    )  # fmt: skip
    return certificate, key


def test_over_tls_a_sender_with_the_right_certificate_is_served(tmp_path: Path, settings: Settings) -> None:
    certificate, key = certificates(tmp_path)
    tls = settings.dicom.model_validate(
        {"tls": {"certificate": certificate, "key": key, "ca": certificate}}
    ).tls
    site = Site(tmp_path, settings, tls=tls)
    film = tmp_path / "film.dcm"
    film.write_bytes(instance(7, side=256))
    storescu = [program("storescu", "dcmtk"), "-aec", "CARINA"]
    place = ["127.0.0.1", site.listener.port, film]
    run(*storescu, "+tls", key, certificate, "+cf", certificate, *place)
    assert list(site.kept()) == [uid_of(7)]
    assert (
        run(*storescu, "+tla", "+cf", certificate, *place, check=False).returncode != 0
    )  # shows no certificate
    assert run(*storescu, *place, check=False).returncode != 0  # speaks no TLS
    site.close()
