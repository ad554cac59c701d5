"""A real PACS beside us: Orthanc forwards what it stores, and we keep what it says it kept."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carina.serving.header import read_header
from carina.serving.settings import Settings
from tests.serving.instances import instance, uid_of
from tests.serving.programs import program
from tests.serving.test_listener import Site

FORWARD = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if tags["Modality"] == "DX" or tags["Modality"] == "CR" then
    SendToModality(instanceId, "carina")
  end
end
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def orthanc(folder: Path, carina: int) -> Iterator[str]:
    """A running Orthanc that forwards to the DICOM port ``carina``; yields its REST address."""
    folder.mkdir()
    port = free_port()
    (folder / "forward.lua").write_text(FORWARD)
    settings = {
        "Name": "pacs", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAet": "PACS", "DicomPort": free_port(), "HttpPort": port, "RemoteAccessAllowed": False,
        "DicomModalities": {"carina": ["CARINA", "127.0.0.1", carina]},
        "LuaScripts": [str(folder / "forward.lua")], "Plugins": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program("Orthanc", "orthanc"), str(folder / "orthanc.json")], stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{address}/system", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail((folder / "log").read_text())
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_what_orthanc_stores_is_forwarded_and_kept(tmp_path: Path, settings: Settings) -> None:
    peers = settings.dicom.model_validate({"peers": [{"ae_title": "PACS"}]}).peers
    site = Site(tmp_path, settings, peers=peers)
    films = {uid_of(number): instance(number, study=3, side=128) for number in range(4)}
    try:
        with orthanc(tmp_path / "orthanc", site.listener.port) as address:
            for content in films.values():
                request = urllib.request.Request(f"{address}/instances", content, method="POST")
                with urllib.request.urlopen(request, timeout=20) as answer:
                    assert json.load(answer)["Status"] == "Success"
            end = time.monotonic() + 60
            while len(site.kept()) < len(films) and time.monotonic() < end:
                time.sleep(0.2)
        kept = site.kept()
    finally:
        site.close()
    assert {uid: data_set(content) for uid, content in kept.items()} == {
        uid: data_set(content) for uid, content in films.items()
    }


def data_set(content: bytes) -> bytes:
    return content[read_header(io.BytesIO(content), "").content_at :]
