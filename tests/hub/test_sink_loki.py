"""The Loki sink, before a receiver that checks the documented format."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from hub.config import check_loki
from hub.errors import SetupError
from hub.main import cli
from hub.telemetry.sinks import Lines, Loki, loki
from hub.telemetry.sinks.queue import Queue
from tests.hub.loki import Receiver, WrongFormatError, check, receiver
from tests.hub.test_sinks import AT, line, numbered, rendered, running
from tests.support.mosquitto import wait_until
from tests.support.ports import held_port


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loki, "LINGER_S", 0.0)


def pusher(url: str, **changes: Any) -> Loki:
    return Loki(url, **{"fleet": "acme", "jitter": lambda _low, _high: 0.0, **changes})


def sequences(taken: Receiver) -> list[int]:
    return [json.loads(text)["body"]["seq"] for _, _, text in taken.taken]


def test_loki_gets_streams_by_kind_and_role_oldest_first() -> None:
    reports = [
        line(2, at=AT + 2),
        line(1, at=AT + 1),
        line(3, kind="drift", device="shop-2"),
        line(4, device="gone"),
    ]
    with receiver() as there, running(pusher(there.url, role_of={"shop-1": "kiosk"}.get)) as lines:
        lines.extend(reports)
        wait_until(lambda: len(there.taken) == 4, what="four lines")
    assert (there.wrong, there.pushes) == ([], 1)
    assert [(labels, stamp, json.loads(text)["device_id"]) for labels, stamp, text in there.taken] == [
        ({"fleet": "acme", "kind": "status", "role": "kiosk"}, "1790000000001000000", "shop-1"),
        ({"fleet": "acme", "kind": "status", "role": "kiosk"}, "1790000000002000000", "shop-1"),
        ({"fleet": "acme", "kind": "drift"}, "1790000000000000000", "shop-2"),
        ({"fleet": "acme", "kind": "status"}, "1790000000000000000", "gone"),
    ]
    assert json.loads(there.taken[0][2]) == {
        "at": "2026-09-21T14:13:20.001Z",
        "device_id": "shop-1",
        "kind": "status",
        "body": {"seq": 1},
    }


@pytest.mark.usefixtures("at_once")
def test_many_lines_are_few_pushes() -> None:
    with receiver() as there:
        sink = pusher(there.url)
        sink.queue.put(numbered(0, 5_000))
        with running(sink):
            wait_until(lambda: len(there.taken) == 5_000, what="all lines")
    assert there.wrong == [] and there.pushes == 5 and sequences(there) == list(range(5_000))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([429], id="too many requests"),
        pytest.param([500, 502, 503], id="server errors"),
        pytest.param([0], id="a connection that is closed without an answer"),
    ],
)
def test_what_may_pass_is_tried_again_until_it_does(answers: list[int]) -> None:
    with receiver() as there:
        there.answers = list(answers)
        sink = pusher(there.url)
        with running(sink) as lines:
            lines.extend(numbered(0, 3))
            wait_until(lambda: sink.sent == 3, what="lines pushed")
        assert (there.wrong, sequences(there)) == ([], [0, 1, 2])
        assert sink.failures == len(answers) and sum(sink.dropped.values()) == 0 and not sink.problem


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [302, 400, 401, 404, 413])
def test_what_loki_refuses_is_dropped_counted_and_told(status: int) -> None:
    with receiver() as there:
        there.answers = [status]
        sink = pusher(there.url)
        with running(sink) as lines:
            lines.extend(numbered(0, 3))
            wait_until(lambda: sink.failures == 1, what="the refusal")
            assert sink.problem == f"Loki answered {status} (told)."
            lines.extend(numbered(3, 1))
            wait_until(lambda: sink.sent == 1, what="the next batch")
        assert (sink.dropped["refused"], there.pushes, sequences(there)) == (3, 2, [3])


@pytest.mark.usefixtures("at_once")
def test_lines_wait_for_a_loki_that_is_not_there_yet() -> None:
    port = held_port()
    sink = pusher(f"http://127.0.0.1:{port}", jitter=lambda _low, _high: 0.05, queue=Queue(max_lines=10))
    with running(sink) as lines:
        lines.extend(numbered(0, 1))
        wait_until(lambda: sink.failures >= 2, what="tries")
        assert sink.problem.startswith("Loki cannot be reached")
        lines.extend(numbered(1, 15))
        with receiver(port) as there:
            wait_until(lambda: sink.sent == 11, what="what was held")
            assert sequences(there) == [0, *range(6, 16)]
    assert sink.dropped["overflow"] == 5


@pytest.mark.usefixtures("at_once")
def test_pauses_between_tries_have_full_jitter_up_to_a_ceiling_that_doubles() -> None:
    asked: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    with receiver() as there:
        there.answers = [503] * 8
        with running(pusher(there.url, jitter=jitter)) as lines:
            lines.extend(numbered(0, 1))
            wait_until(lambda: there.taken, what="the line")
    assert asked == [(0.0, high) for high in (0.5, 1, 2, 4, 8, 16, 30, 30)]


@pytest.mark.usefixtures("at_once")
def test_a_loki_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loki, "TIMEOUT_S", 0.5)
    with receiver() as there:
        there.hang.clear()
        sink = pusher(there.url)
        lines = Lines([sink])
        lines.start()
        lines.extend(numbered(0, 1))
        wait_until(lambda: there.pushes, what="the push")
        lines.extend(numbered(1, 3_000))
        begin = time.monotonic()
        lines.stop()
        assert time.monotonic() - begin < 60
        assert sink.dropped["stopped"] == 3_001


def test_roles_are_asked_for_once_a_minute() -> None:
    asked: list[str] = []
    now = 0.0
    role = "kiosk"

    def read(device_id: str) -> str | None:
        asked.append(device_id)
        return role

    role_of = loki.roles(read, clock=lambda: now)
    assert [role_of("a"), role_of("b"), role_of("a")] == ["kiosk"] * 3 and asked == ["a", "b"]
    role, now = "gateway", 61.0
    assert role_of("a") == "gateway"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://loki:3100", "http://loki:3100/loki/api/v1/push"),
        ("https://me:secret@loki/", "https://me:secret@loki/loki/api/v1/push"),
        ("http://proxy/loki-a", "http://proxy/loki-a/loki/api/v1/push"),
        ("http://loki:3100/loki/api/v1/push", "http://loki:3100/loki/api/v1/push"),
    ],
)
def test_the_path_of_the_push_api_is_added(url: str, expected: str) -> None:
    assert check_loki(url) == expected


@pytest.mark.parametrize(
    "url", ["loki:3100", "ftp://loki", "http://", "http://loki:port", "http://loki:99999"]
)
def test_what_is_not_the_url_of_a_loki_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="write http://HOST:PORT"):
        check_loki(url)
    try:
        done = CliRunner().invoke(cli, ["up", "--data", str(tmp_path / "hub"), "--loki", url])
    finally:
        structlog.reset_defaults()
    assert done.exit_code == 3 and done.stderr.count("\n") == 1 and not (tmp_path / "hub").exists()


def _body(change: Callable[[dict[str, Any]], None]) -> bytes:
    push: dict[str, Any] = json.loads(loki.payload(rendered([1, 2]), "acme", lambda _device: None))
    change(push)
    return json.dumps(push).encode()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda push: push.update(extra=1), id="another key"),
        pytest.param(lambda push: push["streams"].clear(), id="no stream"),
        pytest.param(lambda push: push["streams"].append(push["streams"][0]), id="a stream twice"),
        pytest.param(lambda push: push["streams"][0]["stream"].clear(), id="no label"),
        pytest.param(lambda push: push["streams"][0]["stream"].update({"a-b": "c"}), id="a label's name"),
        pytest.param(lambda push: push["streams"][0]["stream"].update(n=1), id="a label that is a number"),
        pytest.param(lambda push: push["streams"][0]["values"][0].__setitem__(0, AT), id="a number as time"),
        pytest.param(
            lambda push: push["streams"][0]["values"][0].__setitem__(0, str(AT)), id="milliseconds as time"
        ),
        pytest.param(lambda push: push["streams"][0]["values"][0].__setitem__(1, {}), id="an object as line"),
        pytest.param(
            lambda push: push["streams"][0]["values"][0].__setitem__(0, f"{AT + 1}000000"), id="newest first"
        ),
    ],
)
def test_the_receiver_of_these_tests_refuses_what_loki_would(
    change: Callable[[dict[str, Any]], None],
) -> None:
    def headers(body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Content-Length": str(len(body)),
        }

    good, bad = gzip.compress(_body(lambda _push: None)), gzip.compress(_body(change))
    assert len(check("/loki/api/v1/push", headers(good), good)) == 2
    with pytest.raises(WrongFormatError):
        check("/loki/api/v1/push", headers(bad), bad)
