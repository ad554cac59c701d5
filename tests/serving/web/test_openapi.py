"""Whatever the OpenAPI description allows and forbids is sent: each answer is one that it describes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from carina.serving import people
from carina.serving.people import Role
from tests.serving.web.browser import served
from tests.serving.web.scene import Scene

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 4  # of each operation, well-formed ones and others


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_every_operation_answers_as_it_says_to_whatever_it_is_asked(scene: Scene, app: FastAPI) -> None:
    model = scene.model()
    for said in ("now", "unread", "unflagged"):
        scene.study(said=said, model=model)
    with scene.database.write() as session:
        key = people.add_key(session, "fuzz", Role.ADMIN, scene.now)
    asked: Counter[str] = Counter()
    with served(app) as place, requests.Session() as link:
        link.headers["Authorization"] = f"Bearer {key}"
        schema = schemathesis.openapi.from_url(f"{place}/api/v1/openapi.json")
        # events have no end; STOW has a form of its own, and tests of its own
        schema = schema.exclude(path_regex="^(/api/v1/events|/dicom-web/.*)$")
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in GenerationMode:

                @seed(7)
                @settings(
                    max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: Case) -> None:
                    answer = case.call(session=link, timeout=60)
                    case.validate_response(answer, checks=CHECKS)
                    asked[f"{case.method} {case.path}"] += 1

                with suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                    ask()
    assert len(asked) >= 30, "operations"
