"""What the agent and its exchange process say to each other: one question at a time, each with its answer."""

from __future__ import annotations

from typing import Final

import msgspec

LENGTH: Final = 4


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One HTTP request to the hub. With a `body` it is a POST; `etag` is of what is known already; of a longer
    answer `limit` + 1 bytes are returned. `clock_ok` says whether certificates' dates can be judged."""

    path: str
    limit: int
    body: bytes | None = None
    etag: str = ""
    clock_ok: bool = True


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it: a `status`, or 0 and the `problem`, a sentence for people. `documents` is the hub's word for
    what it has for this device, if it said one (`topics.heard`)."""

    status: int = 0
    media_type: str = ""
    body: bytes = b""
    problem: str = ""
    documents: str = ""


def pack(message: Ask | Answer) -> bytes:
    """Return the bytes of one frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


def whole(received: bytes | bytearray) -> bytes | None:
    """Return the content of the first frame, None while it is not all there."""
    end = LENGTH + int.from_bytes(received[:LENGTH], "big")
    return bytes(received[LENGTH:end]) if len(received) >= max(end, LENGTH) else None
