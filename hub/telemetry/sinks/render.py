"""A report as one line of JSON: `{"at", "device_id", "kind", "body"}`. Pure.

>>> render(("presence", "shop-12", b'{"state": "online"}', None, 0))[0].text
b'{"at":"1970-01-01T00:00:00.000Z","device_id":"shop-12","kind":"presence","body":{"state":"online"}}'
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from hub.telemetry.sinks.queue import Line
from hub.times import rfc3339
from topics import codec

_json: Final = msgspec.json.Encoder()
_from_json: Final = msgspec.json.Decoder()
_from_msgpack: Final = msgspec.msgpack.Decoder()
# Lines of a batch share their time of arrival, and formatting it costs as much as all the rest.
_time: Final = lru_cache(maxsize=4)(rfc3339)


class Rendered(NamedTuple):
    """One line of JSON without its end, and what a sink sorts it by; `at` is when the hub received it (ms)."""

    at: int
    kind: str
    device_id: str
    text: bytes


class UnreadableError(ValueError):
    """The body is no map that JSON could say."""


def render(line: Line) -> list[Rendered]:
    """Return the lines of a report: one, or one for each log line of a `log`. Raises `UnreadableError`.

    The body is decoded and written anew: JSON that a device sent may contain line ends.
    """
    kind, device_id, body, content_type, at = line
    try:
        tree = (_from_json if codec.sniff(body, content_type) == codec.JSON else _from_msgpack).decode(body)
        if not isinstance(tree, dict):
            raise UnreadableError("the body is not a map")
        lines = tree.get("lines") if kind == "log" else None
        bodies: list[Any] = lines if isinstance(lines, list) else [tree]
        head = {"at": _time(at), "device_id": device_id, "kind": kind}
        return [Rendered(at, kind, device_id, _json.encode({**head, "body": each})) for each in bodies]
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
