"""The page on a small department, asked by a client that behaves like a browser of each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed (carina[serve])")

from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from carina.serving import people
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.people import Role
from carina.serving.settings import Settings
from carina.serving.web.app import create_app
from tests.serving.web.scene import Scene

PASSWORD = "three red herrings swim"
ORIGIN = {"Origin": "http://localhost"}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same argon2id with a thousandth of the work."""
    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: quick)
    people._nobody.cache_clear()


def department(database: Database, settings: Settings) -> Scene:
    """A department with one user of each role, and every part well."""
    made = Scene(database, Archive(settings.archive, settings), settings)
    made.well()
    with database.write() as session:
        for role in Role:
            people.add_user(session, role.value, PASSWORD, role, made.now)
    return made


@pytest.fixture
def scene(sqlite: Database, settings: Settings) -> Scene:
    """The department on SQLite."""
    return department(sqlite, settings)


@pytest.fixture
def app(scene: Scene) -> FastAPI:
    """The application of that department."""
    return create_app(scene.settings, scene.database, scene.archive, clock=scene.clock)


@pytest.fixture
def client(app: FastAPI) -> Iterator[Callable[..., TestClient]]:
    """``client("reader")``: signed in, with token and origin as the page sends them; ``client()``: nobody."""
    made: list[TestClient] = []

    def sign_in(role: str | None = None, **options: Any) -> TestClient:
        browser = TestClient(app, base_url="http://localhost", follow_redirects=False, **options)
        made.append(browser)
        browser.headers.update(ORIGIN)
        if role is not None:
            with app.state.site.database.write() as session:
                signed = people.begin_session(
                    session, people.find_user(session, role), app.state.site.clock(), hours=12
                )
            browser.cookies.set("carina", signed.token)
            browser.headers["X-CSRF-Token"] = signed.person.csrf or ""
        return browser

    yield sign_in
    for each in made:
        each.close()
    app.state.site.darkroom.close()
