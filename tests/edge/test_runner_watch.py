"""What the agent's loop watches while files come and go, and what it does when the update process has ended."""

from __future__ import annotations

import inspect
import io
import os
import selectors
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from edge.config import Settings
from edge.runner import RENEWED, Runner


def test_a_new_socket_may_have_the_number_of_a_pipe_that_was_just_closed() -> None:
    """The update process has ended, and the answer to that is a question to the hub: both within one turn."""
    reading, writing = os.pipe()
    link = SimpleNamespace(wants_write=False, socket=lambda: None)
    child = SimpleNamespace(pipe=io.FileIO(reading))
    rest: dict[str, Any] = dict.fromkeys(inspect.signature(Runner).parameters, SimpleNamespace())
    runner = Runner(**rest | {"link": link, "child": child, "settings": Settings()})
    runner._watch()
    child.pipe.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ours.fileno() == reading, "the lowest number that is free"
        child.pipe, link.socket = None, lambda: ours
        runner._watch()
        theirs.send(b"x")
        ((key, mask),) = runner._selector.select(60)
        assert (key.data, mask) == ("link", selectors.EVENT_READ)
    runner._selector.close()
    os.close(writing)


@pytest.mark.parametrize(
    ("state", "way", "left"),
    [
        pytest.param({"_connected_at": 1.0}, "mqtt", True, id="connected"),
        pytest.param({}, "mqtt", True, id="on its way to a connection"),
        pytest.param({"_connected_at": 1.0}, "https", False, id="where the next question shows them anyway"),
        pytest.param({"_connected_at": 1.0, "_stays": False}, "mqtt", False, id="once, soon asleep"),
        pytest.param({"_connect_at": 1e12}, "mqtt", False, id="between two tries"),
    ],
)
def test_with_renewed_credentials_a_connection_by_the_former_ones_is_left_where_that_helps(
    state: dict[str, Any], way: str, left: bool
) -> None:
    did: list[str] = []
    nothing = SimpleNamespace(
        busy=False, tell=lambda *_: None, write=lambda *_, **__: None, catch_up=lambda: None
    )
    rest: dict[str, Any] = dict.fromkeys(inspect.signature(Runner).parameters, nothing)
    rest |= {
        "agent": SimpleNamespace(on_job_end=lambda _: None, on_disconnected=lambda: None),
        "child": SimpleNamespace(readable=lambda: 0, busy=False),
        "link": SimpleNamespace(way=way, close=lambda: did.append("close")),
        "renewal": SimpleNamespace(
            ended=lambda: True, refused=lambda _agent, reason, **_: did.append(reason)
        ),
        "settings": Settings(),
    }
    runner = Runner(**rest)
    vars(runner).update({"_connect_at": None} | state)
    runner._ready("child", selectors.EVENT_READ)
    runner._selector.close()
    assert did == (["close", RENEWED] if left else [])
    if "_connect_at" in state:
        assert runner._connect_at is not None and runner._connect_at < 1e12
