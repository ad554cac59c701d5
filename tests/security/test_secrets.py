"""What a patient is called, and what opens a door, stands in no log, metric, error or notification."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import quote

import films

from tests.security.figures import Tell
from tests.security.house import PASSWORD, House, until
from tests.security.sender import Sender
from tests.security.ways import content_at

MARK = "ZQXV"  # begins every planted word
PLANTED = {
    "PatientName": "ZQXVNAME^ADA", "PatientID": "ZQXVID7", "OtherPatientNames": "ZQXVOTHER",
    "PatientBirthName": "ZQXVBIRTH", "PatientMotherBirthName": "ZQXVMOTHER", "PatientAddress": "ZQXVSTREET",
    "PatientTelephoneNumbers": "ZQXVPHONE", "PatientComments": "ZQXVCOMMENT", "AccessionNumber": "ZQXVACC",
    "StudyDescription": "ZQXVSTUDY", "SeriesDescription": "ZQXVSERIES", "InstitutionName": "ZQXVHOUSE",
    "ReferringPhysicianName": "ZQXVDOCTOR", "OperatorsName": "ZQXVOPERATOR", "StudyID": "ZQXVSID",
    "RequestingPhysician": "ZQXVREQ", "ImageComments": "ZQXVIMAGE", "IssuerOfPatientID": "ZQXVISSUER",
    "MedicalAlerts": "ZQXVALERT", "PerformingPhysicianName": "ZQXVPERF",
}  # fmt: skip


def planted(number: int, **more: object) -> bytes:
    """A film of a patient whose every fact is marked."""
    uid = f"1.2.826.0.1.3680043.10.999.55.{number}"
    given = (
        PLANTED
        | {"SOPInstanceUID": uid, "StudyInstanceUID": f"{uid}.1", "SeriesInstanceUID": f"{uid}.2"}
        | more
    )
    return films.dicom(films.chest(seed=number), **given)


def children(pid: int) -> list[int]:
    """The processes that the service started, by whichever of its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for each in threads for child in (each / "children").read_text().split()]


def test_planted_names_and_passwords_are_found_nowhere(house: House, tell: Tell, tmp_path: Path) -> None:
    heard: list[str] = []
    key = house.keys["reader"]
    with house.client() as reader, house.client("admin") as admin:
        for number, more in enumerate(({}, {"Rows": 60_000}, {"NumberOfFrames": "900"}, {"Modality": "CT"})):
            content = planted(number, **more)
            heard.append(reader.post("/api/v1/uploads", content=content).text)
            heard.append(reader.post("/api/v1/uploads", content=content[: len(content) // 2]).text)
            heard.append(reader.post("/api/v1/uploads", content=content[:400]).text)
        sender = Sender(house.dicom_port)
        for number in range(10, 13):
            content = planted(number)
            body = content[content_at(content) :]
            sender.send(body[: len(body) // (number - 9)], f"1.2.3.{MARK}"[:7])
        sender.close()
        until(house.at_rest)
        for child in children(house.pid):  # a decoder dies over a film
            os.kill(child, signal.SIGSEGV)
        for number in range(20, 23):
            heard.append(reader.post("/api/v1/uploads", content=planted(number)).text)
        until(house.at_rest)
        for method, path, body in (
            ("POST", "/api/v1/users", {"name": "x", "password": f"{MARK}PASSWORD LONG"}),
            ("POST", "/api/v1/users", {"name": f"{MARK} name with blanks", "password": PASSWORD}),
            ("POST", "/api/v1/reports", [{"accession": f"{MARK}A", "disease": "perhaps"}]),
            ("POST", "/api/v1/keys", {"name": "y", "role": f"{MARK}ROLE"}),
            ("POST", "/api/v1/step", {"step": MARK}),
        ):
            admin.request(method, path, json=body)
        reader.get(f"/worklist?q={MARK}NAME", headers={"Accept": "text/html"})
        reader.get(f"/studies/{MARK}", headers={"Accept": "text/html"})
        reader.get("/api/v1/worklist", headers={"Authorization": f"Bearer {key}{MARK}"})
        with house.client() as nobody:
            form = {"name": f"{MARK}USER", "password": f"{MARK}GUESS", "form": ""}
            nobody.post("/sign-in", data=form, headers={"Authorization": "", "Origin": house.address})
        told = {
            "metrics": reader.get("/metrics").text,
            "health": reader.get("/health").text,
            "ready": reader.get("/ready").text,
            "status": reader.get("/api/v1/status").text,
            "audit log": admin.get("/api/v1/audit-log?limit=1000").text,
            "events": str(reader.get("/api/v1/deliveries").text),
            "answers to uploads": "\n".join(heard),
            "log": house.said(),
            "files beside archive and database": _plain_files(house),
        }
    secrets = (MARK, quote(MARK), PASSWORD, *house.keys.values())
    found = {(place, secret) for place, text in told.items() for secret in secrets if secret in text}
    size = sum(map(len, told.values()))
    tell(
        "secrets",
        f"{len(PLANTED)} marked facts of 13 patients, passwords and keys, in {size / 1e3:.0f} kB of log, "
        f"metrics, errors, audit log and answers: {len(found)}",
    )
    assert found == set()
    assert "stored" in house.said()
    with house.database.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert not [secret for secret in (PASSWORD, *house.keys.values()) if secret in dump], "hashes only"
    assert "ZQXVNAME" in dump, "the list itself names patients"


def _plain_files(house: House) -> str:
    """Everything that the service wrote, but films and tables."""
    skipped = (
        house.log,
        house.data / "carina.sqlite",
        house.data / "carina.sqlite-wal",
        house.data / "carina.sqlite-shm",
    )
    return "\n".join(
        path.read_text("utf-8", "replace")
        for path in house.folder.rglob("*")
        if path.is_file() and path not in skipped and "archive" not in path.parts
    )
