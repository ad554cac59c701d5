"""Films in by upload and STOW-RS, and out again: bytes, gray values, small pictures, heat maps."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update
from starlette.testclient import TestClient

from carina.images.read import read
from carina.serving.housekeeping import REMOVED
from carina.serving.schema import Instance
from carina.serving.web.app import create_app
from tests.films import chest, dicom, encode
from tests.serving.web.scene import Scene, phantom_file

Client = Callable[..., TestClient]


def test_an_uploaded_film_is_on_the_list_and_comes_back_byte_for_byte(
    scene: Scene, client: Client, tmp_path: Path
) -> None:
    film, reader = phantom_file(tmp_path, 4), client("reader")
    first = reader.post("/api/v1/uploads?name=../../x%0d%0a.dcm", content=film)
    assert first.status_code == 201, first.text
    kept = first.json()["files"][0]
    assert (kept["status"], kept["name"]) == ("stored", "x.dcm")
    again = reader.post("/api/v1/uploads", content=film).json()["files"][0]
    assert (again["status"], again["study"]) == ("known", kept["study"])
    rows = reader.get("/api/v1/worklist").json()["rows"]
    assert [(row["id"], row["urgency"], row["state"]) for row in rows] == [
        (kept["study"], "not analysed", "arriving")
    ]
    back = reader.get(f"/api/v1/instances/{kept['instance']}/file")
    assert back.content == film
    assert back.headers["content-type"] == "application/dicom"
    assert back.headers["content-disposition"] == f'attachment; filename="carina-{kept["instance"]}.dcm"'


def test_a_zip_is_taken_file_by_file_and_says_what_became_of_each(
    scene: Scene, client: Client, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/one.dcm", phantom_file(tmp_path, 5))
        archive.writestr("../../two.png", encode(chest(), "PNG"))
        archive.writestr("letter.txt", "dear all")
    answer = client("reader").post("/api/v1/uploads?name=ward.zip", content=buffer.getvalue())
    assert answer.status_code == 201
    files = answer.json()["files"]
    assert [(each["name"], each["status"]) for each in files] == [
        ("one.dcm", "stored"), ("two.png", "stored"), ("letter.txt", "refused"),
    ]  # fmt: skip
    assert "neither DICOM nor JPEG nor PNG" in files[2]["fault"]
    assert len(client("reader").get("/api/v1/worklist").json()["rows"]) == 2


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>", b"PK\x03\x04 not a zip"])
def test_what_is_no_film_is_refused_in_a_sentence(client: Client, content: bytes) -> None:
    answer = client("reader").post("/api/v1/uploads", content=content)
    assert answer.status_code == 415
    assert len(answer.json()["detail"]) > 20


def test_stow_takes_instances_and_answers_in_dicom_json(scene: Scene, client: Client, tmp_path: Path) -> None:
    parts = b"".join(
        b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + phantom_file(tmp_path, seed) + b"\r\n"
        for seed in (6, 7)
    )
    answer = client("reader").post(
        "/dicom-web/studies",
        content=parts + b"--cut--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut'},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/dicom+json")
    assert len(json.loads(answer.text)["00081199"]["Value"]) == 2
    assert len(client("viewer").get("/api/v1/worklist").json()["rows"]) == 2
    wrong = client("reader").post("/dicom-web/studies", content=b"x", headers={"Content-Type": "text/plain"})
    assert wrong.status_code == 400


def test_the_canvas_gets_every_gray_value_and_the_headers_window(scene: Scene, client: Client) -> None:
    gray = chest(bits=12).astype(np.uint16)
    film = dicom(gray, bits=12, WindowCenter=1500, WindowWidth=1001)
    study = scene.study(film=film)
    viewer = client("viewer")
    instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]["id"]
    answer = viewer.get(f"/api/v1/instances/{instance}/pixels")
    assert answer.status_code == 200, answer.text
    width, height = map(int, answer.headers["x-carina-size"].split())
    shown = np.frombuffer(answer.content, "<u2").reshape(height, width)
    assert shown.shape == gray.shape
    least, most = int(gray.min()), int(gray.max())
    expected = np.floor((gray - least) / (most - least) * 65535 + 0.5)
    assert np.array_equal(shown, expected), "nothing is cut off by the window"
    low, high = map(float, answer.headers["x-carina-window"].split())
    assert low == pytest.approx((999.5 - least) / (most - least) * 65535, abs=0.1)
    assert high == pytest.approx((1999.5 - least) / (most - least) * 65535, abs=0.1)
    drawn = np.clip((shown - low) / (high - low), 0, 1)
    assert np.abs(drawn - read(film).pixels / 65535.0).max() < 2e-4, "as the header's window shows it"


def test_monochrome1_is_shown_with_dark_low(scene: Scene, client: Client) -> None:
    gray = chest(bits=12).astype(np.uint16)
    viewer = client("viewer")
    shown = []
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        stored = gray if photometric == "MONOCHROME2" else 4095 - gray
        study = scene.study(film=dicom(stored, bits=12, PhotometricInterpretation=photometric))
        instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]["id"]
        answer = viewer.get(f"/api/v1/instances/{instance}/pixels")
        shown.append((np.frombuffer(answer.content, "<u2"), answer.headers["x-carina-window"]))
    assert np.abs(shown[0][0].astype(int) - shown[1][0]).max() <= 1
    assert [float(end) for end in shown[0][1].split()] == pytest.approx(
        [float(end) for end in shown[1][1].split()], abs=1
    )


def test_a_film_that_does_not_open_says_so_and_the_next_one_opens(scene: Scene, client: Client) -> None:
    viewer = client("viewer")
    broken, whole = scene.study(film=b"\xff\xd8\xff broken"), scene.study(film=encode(chest(), "PNG"))
    answers = []
    for study in (broken, whole):
        instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]["id"]
        answers.append(viewer.get(f"/api/v1/instances/{instance}/pixels"))
    assert answers[0].status_code == 422
    assert "this film cannot be shown" in answers[0].json()["detail"]
    assert answers[1].status_code == 200


def test_a_small_picture_is_a_png_and_missing_where_there_is_none(scene: Scene, client: Client) -> None:
    viewer = client("viewer")
    study, without = scene.study(film=encode(chest(), "PNG")), scene.study(said=None)
    picture = viewer.get(f"/api/v1/studies/{study}/thumbnail")
    assert picture.headers["content-type"] == "image/png"
    assert max(Image.open(io.BytesIO(picture.content)).size) == 96
    assert viewer.get(f"/api/v1/studies/{without}/thumbnail").status_code == 404


def test_heat_maps_are_for_sites_that_allow_them(scene: Scene, client: Client, tmp_path: Path) -> None:
    study = scene.study(film=phantom_file(tmp_path, 8), model=scene.model())
    viewer = client("viewer")
    instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]
    assert instance["prediction"]["heat_map"] is False
    where = f"/api/v1/instances/{instance['id']}/heat-map"
    assert viewer.get(where).status_code == 403
    assert "Heat map" not in viewer.get(f"/studies/{study}").text
    web = scene.settings.web.model_copy(update={"sign_in": False})
    allowed = scene.settings.model_copy(update={"heat_maps": True, "web": web})
    app = create_app(allowed, scene.database, scene.archive, clock=scene.clock)
    with TestClient(app, base_url="http://localhost") as local:
        picture = local.get(where)
        assert picture.status_code == 200, picture.text
        assert "Heat map" in local.get(f"/studies/{study}").text
    shown = Image.open(io.BytesIO(picture.content))
    assert shown.format == "PNG"
    assert min(shown.size) > 400


def test_pixels_that_were_let_go_are_said_to_be_and_where_the_film_is(scene: Scene, client: Client) -> None:
    study = scene.study(film=encode(chest(), "PNG"))
    with scene.database.write() as session:
        session.execute(update(Instance).values(path=REMOVED))
    viewer = client("viewer")
    instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]["id"]
    answer = viewer.get(f"/api/v1/instances/{instance}/pixels")
    assert answer.status_code == 410
    assert "its pixels were let go. What was said of it stays. The PACS has the film." in answer.text
    assert viewer.get(f"/studies/{study}").status_code == 200


def test_a_file_that_is_missing_is_said_to_be_a_fault(scene: Scene, client: Client) -> None:
    study = scene.study(film=encode(chest(), "PNG"))
    for path in scene.archive.root.rglob("*"):
        if path.is_file() and len(path.name) >= 60:
            path.unlink()
    viewer = client("viewer")
    instance = viewer.get(f"/api/v1/studies/{study}").json()["instances"][0]["id"]
    for what in ("pixels", "file"):
        answer = viewer.get(f"/api/v1/instances/{instance}/{what}")
        assert answer.status_code == 410
        assert "is not in the archive: tell whoever runs Carina" in answer.text
