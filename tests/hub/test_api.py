"""The whole API, walked: closed by default, problem+json for every error, ranges as browsers and agents ask."""

from __future__ import annotations

import re
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from tests.hub.world import World, make_bundle
from topics.schema import KINDS

PUBLIC = {
    "/",
    "/ops/status",
    "/health/live",
    "/health/ready",
    "/trust/deployment-key",
    "/trust/roots/1",
    "/schemas",
    "/schemas/status/1",
    "/devices/register",
    "/login",
    "/login/callback",
    "GET /logout",
    f"/artifacts/kiosk/kiosk-1-aaaaaaaaaaaa/signed/2000000000/{'0' * 64}/bundle",
}


def is_public(method: str, path: str) -> bool:
    """Whether anybody may ask for this: no role is looked at."""
    return path in PUBLIC or f"{method} {path}" in PUBLIC


def handlers(world: World) -> dict[tuple[str, str], str]:
    """What every route of the application needs, by method and path as it was written."""
    return {
        (method, route.path): handler.opt.get("access", "admin")
        for route in world.app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/docs")
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    }


def routes(world: World) -> list[tuple[str, str]]:
    """Every method and path of the application, with plausible values for the parts."""
    return sorted((method, filled(path)) for method, path in handlers(world))


def filled(path: str) -> str:
    """A path with plausible values for its parts."""
    values = {
        "device_id": "shop-1",
        "release_id": "kiosk-1-aaaaaaaaaaaa",
        "role": "kiosk",
        "segment": "canary",
    }
    values |= {"name": "status", "version": "1", "key_id": "0123456789ab", "policy_id": "0123456789ab"}
    values |= {"command_id": "c-1", "session_id": "0123456789ab", "token_id": "0123456789ab"}
    values |= {"sha256": "0" * 64, "expires_at": "2000000000", "signature": "0" * 64}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: values[match[1]], path)


def test_without_credentials_every_route_is_closed_but_the_few_that_must_be_open(world: World) -> None:
    walked = routes(world)
    assert len(walked) > 25
    for method, path in walked:
        answer = world.client.request(method, path, headers={"Authorization": ""})
        if is_public(method, path):
            assert answer.status_code != 401, path
        else:
            assert answer.status_code == 401, f"{method} {path} answered {answer.status_code}"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer a.b.c", "Bearer \x00", "bearer wrong"])
def test_credentials_that_are_none_are_refused_without_a_trace(world: World, header: str) -> None:
    answer = world.client.get("/devices", headers={"Authorization": header})
    assert answer.status_code == 401
    assert set(answer.json()) == {"type", "title", "status", "detail", "rule"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        pytest.param("GET", "/nowhere", b"", 404, id="no such route"),
        pytest.param("GET", "/devices/shop-404", b"", 404, id="no such device"),
        pytest.param("GET", "/releases/nothing-1", b"", 404, id="no such release"),
        pytest.param("GET", "/manifests/kiosk/beta", b"", 422, id="no such segment"),
        pytest.param("GET", "/manifests/unknown/canary", b"", 404, id="no such role"),
        pytest.param("PUT", "/devices", b"", 405, id="no such method"),
        pytest.param("POST", "/releases", b"{", 400, id="broken JSON"),
        pytest.param("POST", "/releases", b'{"envelope":"%%%"}', 422, id="broken base64"),
        pytest.param("POST", "/releases", b'{"envelope":"AAAA"}', 409, id="not an envelope"),
        pytest.param("POST", "/trust/roots", b"\x80", 409, id="not a root"),
        pytest.param("POST", "/trust/roots", b"x" * 20_000, 413, id="a root over its cap"),
        pytest.param("POST", "/devices/register", b"", 422, id="an empty registration"),
        pytest.param("POST", "/devices/register", b"\xc1" * 50, 422, id="a garbled registration"),
        pytest.param("GET", "/telemetry/quarantine?limit=0", b"", 422, id="a limit of nothing"),
        pytest.param(
            "GET", "/trust/roots/99999999999999999999", b"", 400, id="a number beyond 64 bits in a path"
        ),
        pytest.param("GET", "/events?after=99999999999999999999", b"", 422, id="one in a stream"),
        pytest.param("GET", "/releases?cursor=-99999999999999999999", b"", 400, id="one in a query"),
        pytest.param("GET", "/schemas/status/9", b"", 404, id="no such schema version"),
    ],
)
def test_every_error_is_a_problem_document(
    world: World, method: str, path: str, content: bytes, status: int
) -> None:
    answer = world.client.request(method, path, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["type"].startswith("urn:flaghoist:problem:") and body["detail"]
    assert "x-request-id" in answer.headers


def test_a_fault_of_the_hub_is_told_by_its_request_id_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(world.store, "read", broken)
    answer = world.client.get("/trust/roots/1")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("header", "status", "span"),
    [
        pytest.param("", 200, slice(None), id="no range"),
        pytest.param("bytes=0-9", 206, slice(0, 10), id="the first ten"),
        pytest.param("bytes=10-", 206, slice(10, None), id="from the tenth on"),
        pytest.param("bytes=-7", 206, slice(-7, None), id="the last seven"),
        pytest.param("bytes=5-99999999", 206, slice(5, None), id="past the end"),
        pytest.param("bytes=99999999-", 416, None, id="behind the end"),
        pytest.param("bytes=9-5", 200, slice(None), id="backwards"),
        pytest.param("lines=1-2", 200, slice(None), id="another unit"),
        pytest.param("bytes=0-1,4-5", 200, slice(None), id="two ranges"),
    ],
)
def test_a_bundle_is_served_whole_or_in_one_range(
    world: World, header: str, status: int, span: slice | None
) -> None:
    release = world.publish(1)
    answer = world.client.get(
        f"/artifacts/kiosk/{release}/bundle", headers={"Range": header} if header else {}
    )
    assert answer.status_code == status
    if span is None:
        assert answer.headers["content-range"] == f"bytes */{len(make_bundle())}"
        return
    expected = make_bundle()[span]
    assert answer.content == expected and answer.headers["content-length"] == str(len(expected))


def test_a_bundle_that_is_known_is_not_sent_again_and_another_is_not_resumed(world: World) -> None:
    path = f"/artifacts/kiosk/{world.publish(1)}/bundle"
    etag = world.client.get(path).headers["etag"]
    assert world.client.get(path, headers={"If-None-Match": etag}).status_code == 304
    resumed = world.client.get(path, headers={"Range": "bytes=5-", "If-Range": '"another"'})
    assert resumed.status_code == 200 and resumed.content == make_bundle()


@pytest.mark.parametrize(
    ("damage", "status", "rule"),
    [
        pytest.param(
            lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), 503, "artifact_damaged", id="a byte"
        ),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:10]), 503, "artifact_damaged", id="cut short"
        ),
        pytest.param(lambda path: path.unlink(), 404, "artifact_missing", id="gone"),
    ],
)
def test_a_bundle_that_the_disk_lost_is_not_served_and_is_mended_by_publishing_again(
    world: World, damage: Any, status: int, rule: str
) -> None:
    path = f"/artifacts/kiosk/{world.publish(1)}"
    etag = world.client.get(f"{path}/bundle").headers["etag"]
    damage(world.files.path(etag.strip('"')))
    for headers in ({}, {"If-None-Match": etag}):
        refused = world.client.get(f"{path}/bundle", headers=headers)
        assert refused.status_code == status and refused.json()["rule"] == rule
    assert world.client.post(path, content=make_bundle()).status_code == 201
    assert world.client.get(f"{path}/bundle").content == make_bundle()


def test_the_checksums_served_are_the_bytes_that_were_signed(world: World) -> None:
    release = world.publish(1)
    answer = world.client.get(f"/artifacts/kiosk/{release}/checksums")
    assert [entry["path"] for entry in answer.json()["files"]] == ["bundle.json"]


def test_every_kind_on_the_wire_has_a_schema(world: World) -> None:
    listed = world.client.get("/schemas").json()["items"]
    assert {entry["name"] for entry in listed} == set(KINDS)
    for entry in listed:
        schema = world.client.get(f"/schemas/{entry['name']}/{entry['version']}").json()
        assert schema["$id"] == f"flaghoist:{entry['name']}:{entry['version']}"


def test_the_openapi_document_tells_which_errors_a_route_answers_with(world: World) -> None:
    paths = world.client.get("/docs/openapi.json").json()["paths"]
    for method, path in sorted(handlers(world)):
        operation = paths[re.sub(r":\w+\}", "}", path)][method.lower()]
        # A stream that is let in has no end.
        for headers in (
            ({"Authorization": ""}, {}) if not path.endswith("/events") else ({"Authorization": ""},)
        ):
            answer = world.client.request(method, filled(path), headers=headers)
            if answer.status_code < 400:
                continue
            told = operation["responses"].get(str(answer.status_code))
            assert told is not None, f"{method} {path} answers {answer.status_code}"
            assert "application/problem+json" in told["content"]


def test_the_openapi_document_names_every_route(world: World) -> None:
    paths = world.client.get("/docs/openapi.json").json()["paths"]
    assert len(paths) > 20 and "/releases/{release_id}/promote" in paths
