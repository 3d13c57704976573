"""What the agent's one selector watches, while files come and go and numbers are used again."""

from __future__ import annotations

import inspect
import io
import os
import selectors
import socket
from types import SimpleNamespace
from typing import Any

from edge.config import Settings
from edge.runner import Runner


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
