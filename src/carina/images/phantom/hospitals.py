"""Folders of phantoms as hospitals hand them over: different looks, layouts and file formats.

Three to learn from, a fourth that was never seen, and what goes wrong in real collections planted on
purpose: copies under other names, copies with another label, files that cannot be read.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from carina.errors import OutputError
from carina.folders import claimed, whole
from carina.images.phantom.dicom import write_dicom
from carina.images.phantom.exposure import Look
from carina.images.phantom.film import Phantom, phantom
from carina.records import Progress
from carina.taxonomy import SIX_CLASSES

HOSPITALS: dict[str, Look] = {
    "hospital_a": Look(aspect=0.86, letters="L", letters_at="top right", collimation=0.02),
    "hospital_b": Look(
        gamma=1.2, contrast=1.1, noise=0.02, border=0.03, letters="R\nERECT", letters_at="top left",
        ap_share=0.3,
    ),
    "hospital_c": Look(aspect=1.12, gamma=0.85, contrast=0.9, bits=12, collimation=0.05, noise=0.015),
    "hospital_d": Look(
        stretch=1.06, gamma=1.1, noise=0.02, blur=1, collimation=0.03, letters="L  42",
        letters_at="bottom right",
    ),
}  # fmt: skip

_SOURCES = ("hospital_a", "hospital_b", "hospital_c")
_HOME = {name: _SOURCES[number % 3] for number, name in enumerate(SIX_CLASSES)}
_COPIES, _CONFLICTS = 6, 2
_MOST_PATIENTS = 100_000  # under one seed: their numbers must not run into those of the next


@dataclass(frozen=True, slots=True)
class _Planned:
    """One film to be written."""

    hospital: str
    class_name: str
    patient: int  # the phantom's number
    folder_name: str  # the patient as the hospital names it
    film: int  # 1, 2 … within the patient
    path: Path
    look: Look
    size: int


def write_phantoms(
    out: Path,
    *,
    per_class: int = 60,
    seed: int = 0,
    confounded: float = 0.0,
    unseen: int = 24,
    size: int = 512,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Path]:
    """Three hospitals below ``out`` and, in ``out/unseen``, ``unseen`` films of a fourth; name → folder.

    ``out`` appears when all of it is written: killed half-way, the same command starts again.
    ``OutputError`` where ``out`` is not empty or cannot be written.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - "." has no name to write beside
    with claimed(out.parent):
        _must_be_empty(out)
        try:
            with whole(out) as folder:
                made = write_hospitals(
                    folder,
                    per_class=per_class,
                    seed=seed,
                    confounded=confounded,
                    size=size,
                    progress=progress,
                )
                if unseen:
                    made["unseen"] = write_unseen(folder / "unseen", count=unseen, seed=seed + 1, size=size)
        except OSError as error:
            raise OutputError(
                f"{out}: cannot be written ({error.strerror}); make room or name another folder with --out"
            ) from error
    return {name: out / path.relative_to(folder) for name, path in made.items()}


def write_hospitals(
    out: Path,
    *,
    per_class: int = 60,
    seed: int = 0,
    confounded: float = 0.0,
    size: int = 512,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Path]:
    """Write three hospitals of phantoms below ``out``; hospital name → its folder.

    ``hospital_a`` has a folder per class of PNG files ``p<patient>_<film>.png``; ``hospital_b`` has
    ``films.csv`` (path, label, patient, age, sex, view) beside JPEG files; ``hospital_c`` a tree
    patient/study/instance of 12-bit DICOM, some MONOCHROME1, with ``labels.csv`` (path, label).
    Together they hold ``per_class`` films of each of the six classes, one to three a patient, and no
    patient in two of them.

    ``confounded`` 0: every hospital has all classes in equal shares; 1: a class comes from one
    hospital only; between: that share of patients. Below 1, six films of ``hospital_a`` stand in
    ``hospital_b`` again, re-compressed under other names, and two more with a wrong label; ``out``'s
    ``planted.csv`` lists them, beyond ``per_class``. The same arguments give the same bytes.
    ``OutputError`` where ``out`` is not empty, ``ValueError`` for impossible numbers.
    """
    if not 0 <= confounded <= 1:
        raise ValueError(f"confounded is {confounded}; it is a share between 0 and 1")
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; at least one film of a class is needed")
    _must_be_empty(out)
    plan = _plan(out, per_class, seed, confounded, size)
    rows: dict[str, list[list[object]]] = {name: [] for name in _SOURCES}
    for done, (film, made) in enumerate(_write_all(plan, workers), 1):
        path = film.path.relative_to(out / film.hospital).as_posix()
        person = [film.folder_name, made.age, made.sex, made.view] if film.hospital == "hospital_b" else []
        rows[film.hospital].append([path, film.class_name, *person])
        if progress:
            progress(Progress("phantoms", done, len(plan), {"path": str(film.path)}))
    if confounded < 1:
        _plant_copies(out, [film for film in plan if film.hospital == "hospital_a"], rows["hospital_b"])
    columns = ["path", "label", "patient", "age", "sex", "view"]
    _write_csv(out / "hospital_b" / "films.csv", columns, rows["hospital_b"])
    _write_csv(out / "hospital_c" / "labels.csv", columns[:2], rows["hospital_c"])
    return {name: out / name for name in _SOURCES}


def write_unseen(out: Path, *, count: int = 24, seed: int = 99, size: int = 512) -> Path:
    """Write ``count`` films of a fourth hospital, as PNG, JPEG and DICOM in turn, and two broken files.

    Returns the folder to score, ``out/films``; ``out/truth.csv`` (path, label, finding, severity) lies
    beside it. The broken ones are ``unseen_cut.jpg``, a JPEG that ends early, and ``unseen_text.png``,
    which is no image; the truth does not list them. ``OutputError`` where ``out`` is not empty.
    """
    _must_be_empty(out)
    order = np.random.default_rng([seed, 7]).permutation(count)
    plan = []
    for place, number in enumerate(order.tolist()):
        suffix = ("png", "jpg", "dcm")[place % 3]
        look = replace(HOSPITALS["hospital_d"], bits=12 if suffix == "dcm" else 8)
        path = out / "films" / f"unseen_{place + 1:04d}.{suffix}"
        patient = seed * _MOST_PATIENTS + place
        class_name = SIX_CLASSES[number % len(SIX_CLASSES)]
        plan.append(_Planned("hospital_d", class_name, patient, f"D{place + 1:04d}", 1, path, look, size))
    truth = [
        [film.path.name, film.class_name, made.finding, f"{made.severity:.2f}"]
        for film, made in _write_all(plan)
    ]
    _write_csv(out / "truth.csv", ["path", "label", "finding", "severity"], truth)
    whole = io.BytesIO()
    made = phantom(
        SIX_CLASSES[0], seed=seed * _MOST_PATIENTS + count, look=HOSPITALS["hospital_d"], size=size
    )
    Image.fromarray(made.pixels).save(whole, "JPEG", quality=90)
    (out / "films" / "unseen_cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) * 6 // 10])
    (out / "films" / "unseen_text.png").write_text("This film was not exported.\n", encoding="utf-8")
    return out / "films"


def _plan(out: Path, per_class: int, seed: int, confounded: float, size: int) -> list[_Planned]:
    """Who is filmed where, how often, and under which name. Names and order say nothing of the class."""
    rng = np.random.default_rng([seed, 5])
    people: list[tuple[str, str, int]] = []  # class, hospital, films
    for class_name in SIX_CLASSES:
        free = left = 0
        patients = 0
        for number in range(per_class):
            at_home = int((number + 1) * confounded) > int(number * confounded)
            if number < left:
                continue
            films = min(int(rng.integers(1, 4)), per_class - number)
            left = number + films
            hospital = _HOME[class_name] if at_home else _SOURCES[free % 3]
            free += not at_home
            patients += 1
            people.append((class_name, hospital, films))
    if len(people) > _MOST_PATIENTS:
        raise ValueError(f"per_class is {per_class}; at most {_MOST_PATIENTS} patients can be told apart")
    plan = []
    for number, which in enumerate(rng.permutation(len(people)).tolist(), 1):
        class_name, hospital, films = people[which]
        name = f"{hospital[-1].upper()}{number:04d}" if hospital != "hospital_a" else f"p{number:04d}"
        for film in range(1, films + 1):
            path = out / hospital / _file_name(hospital, class_name, name, film)
            patient = seed * _MOST_PATIENTS + number
            plan.append(_Planned(hospital, class_name, patient, name, film, path, HOSPITALS[hospital], size))
    return plan


def _file_name(hospital: str, class_name: str, patient: str, film: int) -> str:
    if hospital == "hospital_a":
        return f"{class_name}/{patient}_{film}.png"
    if hospital == "hospital_b":
        return f"images/{patient.lower()}-{film}.jpg"
    return f"{patient}/study{film}/IM0001.dcm"


def _write_all(plan: Sequence[_Planned], workers: int | None = None) -> Iterable[tuple[_Planned, Phantom]]:
    """Make and write every film, in threads (most of the time numpy and Pillow hold no lock), in order."""
    import pydicom  # noqa: F401 - here, in one thread: its parts import each other while it is half loaded

    for folder in {film.path.parent for film in plan}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        yield from zip(plan, pool.map(_write, plan), strict=True)


def _write(film: _Planned) -> Phantom:
    made = phantom(film.class_name, seed=film.film, patient=film.patient, look=film.look, size=film.size)
    if film.path.suffix == ".png":
        Image.fromarray(made.pixels).save(film.path, "PNG", compress_level=3)
    elif film.path.suffix == ".jpg":
        Image.fromarray(made.pixels).save(film.path, "JPEG", quality=92)
    else:
        write_dicom(film.path, made, film.folder_name, film.film, inverted=film.patient % 3 == 0)
    return made


def _plant_copies(out: Path, films: Sequence[_Planned], rows: list[list[object]]) -> None:
    """Put films of hospital_a into hospital_b once more: smaller, re-compressed, some under a wrong label."""
    firsts = [film for film in films if film.film == 1]
    wanted = min(_COPIES + _CONFLICTS, len(firsts))
    planted = []
    for number in range(wanted):
        film = firsts[number * len(firsts) // wanted]
        label = film.class_name
        if number >= _COPIES:
            label = SIX_CLASSES[(SIX_CLASSES.index(label) + 1) % len(SIX_CLASSES)]
        name = f"images/transfer{number + 1:02d}.jpg"
        with Image.open(film.path) as image:
            smaller = image.resize(
                (image.width * 85 // 100, image.height * 85 // 100), Image.Resampling.LANCZOS
            )
        (out / "hospital_b" / "images").mkdir(parents=True, exist_ok=True)
        smaller.save(out / "hospital_b" / name, "JPEG", quality=72)
        rows.append([name, label, f"B9{number + 1:03d}", "", "", ""])
        planted.append([f"hospital_b/{name}", label, film.path.relative_to(out).as_posix(), film.class_name])
    _write_csv(out / "planted.csv", ["path", "label", "copy_of", "true_label"], planted)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _must_be_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: phantoms need an empty folder, and something is there; name another")
