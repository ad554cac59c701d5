"""From a film to its decision: alone, and two thousand at once, through ``carina serve`` as it is started.

    python benchmarks/burst.py --films 2000 --single 40

The service (SQLite, all roles in one process, a ResNet18 of random weights at 224 px) receives DICOM films
with JPEG streams of 1500 × 1200. First one at a time: from the first byte of the C-STORE request to the
moment at which the database has the decision. Then all at once over four associations (DCMTK's ``storescu``),
with one study asked for by a reader while it waits; from the first store to the last decision, and from the
last store on. Before and after it, ``carina score`` takes the same films from a folder: the pipeline's own
rate, in the same run. Prints the shares, the place at which the study asked for was scored, and the memory.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from random_bundle import random_bundle
from scoring import children, resident, shades

DISTINCT = 24


def film(number: int, stream: bytes) -> bytes:
    """A DX instance, a study of its own, around a JPEG stream of 1500 × 1200."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import DigitalXRayImageStorageForPresentation, JPEGBaseline8Bit

    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.StudyInstanceUID = f"2.25.4{number:09}", f"2.25.5{number:09}"
    ds.SeriesInstanceUID = f"2.25.6{number:09}"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = f"B{number}", f"Burst^{number}", "F", "045Y"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.Modality = "20261123", "120000", f"A{number}", "DX"
    ds.BodyPartExamined, ds.ViewPosition, ds.SeriesNumber, ds.InstanceNumber = "CHEST", "PA", 1, 1
    ds.Rows, ds.Columns = 1200, 1500
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    whole = io.BytesIO()
    ds.save_as(whole, enforce_file_format=True)
    return whole.getvalue()


def make_films(folder: Path, count: int, first: int) -> list[str]:
    """``count`` files, numbered from ``first``; DISTINCT different pictures."""
    folder.mkdir(exist_ok=True)
    streams = []
    for number in range(min(count, DISTINCT)):
        gray = np.rint(255 * shades(1200, 1500, number)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(gray).save(stream, "JPEG", quality=90)
        streams.append(stream.getvalue())
    paths = []
    for number in range(count):
        paths.append(str(folder / f"{first + number:06}.dcm"))
        Path(paths[-1]).write_bytes(film(first + number, streams[number % DISTINCT]))
    return paths


class Service:
    """``carina serve`` in a process of its own, and its database, read from here."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.data = folder / "site"
        settings = {"DATA": self.data, "MODEL": bundle, "FREE_BYTES": 0,
                    "DICOM": '{"port": 0}', "WEB": '{"port": 0}'}  # fmt: skip
        environment = {**os.environ, **{f"CARINA_{name}": str(value) for name, value in settings.items()}}
        self.log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "carina", "serve"], stdout=subprocess.PIPE, stderr=self.log, text=True,
            env=environment,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = 0
        for line in self._process.stdout:
            found = re.search(r":(\d+)[/,]", line)
            if line.startswith("DICOM") and found:
                self.port = int(found[1])
                break
        if not self.port:
            sys.exit(f"carina serve did not start: {(folder / 'log').read_text()[-2000:]}")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self._database = sqlite3.connect(f"file:{self.data}/carina.sqlite?mode=ro", uri=True)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._process.terminate()
        self._process.wait(60)
        self.log.close()

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Rows."""
        return self._database.execute(statement, values).fetchall()

    def decided(self) -> int:
        """Films that something was said of."""
        return int(self.ask("select count(*) from predictions")[0][0])

    def memory(self) -> float:
        """MB of all its processes, what they share divided among them."""
        return sum(resident(pid) for pid in [self._process.pid, *children(self._process.pid)])


def one_at_a_time(service: Service, paths: list[str]) -> list[float]:
    """Seconds from the request to the decision of each."""
    from pydicom.uid import DigitalXRayImageStorageForPresentation, JPEGBaseline8Bit
    from pynetdicom import AE, _config

    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = AE(ae_title="BENCH")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, JPEGBaseline8Bit)
    association = entity.associate("127.0.0.1", service.port, ae_title="CARINA")
    waits = []
    for path in paths:
        before, begin = service.decided(), time.perf_counter()
        status = association.send_c_store(Path(path))
        if status.get("Status") != 0:
            sys.exit(f"{path}: status {status}")
        while service.decided() == before:
            time.sleep(0.005)
        waits.append(time.perf_counter() - begin)
        time.sleep(0.2)
    association.release()
    return waits


def burst(service: Service, paths: list[str]) -> dict[str, float]:
    """All films over four associations; seconds, the place of the study asked for, and the peak of memory."""
    before, first = service.decided(), service.ask("select coalesce(max(id), 0) from instances")[0][0]
    command = ["storescu", "-R", "-xy", "-aec", "CARINA", "--max-send-pdu", "131072", "127.0.0.1",
               str(service.port)]  # fmt: skip
    begin = time.perf_counter()
    senders = [subprocess.Popen([*command, *paths[number::4]]) for number in range(4)]
    found: dict[str, float] = {"memory": 0.0}
    while (done := service.decided() - before) < len(paths):
        found["memory"] = max(found["memory"], service.memory())
        if "stored" not in found and all(each.poll() is not None for each in senders):
            if any(each.returncode for each in senders):
                sys.exit("storescu failed")
            found["stored"], found["then"] = time.perf_counter() - begin, done
            last = service.ask("select instance_id from jobs order by id desc limit 1")[0][0]
            hurry(service.data / "carina.sqlite", last)
            asked = service.decided()
            found["waiting"] = len(paths) - (asked - before)
        time.sleep(0.05)
    found["seconds"] = time.perf_counter() - begin
    up_to = "select count(*) from predictions where id <= (select id from predictions where instance_id = ?)"
    found["place"] = service.ask(up_to, last)[0][0] - asked
    refused = "select count(*) from predictions where code is not null and instance_id > ?"
    found["refused"] = service.ask(refused, first)[0][0]
    return found


def hurry(database: Path, instance: int) -> None:
    """What a reader's "f" writes."""
    with sqlite3.connect(database, timeout=30) as writer:
        ask = "update jobs set priority = -1 where instance_id = ? and state = 'waiting'"
        writer.execute(ask, (instance,))


def folder_rate(paths: list[str], bundle: Path, out: Path) -> float:
    """Films a second of ``carina score`` over the same files, its start included."""
    begin = time.perf_counter()
    line = [sys.executable, "-m", "carina", "score", str(Path(paths[0]).parent), "--model", str(bundle)]
    done = subprocess.run([*line, "--out", str(out)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return len(paths) / (time.perf_counter() - begin)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--single", type=int, default=40, help="films that come alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carina-burst-") as name:
        folder = Path(name)
        bundle = random_bundle(folder / "bundle")
        alone = make_films(folder / "single", args.single, 0)
        many = make_films(folder / "many", args.films, args.single)
        print(f"load at the start {os.getloadavg()[0]:.1f}", flush=True)
        rates = [folder_rate(many, bundle, folder / "before.csv")]
        with Service(folder, bundle) as service:
            waits = sorted(one_at_a_time(service, alone))
            idle = service.memory()
            found = burst(service, many)
        rates.append(folder_rate(many, bundle, folder / "after.csv"))
    rate = sum(rates) / 2
    middle, late = waits[len(waits) // 2], waits[int(0.95 * len(waits))]
    print(f"alone: request to decision {1000 * middle:.0f} ms (median), {1000 * late:.0f} ms (95 %)")
    whole = args.films / found["seconds"]
    drained = (args.films - found["then"]) / (found["seconds"] - found["stored"])
    print(f"carina score: {rates[0]:.1f} and {rates[1]:.1f} films/s")
    print(f"burst of {args.films}: stored in {found['stored']:.1f} s, decided after {found['seconds']:.1f} s")
    for name, found_rate in (("in all", whole), ("once all were stored", drained)):
        print(f"  {name}: {found_rate:.1f} films/s, {100 * found_rate / rate:.0f} % of carina score")
    print(f"  not analysed: {found['refused']:.0f}")
    print(f"asked for while {found['waiting']:.0f} waited: scored as number {found['place']:.0f} after that")
    print(f"memory in all: {idle:.0f} MB at rest, {found['memory']:.0f} MB at most")


if __name__ == "__main__":
    main()
