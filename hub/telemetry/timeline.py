"""A device's timeline: everything that is known to have happened to it, in one list, newest first.

| kind | where it is read from | its time |
| --- | --- | --- |
| `status` | hourly rollups: each hour whose worst health differs from the one before | the hour's start |
| `update-result`, `drift`, `recovery`, `command-result` | durable reports | when the hub received it |
| `presence` | the presence log | when the entry began |
| `release` | events of its role's releases, as far as they concern its segment | of the event |
| `audit` | events on the device | of the event |

Every entry has a place that never changes: its time, its kind's rank, its id within the kind. A cursor is the place of
the last entry of a page, and the next page begins behind it. So what comes in between two pages moves nothing: no
entry is shown twice, none that was there at the start is left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Any, Final

from hub.errors import Invalid
from hub.store import Row, Tx
from hub.telemetry import asked, sources
from hub.telemetry.asked import Span
from hub.telemetry.sources import Item, Place, Window
from hub.times import rfc3339
from topics.messages import DURABLE_TYPES

KINDS: Final = ("status", *DURABLE_TYPES, "presence", "release", "audit")
_CURSOR_LIMIT: Final = 200


def page(
    tx: Tx, device: Row, *, kinds: Collection[str], span: Span, limit: int, cursor: str | None, now: int
) -> dict[str, Any]:
    """Return one page of a device's timeline, and the cursor of the next; `now` in ms. Raises `Invalid`."""
    asked.check_limit(limit)
    after = None if cursor is None else place_of(cursor)
    found: list[Item] = []
    for source in sources.SOURCES:
        wanted = source.kinds & set(kinds)
        if wanted:
            window = Window.behind(after, source.rank, span, limit + 1)
            found += source.read(tx, device, window, wanted, now)
    found.sort(key=lambda item: item.place, reverse=True)
    return {
        "device_id": device["device_id"],
        "items": [_view(item) for item in found[:limit]],
        "next_cursor": cursor_of(found[limit - 1].place) if len(found) > limit else None,
    }


def kinds_of(text: str | None) -> Collection[str]:
    """Return the kinds that a comma-separated text names, all for None; raises `Invalid`."""
    if text is None:
        return KINDS
    kinds = text.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise Invalid(f"{kind!r} is not a kind; the kinds are {', '.join(KINDS)}.", rule="kind")
    return kinds


def cursor_of(place: Place) -> str:
    """Return a place as opaque text.

    >>> place_of(cursor_of(Place(1500, 2, "0a1b2c3d/7")))
    Place(at=1500, rank=2, id='0a1b2c3d/7')
    """
    text = f"{place.at}.{place.rank}.{place.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Return the place that a cursor stands for; raises `Invalid`."""
    try:
        if len(cursor) > _CURSOR_LIMIT:
            raise ValueError(cursor)
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, rank, name = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(".", 2)
        if not (at.isdigit() and rank.isdigit() and len(at) < 16 and len(rank) < 3):
            raise ValueError(cursor)
        return sources.checked(Place(int(at), int(rank), name))
    except (ValueError, binascii.Error):
        raise Invalid("cursor must be the next_cursor of an earlier answer.", rule="cursor") from None


def _view(item: Item) -> dict[str, Any]:
    return {
        "at": rfc3339(item.place.at),
        "kind": item.kind,
        "id": f"{item.kind}/{item.place.id or item.place.at}",
        "text": item.text,
        "detail": item.detail,
    }
