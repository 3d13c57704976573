"""Every route of the OpenAPI document, asked as the document allows and as it does not, from the document itself.

No answer is an error of the hub's own, every error is a problem document, and no answer has a status that the document
does not tell. Streams are left out, since they never end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from hub.problems import MEDIA_TYPE
from tests.hub.world import World, world

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

EXAMPLES: Final = 2
"""Of each operation, both as allowed and as not."""
STREAMS: Final = {"/events", "/devices/{device_id}/events", "/audits/export"}
ASKED: Final = ("method", "url", "params", "headers", "json", "data", "files")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub with a device and a release, which the requests change as they like."""
    with world(tmp_path_factory.mktemp("asked"), chaos=True) as made:
        made.trust_root()
        made.device("shop-1")
        made.heartbeat("shop-1")
        made.publish(1)
        yield made


def asked(hub: World, case: Any) -> None:
    """Ask one request and judge the answer."""
    wanted = case.as_transport_kwargs(base_url="http://testserver.local")
    if cookies := wanted.get("cookies"):
        wanted["headers"]["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    parts = {name: wanted[name] for name in ASKED if wanted.get(name) is not None}
    if isinstance(parts.get("data"), bytes | str):
        parts["content"] = parts.pop("data")
    answer = hub.client.request(**parts, follow_redirects=False)
    told = f"{case.method} {wanted['url']}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500 or answer.status_code in (503, 507), told
    # 405 is the framework's for a path that a strange parameter made another's.
    assert str(answer.status_code) in {*case.operation.definition.raw["responses"], "405"}, told
    if answer.status_code >= 400 and case.method != "HEAD":
        assert answer.headers["Content-Type"] == MEDIA_TYPE, told
        problem = json.loads(answer.text)
        assert problem["status"] == answer.status_code
        assert {"type", "title", "detail"} <= problem.keys()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not"])
def test_every_route_answers_as_the_document_says(hub: World, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(hub.app.openapi_schema.to_schema())
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 80
    wrong, done = [], 0
    for operation in operations:
        if operation.path in STREAMS:
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            asked(hub, case)

        try:
            ask()
            done += 1
        except Unsatisfiable:
            continue  # nothing is not allowed: any text will do in its path
        except Exception as error:
            wrong.append(f"{operation.label}: {type(error).__name__}: {error}")
    assert wrong == []
    assert done > 40
