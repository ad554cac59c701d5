"""The exact matrix of route × method × role, and that nothing is reached around it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from carina import __version__
from carina.serving import people
from carina.serving.people import Role
from tests.serving.web.conftest import PASSWORD
from tests.serving.web.scene import Scene

Client = Callable[..., TestClient]
OPEN, VIEWER, READER, ADMIN = "open", "viewer", "reader", "admin"

MATRIX = {  # every route there is; a new one must be written down here
    ("GET", "/"): VIEWER,
    ("GET", "/about"): VIEWER,
    ("GET", "/dashboard"): VIEWER,
    ("GET", "/deliveries"): VIEWER,
    ("GET", "/health"): OPEN,
    ("GET", "/log"): ADMIN,
    ("GET", "/metrics"): VIEWER,
    ("GET", "/people"): ADMIN,
    ("GET", "/ready"): OPEN,
    ("GET", "/roll-out"): VIEWER,
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): OPEN,
    ("GET", "/studies/{study_id}"): VIEWER,
    ("GET", "/upload"): READER,
    ("GET", "/worklist"): VIEWER,
    ("GET", "/worklist/rows"): VIEWER,
    ("POST", "/dicom-web/studies"): READER,
    ("POST", "/dicom-web/studies/{study_uid}"): READER,
    ("POST", "/api/v1/uploads"): READER,
    ("GET", "/api/v1/audit-log"): ADMIN,
    ("GET", "/api/v1/audit-log/verify"): ADMIN,
    ("GET", "/api/v1/deliveries"): VIEWER,
    ("POST", "/api/v1/deliveries/{delivery_id}/retry"): ADMIN,
    ("GET", "/api/v1/events"): VIEWER,
    ("GET", "/api/v1/instances/{instance_id}/file"): VIEWER,
    ("GET", "/api/v1/instances/{instance_id}/heat-map"): VIEWER,
    ("GET", "/api/v1/instances/{instance_id}/pixels"): VIEWER,
    ("GET", "/api/v1/keys"): ADMIN,
    ("POST", "/api/v1/keys"): ADMIN,
    ("DELETE", "/api/v1/keys/{name}"): ADMIN,
    ("GET", "/api/v1/me"): VIEWER,
    ("DELETE", "/api/v1/session"): VIEWER,
    ("POST", "/api/v1/reports"): READER,
    ("POST", "/api/v1/reports.csv"): READER,
    ("GET", "/api/v1/statistics"): VIEWER,
    ("GET", "/api/v1/step"): VIEWER,
    ("POST", "/api/v1/step"): ADMIN,
    ("GET", "/api/v1/status"): VIEWER,
    ("GET", "/api/v1/studies/{study_id}"): VIEWER,
    ("POST", "/api/v1/studies/{study_id}/feedback"): READER,
    ("PUT", "/api/v1/studies/{study_id}/flag"): READER,
    ("DELETE", "/api/v1/studies/{study_id}/read"): READER,
    ("GET", "/api/v1/studies/{study_id}/thumbnail"): VIEWER,
    ("GET", "/api/v1/users"): ADMIN,
    ("POST", "/api/v1/users"): ADMIN,
    ("PATCH", "/api/v1/users/{name}"): ADMIN,
    ("GET", "/api/v1/worklist"): VIEWER,
}
BESIDES = {"/api/v1/openapi.json", "/static", f"/static/{__version__}"}  # FastAPI's, and files of the page


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path, whether a route stands in the application or in one of its routers."""
    found: set[tuple[str, str]] = set()

    def walk(part: object, prefix: str = "") -> None:
        for route in getattr(part, "routes", ()):
            if isinstance(route, APIRoute):
                found.update((method, route.path) for method in route.methods)
            elif hasattr(route, "original_router"):
                walk(route.original_router)
            elif getattr(route, "path", None) not in BESIDES:
                found.add(("?", str(getattr(route, "path", route))))

    walk(app)
    return found


def test_the_matrix_names_every_route_and_no_other(app: FastAPI) -> None:
    assert routes(app) == set(MATRIX)


@pytest.mark.parametrize("asker", [None, ADMIN])
def test_no_route_answers_to_a_method_that_is_not_in_the_matrix(
    scene: Scene, client: Client, asker: str | None
) -> None:
    browser, paths = client(asker), {path for _, path in MATRIX} | {"/static/carina.css"}
    for path in sorted(paths):
        where = re.sub(r"\{\w+\}", "1", path)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
            known = (method, path) in MATRIX or (path.startswith("/static") and method in ("GET", "HEAD"))
            if not known:
                answer = browser.request(method, where)
                assert answer.status_code in (404, 405), (method, path, answer.status_code)


@pytest.mark.parametrize("asker", [None, VIEWER, READER, ADMIN])
def test_each_role_gets_exactly_what_it_may(scene: Scene, client: Client, asker: str | None) -> None:
    study = scene.study()
    order = [OPEN, VIEWER, READER, ADMIN]
    for (method, path), needed in MATRIX.items():
        if path == "/api/v1/events":
            continue  # it never ends; the next test asks it
        where = (
            re.sub(r"\{\w+_id\}", str(study), path)
            .replace("{name}", "nobody-here")
            .replace("{study_uid}", "1.2.3")
        )
        answer = client(asker).request(method, where, json={} if method in ("POST", "PUT", "PATCH") else None)
        if order.index(needed) <= order.index(asker or OPEN):
            allowed = answer.status_code not in (401, 403) or needed == OPEN or "heat maps" in answer.text
            assert allowed, (method, path, answer.text)
        elif asker is None and method == "GET" and not path.startswith(("/api/", "/metrics")):
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/sign-in"), (method, path)
        else:
            assert answer.status_code == (401 if asker is None else 403), (method, path, answer.text)


def test_a_change_needs_the_token_of_the_session_and_comes_from_this_origin(
    scene: Scene, client: Client
) -> None:
    study = scene.study()
    path, body = f"/api/v1/studies/{study}/feedback", {"kind": "read"}
    reader = client("reader")
    for headers in (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "x" * 43},
        {"X-CSRF-Token": "é"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:8643"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ):
        sent = {key: value.encode() for key, value in headers.items()}
        assert reader.post(path, json=body, headers=sent).status_code == 403, headers
    del reader.headers["Origin"]
    assert reader.post(path, json=body).status_code == 403, "neither Origin nor Sec-Fetch-Site"
    assert reader.get(f"/api/v1/studies/{study}").json()["read_at"] is None
    assert reader.post(path, json=body, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201


def test_a_key_needs_neither_cookie_nor_token_and_opens_what_its_role_may(
    scene: Scene, client: Client
) -> None:
    study = scene.study()
    with scene.database.write() as session:
        key = people.add_key(session, "ris", Role.READER, scene.now)
    nobody = client()
    del nobody.headers["Origin"]
    program = {"Authorization": f"Bearer {key}"}
    assert nobody.get("/api/v1/me", headers=program).json() == {"name": "key:ris", "role": "reader"}
    path = f"/api/v1/studies/{study}/feedback"
    assert nobody.post(path, json={"kind": "read"}, headers=program).status_code == 201
    assert nobody.get("/api/v1/users", headers=program).status_code == 403
    for wrong in (f"Bearer {key}x", "Bearer ", f"Basic {key}", key, ""):
        assert client("admin").get("/api/v1/me", headers={"Authorization": wrong}).status_code == 401, wrong
    with scene.database.write() as session:
        people.revoke_key(session, "ris", scene.now)
    assert nobody.get("/api/v1/me", headers=program).status_code == 401


def entered(browser: TestClient, name: str, password: str, **more: str) -> tuple[int, str]:
    page = browser.get("/sign-in").text
    token = re.search(r'name="form" value="([^"]+)"', page)
    assert token is not None
    browser.cookies.set("carina-form", token[1], path="/sign-in")
    answer = browser.post("/sign-in", data={"name": name, "password": password, "form": token[1], **more})
    return answer.status_code, answer.headers.get("location", "")


def test_signing_in_makes_a_new_session_and_goes_where_one_wanted(scene: Scene, client: Client) -> None:
    browser = client()
    browser.cookies.set("carina", "chosen-by-somebody-else")
    assert entered(browser, "Reader", PASSWORD, next="/studies/7") == (303, "/studies/7")
    given = [cookie.value for cookie in browser.cookies.jar if cookie.domain == "localhost.local"]
    browser.cookies.clear()
    for value in given:
        assert value != "chosen-by-somebody-else", "session fixation"
        browser.cookies.set("carina", str(value))
    assert browser.get("/api/v1/me").json()["name"] == "reader"


@pytest.mark.parametrize(
    "next_", ["//evil.example", "https://evil.example", "/\\evil.example", "", "javascript:x"]
)
def test_signing_in_never_leads_elsewhere(client: Client, next_: str) -> None:
    assert entered(client(), "viewer", PASSWORD, next=next_) == (303, "/worklist")


def test_the_cookie_is_for_this_site_alone_and_for_no_script(client: Client) -> None:
    browser = client()
    page = browser.get("/sign-in")
    assert "samesite=strict" in page.headers["set-cookie"].lower()
    token = re.search(r'name="form" value="([^"]+)"', page.text)
    assert token is not None
    form = {"name": "viewer", "password": PASSWORD, "form": token[1]}
    assert client().post("/sign-in", data=form).status_code == 403, "the form's own cookie is missing"
    answer = browser.post("/sign-in", data=form)
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith("carina="))
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}


def test_six_wrong_passwords_are_answered_with_a_wait(client: Client) -> None:
    browser = client()
    assert [entered(browser, "reader", "wrong")[0] for _ in range(6)] == [401] * 5 + [429]
    assert entered(browser, "reader", PASSWORD)[0] == 429


def test_signing_out_ends_the_session_for_good(client: Client) -> None:
    reader = client("reader")
    token = reader.cookies["carina"]
    assert reader.delete("/api/v1/session").status_code == 204
    again = client()
    again.cookies.set("carina", token)
    assert again.get("/api/v1/me").status_code == 401


def test_what_people_do_stands_in_the_log(scene: Scene, client: Client) -> None:
    study = scene.study()
    reader, admin = client("reader"), client("admin")
    reader.get(f"/studies/{study}")
    reader.post(f"/api/v1/studies/{study}/feedback", json={"kind": "read"})
    user = {"name": "grace", "password": PASSWORD, "role": "viewer"}
    assert admin.post("/api/v1/users", json=user).status_code == 201
    assert admin.post("/api/v1/users", json=user).status_code == 409
    assert admin.patch("/api/v1/users/grace", json={"password": "yet another long one"}).status_code == 200
    entries = admin.get("/api/v1/audit-log").json()
    assert [(each["actor"], each["action"], each["subject"]) for each in entries] == [
        ("reader", "study opened", f"study {study}"),
        ("reader", "study read", f"study {study}"),
        ("admin", "user added", "user grace"),
        ("admin", "user changed", "user grace"),
    ]
    assert "yet another" not in str(entries)
    assert "Phantom" not in str(entries), "our own numbers, never a name"
    assert admin.get("/api/v1/audit-log/verify").json()["holds"] is True


def test_nobody_signs_in_where_the_site_says_so_and_changes_still_need_the_token(
    scene: Scene, app: FastAPI
) -> None:
    from carina.serving.web.app import create_app

    web = scene.settings.web.model_copy(update={"sign_in": False})
    alone = create_app(
        scene.settings.model_copy(update={"web": web}), scene.database, scene.archive, clock=scene.clock
    )
    study = scene.study()
    with TestClient(alone, base_url="http://localhost", headers={"Origin": "http://localhost"}) as browser:
        page = browser.get("/worklist").text
        path = f"/api/v1/studies/{study}/feedback"
        assert browser.post(path, json={"kind": "read"}).status_code == 403
        token = re.search(r'name="csrf" content="([^"]+)"', page)
        assert token is not None
        headers = {"X-CSRF-Token": token[1]}
        assert browser.post(path, json={"kind": "read"}, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "x", "role": NaN}',
        b'{"name": "a\\ud800", "role": "viewer"}',
        b'{"password": "hush"}',
        b"[",
        b"\xff",
    ],
)
def test_a_request_that_is_no_sense_is_told_so_without_what_it_said(client: Client, body: bytes) -> None:
    answer = client(ADMIN).post("/api/v1/keys", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "hush" not in answer.text
    for fault in answer.json()["detail"] if answer.status_code == 422 else ():
        assert set(fault) == {"loc", "msg", "type"}
