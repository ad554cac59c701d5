"""How fast the hospital side takes films in: stores a second, and how long a sender waits for its answer.

A listener in a process of its own (SQLite, every film fsynced before it is acknowledged), and senders of
pynetdicom's in others, so that what is measured is ours and not theirs::

    python benchmarks/serving.py                    # 4 and 20 associations, half a megabyte
    python benchmarks/serving.py --films 4000 --database postgresql+psycopg://…

Prints stores a second, and the median, 95th percentile and maximum of the time from the first byte of a
C-STORE request to its response.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 512  # × 512 × 16 bits: half a megabyte


def film(number: int) -> bytes:
    """A DX instance of its own study, half a megabyte."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.StudyInstanceUID = f"2.25.1{number:09}", f"2.25.2{number:09}"
    ds.SeriesInstanceUID = f"2.25.3{number:09}"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = f"B{number}", f"Bench^{number}", "F", "045Y"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.Modality = "20261123", "120000", f"A{number}", "DX"
    ds.BodyPartExamined, ds.ViewPosition, ds.SeriesNumber, ds.InstanceNumber = "CHEST", "PA", 1, 1
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    pixels = np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def serve(folder: str, url: str | None, channel: Any) -> None:
    """The listener's process: tells its port, then waits to be stopped."""
    from carina.serving.archive import Archive
    from carina.serving.database import Database
    from carina.serving.listener import Listener
    from carina.serving.schema import Base
    from carina.serving.settings import Settings

    data = Path(folder)
    settings = Settings.model_validate(
        {"data": data, "free_bytes": 0, "dicom": {"port": 0, "associations": 40, "per_address": 40}}
    )
    data.mkdir(exist_ok=True)
    database = Database(url or settings.database_url)
    Base.metadata.create_all(database.engine)
    listener = Listener(settings, database, Archive(settings.archive, settings))
    listener.start()
    channel.send(listener.port)
    begin = time.process_time()
    channel.recv()
    listener.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    channel.send((listener.received, time.process_time() - begin, peak))


def send(port: int, paths: list[str], begin: Any, results: Any) -> None:
    """One association that sends ``paths`` one after another, chunks straight from the disk."""
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    from pynetdicom import AE, _config

    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = AE(ae_title="BENCH")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="CARINA")
    begin.wait()
    waits = []
    for path in paths:
        start = time.perf_counter()
        status = association.send_c_store(Path(path))
        waits.append(time.perf_counter() - start)
        if status.get("Status") != 0:
            sys.exit(f"{path}: status {status}")
    association.release()
    results.put(waits)


def measure_waits(port: int, files: list[str], associations: int) -> tuple[float, list[float]]:
    """Seconds in all, and the waits, of ``files`` over so many associations of pynetdicom's."""
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(associations + 1), context.Queue()
    senders = [
        context.Process(target=send, args=(port, files[number::associations], begin, results))
        for number in range(associations)
    ]
    for sender in senders:
        sender.start()
    begin.wait()
    start = time.perf_counter()
    waits = [wait for _ in senders for wait in results.get()]
    seconds = time.perf_counter() - start
    for sender in senders:
        sender.join()
    return seconds, waits


def measure_rate(port: int, files: list[str], associations: int) -> float:
    """Seconds that so many ``storescu`` (DCMTK) take for ``files`` between them."""
    start = time.perf_counter()
    command = ["storescu", "-R", "-xe", "-aec", "CARINA", "--max-send-pdu", "131072", "127.0.0.1", str(port)]
    running = [subprocess.Popen([*command, *files[n::associations]]) for n in range(associations)]
    if any(process.wait() for process in running):
        sys.exit("storescu failed")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--associations", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--database", help="SQLAlchemy's URL; SQLite beside the archive by default")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(f"{folder}/site", given.database, there))
        server.start()
        port = here.recv()
        number = 0
        for associations in given.associations:
            files = []
            for _ in range(given.films):
                files.append(f"{folder}/{number:06}.dcm")
                Path(files[-1]).write_bytes(film(number))
                number += 1
            half = len(files) // 2
            seconds = measure_rate(port, files[:half], associations)
            print(f"{associations:3} × storescu:    {half / seconds:6.0f} stores/s")
            seconds, waits = measure_waits(port, files[half:], associations)
            waits.sort()
            late = waits[int(0.95 * len(waits))]
            print(
                f"{associations:3} × pynetdicom:  {len(waits) / seconds:6.0f} stores/s; acknowledged in "
                f"{1000 * statistics.median(waits):.0f} ms (median), {1000 * late:.0f} ms (95 %), "
                f"{1000 * waits[-1]:.0f} ms (longest)"
            )
            for file in files:
                Path(file).unlink()
        here.send("stop")
        received, seconds, peak = here.recv()
        server.join()
        each = 1000 * seconds / received
        print(f"listener: {received} kept, {each:.1f} ms of processor each, {peak / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
