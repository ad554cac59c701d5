"""How fast the hospital side takes films in: stores a second, and how long a sender waits for its answer.

A listener in a process of its own (SQLite, every film fsynced before it is acknowledged), in turn with the
least that could be called one: pynetdicom with a handler that writes the data set and fsyncs it, without a
database, without proof, without limits. Senders are DCMTK's for the rate, and pynetdicom's for the waits::

    python benchmarks/serving.py                    # 4 and 20 associations, half a megabyte
    python benchmarks/serving.py --films 4000 --database postgresql+psycopg://…

Prints stores a second, processor time for each, and the median, 95th percentile and maximum of the time from
the first byte of a C-STORE request to its response. The senders take processor too, from the same machine.
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


def serve_bare(folder: str, _url: str | None, channel: Any) -> None:
    """The prototype's process: what pynetdicom's documentation shows, and an fsync."""
    import os

    from pynetdicom import AE, AllStoragePresentationContexts, evt

    data = Path(folder)
    data.mkdir(exist_ok=True)
    received = 0

    def store(event: Any) -> int:
        nonlocal received
        handle = os.open(data / f"{event.request.AffectedSOPInstanceUID}.dcm", os.O_WRONLY | os.O_CREAT)
        os.write(handle, event.encoded_dataset())
        os.fsync(handle)
        os.close(handle)
        received += 1
        return 0

    entity = AE(ae_title="CARINA")
    entity.supported_contexts = AllStoragePresentationContexts[:120]
    entity.maximum_associations, entity.maximum_pdu_size = 40, 262144
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    channel.send(server.server_address[1])
    begin = time.process_time()
    channel.recv()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    channel.send((received, time.process_time() - begin, peak))
    server.shutdown()


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
    parser.add_argument("--films", type=int, default=500, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--database", help="SQLAlchemy's URL; SQLite beside the archive by default")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        channels, ports, servers = {}, {}, []
        for name, target in (("carina", serve), ("bare", serve_bare)):
            channels[name], there = context.Pipe()
            servers.append(context.Process(target=target, args=(f"{folder}/{name}", given.database, there)))
            servers[-1].start()
            ports[name] = channels[name].recv()
        number = 0
        for associations in given.associations:
            rates: dict[str, list[float]] = {name: [] for name in ports}
            waits: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(given.rounds):
                files = []
                for _ in range(given.films):
                    files.append(f"{folder}/{number:06}.dcm")
                    Path(files[-1]).write_bytes(film(number))
                    number += 1
                half = len(files) // 2
                for name, port in ports.items():
                    rates[name].append(half / measure_rate(port, files[:half], associations))
                    waits[name] += measure_waits(port, files[half:], associations)[1]
                for file in files:
                    Path(file).unlink()
            for name in ports:
                report(name, associations, rates[name], sorted(waits[name]))
            ratios = [ours / bare for ours, bare in zip(rates["carina"], rates["bare"], strict=True)]
            print(f"{associations:3} associations: {statistics.median(ratios):.2f} times the bare prototype")
        for (name, channel), server in zip(channels.items(), servers, strict=True):
            channel.send("stop")
            received, seconds, peak = channel.recv()
            server.join()
            each = 1000 * seconds / received
            print(f"{name}: {received} kept, {each:.1f} ms of processor each, {peak / 2**20:.0f} MB")


def report(name: str, associations: int, rates: list[float], waits: list[float]) -> None:
    """One line: the median rate of the rounds, and the waits of all of them (seconds, sorted)."""
    print(
        f"{associations:3} × {name:7} {statistics.median(rates):5.0f} stores/s ({min(rates):.0f} to "
        f"{max(rates):.0f}); acknowledged in {1000 * statistics.median(waits):.0f} ms (median), "
        f"{1000 * waits[int(0.95 * len(waits))]:.0f} ms (95 %), {1000 * waits[-1]:.0f} ms (longest)",
        flush=True,
    )


if __name__ == "__main__":
    main()
