"""A real Orthanc, as Debian has it, on free ports of this machine and in a folder of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.serving.programs import program

WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """An Orthanc that can be stopped and started again; what it stored stays."""

    def __init__(self, folder: Path, *, carina: int | None = None, lua: str | None = None) -> None:
        """``carina``: the port of our listener, a modality of that name; ``lua``: a script it runs."""
        self._program, self._folder = program("Orthanc", "orthanc"), folder
        self.dicom, self.http = _free_port(), _free_port()
        folder.mkdir(parents=True)
        scripts = []
        if lua is not None:
            (folder / "route.lua").write_text(lua)
            scripts.append(str(folder / "route.lua"))
        settings = {
            "Name": "pacs",
            "DicomAet": "PACS",
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {} if carina is None else {"carina": ["CARINA", "127.0.0.1", carina]},
            "LuaScripts": scripts,
            "Plugins": [str(WEB)] if WEB.is_file() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Ssl": False},
            "ConcurrentJobs": 2,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """The root of its REST interface."""
        return f"http://127.0.0.1:{self.http}"

    def start(self) -> None:
        """Start it; returns when it answers."""
        log = (self._folder / "log").open("ab")
        self._running = subprocess.Popen(
            [self._program, self._folder / "orthanc.json"], stdout=log, stderr=log, cwd=self._folder
        )
        log.close()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self._running.poll() is None, (self._folder / "log").read_text()
            try:
                self.get("/system")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("Orthanc does not answer")

    def stop(self) -> None:
        """Stop it as a service manager would."""
        if self._running is not None:
            self._running.terminate()
            self._running.wait(30)
        self._running = None

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        request = urllib.request.Request(self.url + path, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"[]")

    def post(self, path: str, body: bytes) -> Any:
        """The JSON that a POST answers with."""
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=20) as answer:
            return json.loads(answer.read())

    def found(self, study_uid: str) -> list[dict[str, Any]]:
        """All instances of a study: their UID, class and series description (by DICOMweb where it has it)."""
        if WEB.is_file():
            fields = "includefield=SeriesDescription&includefield=SOPClassUID"
            rows = self.get(f"/dicom-web/instances?StudyInstanceUID={study_uid}&{fields}")
            return [
                {
                    "uid": _value(each, "00080018"),
                    "class": _value(each, "00080016"),
                    "says": _value(each, "0008103E"),
                }
                for each in rows
            ]
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study_uid}}
        rows = self.post("/tools/find", json.dumps(query).encode())
        tags = [self.get(f"/instances/{each['ID']}/simplified-tags") for each in rows]
        return [
            {
                "uid": each["SOPInstanceUID"],
                "class": each["SOPClassUID"],
                "says": each.get("SeriesDescription"),
            }
            for each in tags
        ]


def _value(row: dict[str, Any], tag: str) -> str | None:
    values = row.get(tag, {}).get("Value", [])
    return str(values[0]) if values else None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
