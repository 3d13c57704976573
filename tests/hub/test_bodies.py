"""JSON bodies that are none: refused by name, and never a fault of the hub."""

from __future__ import annotations

import pytest

from tests.hub.world import World

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
