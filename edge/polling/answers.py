"""What the hub's answers mean. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge.polling.frames import Answer
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import Receipt

ENVELOPE: Final = "application/vnd.flaghoist.envelope+msgpack"
PROBLEM: Final = "application/problem+json"
PASSING: Final = (408, 425, 429)
"""Statuses from 400 on that say nothing about the request itself."""


def broken(answer: Answer, *, posted: bool) -> str:
    """Return why an answer ends the connection, empty when it does not.

    1. No answer, or one that another may have tomorrow (5xx, too many requests): the connection is lost.
    2. This device is refused (401, 403): so too, with the hub's words.
    3. What no hub says (a page of a login portal, a redirect): so too; it would otherwise count as an answer.
    4. Other refusals are about the one request and end nothing.
    """
    if answer.problem:
        return answer.problem
    status, told = answer.status, str(_problem(answer).get("detail", ""))[:200].rstrip(".")
    if status in (401, 403) and answer.media_type == PROBLEM:
        return f"the hub refuses this device: {told}"
    if status >= 500 or status in PASSING:
        return f"the hub answers {status}: {told or 'try again later'}"
    expected = (200, codec.MSGPACK) if posted else (200, ENVELOPE)
    is_ours = (
        status == (204 if posted else 304)
        or (status, answer.media_type) == expected
        or (status >= 400 and answer.media_type == PROBLEM)
    )
    return "" if is_ours else f"what answers in the hub's place is none ({status}, {answer.media_type})"


def receipt(answer: Answer) -> Receipt | None:
    """Return the receipt in the answer to a post: its body, or part of the problem for what is in quarantine."""
    try:
        if answer.status == 200:
            return codec.decode(answer.body, Receipt, limit=UPLINK_LIMIT)
        return msgspec.convert(_problem(answer).get("receipt"), Receipt)
    except (DecodeError, msgspec.ValidationError):
        return None


def _problem(answer: Answer) -> dict[str, Any]:
    if answer.media_type != PROBLEM:
        return {}
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
