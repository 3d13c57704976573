"""A post that is sent again with its key changes nothing and gets its first answer; everything else is carried out."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import structlog

from hub.idempotency import KEPT_MS, LIMIT, PATIENCE_MS, Answers, identify
from tests.hub.served import served
from tests.hub.world import World
from tests.support.mosquitto import wait_until

TOKEN = {"role": "kiosk", "segment": "canary"}


def post(world: World, path: str, body: Any, key: str | None, **more: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return world.client.post(path, json=body, headers={**headers, **more.pop("headers", {})}, **more)


def rows(world: World) -> list[dict[str, Any]]:
    with world.store.read() as tx:
        return [dict(row) for row in tx.all("SELECT * FROM idempotency")]


def count(world: World, table: str) -> int:
    with world.store.read() as tx:
        row = tx.one(f"SELECT COUNT(*) AS n FROM {table}")
        assert row is not None
        return int(row["n"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/devices/enrolment-tokens", TOKEN, id="an enrolment token"),
        pytest.param("/api-keys", {"name": "ci", "role": "viewer"}, id="an API key"),
    ],
)
def test_what_creates_creates_once_and_answers_the_same(
    world: World, path: str, body: dict[str, str]
) -> None:
    first = post(world, path, body, "k-1")
    again = post(world, path, body, "k-1")
    assert first.status_code == 201 and (again.status_code, again.content) == (201, first.content)
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert post(world, path, body, "k-2").content != first.content
    assert post(world, path, body, None).content != first.content


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "rollback"])
def test_every_verb_of_a_rollout_is_one_event_however_often_it_is_sent(world: World, verb: str) -> None:
    release = world.publish(1)
    if verb != "promote":
        world.promote(release, "canary")
    if verb == "resume":
        world.client.post(f"/releases/{release}/pause")
    body = {"targetSegment": "canary"} if verb == "promote" else {"reason": "once"}
    before = len(world.events())
    answers = [post(world, f"/releases/{release}/{verb}", body, "k-1") for _ in range(3)]
    assert {answer.content for answer in answers} == {answers[0].content} and answers[0].status_code == 200
    assert len(world.events()) == before + 1


def test_a_key_stays_with_what_it_was_first_used_for(world: World) -> None:
    post(world, "/devices/enrolment-tokens", TOKEN, "k-1")
    for path, body in (
        ("/devices/enrolment-tokens", {**TOKEN, "uses": 2}),
        ("/api-keys", TOKEN),
        ("/devices/enrolment-tokens?x=1", TOKEN),
    ):
        refused = post(world, path, body, "k-1")
        assert refused.status_code == 422 and refused.json()["rule"] == "idempotency_key_reused", path
        assert refused.headers["content-type"].startswith("application/problem+json")
    assert count(world, "tokens") == 1


def test_a_key_belongs_to_the_token_that_sent_it(world: World) -> None:
    text = world.client.post("/api-keys", json={"name": "ci", "role": "admin"}).json()["key"]
    first = post(world, "/devices/enrolment-tokens", TOKEN, "k-1")
    other = post(
        world, "/devices/enrolment-tokens", TOKEN, "k-1", headers={"Authorization": f"Bearer {text}"}
    )
    assert other.status_code == 201 and other.content != first.content


def test_an_answer_is_kept_for_a_day(world: World) -> None:
    first = post(world, "/devices/enrolment-tokens", TOKEN, "k-1")
    world.now += KEPT_MS - 1
    assert post(world, "/devices/enrolment-tokens", TOKEN, "k-1").content == first.content
    world.now += 1
    assert post(world, "/devices/enrolment-tokens", TOKEN, "k-1").content != first.content
    world.now += KEPT_MS
    post(world, "/devices/enrolment-tokens", TOKEN, "k-2")
    assert len(rows(world)) == 1, "what is older is gone"


def test_what_was_refused_changed_nothing_and_may_be_sent_again(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    body = {"targetSegment": "early"}
    assert post(world, f"/releases/{release}/promote", body, "k-1").json()["rule"] == "gate_reports"
    assert rows(world) == []
    world.result(world.device("canary-1"), release, "committed")
    assert post(world, f"/releases/{release}/promote", body, "k-1").status_code == 200


def test_who_is_not_let_in_leaves_nothing_behind(world: World) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        assert post(world, "/devices/enrolment-tokens", TOKEN, "k-1", headers=headers).status_code == 401
    assert rows(world) == []


def test_a_request_that_breaks_the_hub_gives_its_key_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_words: Any) -> None:
        raise ZeroDivisionError

    release = world.publish(1)
    world.promote(release, "canary")
    with monkeypatch.context() as patch:
        patch.setattr(world.deployment, "pause", broken)
        assert post(world, f"/releases/{release}/pause", {}, "k-1").status_code == 500
    assert post(world, f"/releases/{release}/pause", {}, "k-1").status_code == 200


def test_of_two_at_once_one_is_carried_out_and_the_other_told_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    begun, go = threading.Event(), threading.Event()
    pause = world.deployment.pause

    def slow(*words: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return pause(*words)

    monkeypatch.setattr(world.deployment, "pause", slow)
    answers: list[Any] = []
    first = threading.Thread(
        target=lambda: answers.append(post(world, f"/releases/{release}/pause", {}, "k-1"))
    )
    first.start()
    assert begun.wait(60)
    second = post(world, f"/releases/{release}/pause", {}, "k-1")
    go.set()
    first.join()
    assert second.status_code == 409 and second.json()["rule"] == "idempotency_key_in_use"
    assert answers[0].status_code == 200


def test_a_key_that_a_killed_hub_left_behind_is_free_after_a_minute(world: World) -> None:
    answers = Answers(lambda: world.store, lambda: world.now)
    body = b'{"role":"kiosk","segment":"canary"}'
    left = identify(f"Bearer {world.token}", "k-1", (b"/devices/enrolment-tokens", b"", body))
    assert answers.begin(left) is None
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}

    def send() -> Any:
        return world.client.post("/devices/enrolment-tokens", content=body, headers=headers)

    world.now += PATIENCE_MS - 1
    assert send().json()["rule"] == "idempotency_key_in_use"
    world.now += 1
    assert send().status_code == 201


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("k" * 256, id="too long"),
        pytest.param("k\u00e4", id="not plain"),
        pytest.param("a\tb", id="a control character"),
    ],
)
def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    headers = [("Idempotency-Key", key.encode("latin-1"))]
    answer = world.client.post("/devices/enrolment-tokens", json=TOKEN, headers=dict(headers))  # type: ignore[arg-type]
    assert answer.status_code == 422 and answer.json()["rule"] == "idempotency_key"
    assert count(world, "tokens") == 0


def test_the_longest_key_is_taken(world: World) -> None:
    assert post(world, "/devices/enrolment-tokens", TOKEN, "k" * 255).status_code == 201


def test_a_body_beyond_the_bound_is_refused_before_it_is_kept(world: World) -> None:
    answer = post(world, "/devices/enrolment-tokens", {"role": "k" * LIMIT}, "k-1")
    assert answer.status_code == 413 and rows(world) == []


def test_a_bundle_needs_no_key_and_is_not_held_in_memory_for_one(world: World) -> None:
    world.publish(1)
    data = b"x" * (LIMIT + 1)
    answer = world.client.post(
        "/artifacts/kiosk/kiosk-1-aaaaaaaaaaaa",
        content=data,
        headers={"Idempotency-Key": "k-1", "Content-Type": "application/gzip"},
    )
    assert answer.json()["rule"] != "idempotency_body" and rows(world) == []


def test_the_database_alone_opens_no_answer(world: World) -> None:
    secret = post(world, "/devices/enrolment-tokens", TOKEN, "k-1").json()["token"]
    (row,) = rows(world)
    assert secret.encode() not in row["answer"] and "k-1" not in row["id"]
    key = identify("Bearer other", "k-1", ())
    assert row["id"] != key.id and row["asks"] != key.asks


def test_a_request_that_breaks_off_is_not_carried_out_and_leaves_its_key_to_the_whole_one(
    world: World,
) -> None:
    """A rollback whose body never came was carried out without its reason, and the one that came again refused."""
    release = world.publish(1)
    world.promote(release, "canary")
    path, body = f"/releases/{release}/pause", b'{"reason": "the till is dark"}'
    head = f"POST {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: {world.client.headers['authorization']}\r\n"
    head += f"Idempotency-Key: k-1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with structlog.testing.capture_logs() as lines, served(world.client.app) as port:
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(head.encode())
        ended = wait_until(lambda: [line for line in lines if line["event"] == "request"])
    assert [line["status"] for line in ended] == [400]
    assert world.client.get(f"/releases/{release}").json()["state"] == "rolling"
    whole = world.client.post(
        path, content=body, headers={"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    )
    assert (whole.status_code, whole.json()["state"]) == (200, "paused")
