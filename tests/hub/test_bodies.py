"""JSON bodies that are none: refused by name, and never a fault of the hub."""

from __future__ import annotations

import socket

import pytest
import structlog

from tests.hub.served import served
from tests.hub.world import World
from tests.support.mosquitto import wait_until

DEEP = 20_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b'{"reason": "\xff"}', "no UTF-8", id="no text"),
        pytest.param(
            b'{"reason": ' * DEEP + b"1" + b"}" * DEEP, "nested too deeply", id="beyond all measure"
        ),
        pytest.param(b'{"reason": NaN}', "malformed", id="no number"),
        pytest.param(b'{"reason": "\\ud800 alone"}', "surrogate", id="half a character"),
    ],
)
def test_a_body_that_nobody_can_read_is_refused(world: World, body: bytes, words: str) -> None:
    answer = world.client.post("/devices/enrolment-tokens", content=body)
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")
    assert words in answer.json()["detail"]


def test_who_hangs_up_in_the_middle_of_a_body_is_no_fault_of_the_hub(world: World) -> None:
    """Any stranger could do it, and each was an error with its traceback in the log and a 500 in the metrics."""
    with structlog.testing.capture_logs() as lines, served(world.client.app) as port:
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST /devices/register HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\nhalf")
        ended = wait_until(lambda: [line for line in lines if line["event"] == "request"])
    assert [line["status"] for line in ended] == [400]
    assert {line["log_level"] for line in lines} == {"info"}
