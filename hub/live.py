"""HTTP of the event streams."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from hub.errors import Forbidden, Invalid, NotFound
from hub.store import Store
from hub.streams import Filter, Streams

AnyRequest = Request[Any, Any, State]
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class LiveController(Controller):
    """`/events`, and one device's part of it."""

    path = "/"
    tags = ["telemetry"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/events", opt={"access": "viewer", "stream": True})
    async def everything(
        self, request: AnyRequest, streams: NamedDependency[Streams], after: FromQuery[int | None] = None
    ) -> Stream:
        """Every event as it is sealed, and every summary as it changes, as server-sent events.

        Begins with what comes next, or after `Last-Event-ID` (or `after`), which misses nothing.
        """
        return await _stream(request, streams, after, Filter())

    @get("/devices/{device_id:str}/events", opt={"access": "device", "stream": True})
    async def device(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        streams: NamedDependency[Streams],
        device_id: FromPath[str],
        after: FromQuery[int | None] = None,
    ) -> Stream:
        """One device's events and those of its role's releases, as server-sent events."""
        caller = request.state.caller
        if caller.role == "device" and caller.name != device_id:
            raise Forbidden("A device may only read what is its own.", rule="own_device")
        # Before the device is looked up: a revocation after that is an entry after this one.
        since = await asyncio.to_thread(streams.last) if caller.role == "device" else None
        role = await asyncio.to_thread(_role_of, store, device_id, since is not None)
        return await _stream(request, streams, after, Filter(device_id, role, since))


async def _stream(request: AnyRequest, streams: Streams, after: int | None, about: Filter) -> Stream:
    who = request.state.caller.name
    streams.admit(who)
    text = request.headers.get("last-event-id", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("Last-Event-ID must be the number of an event.", rule="last_event_id")
    if after is not None and not 0 <= after < 2**62:
        raise Invalid("after must be the number of an event.", rule="after")
    begin = int(text) if text else after
    if begin is None:
        begin = await asyncio.to_thread(streams.last)
    # A device's own stream ends by what is told of it.
    may = None if request.state.caller.role == "device" else request.state.still
    return Stream(streams.follow(begin, about, may, who), media_type="text/event-stream", headers=_HEADERS)


def _role_of(store: Store, device_id: str, itself: bool) -> str:
    with store.read() as tx:
        row = tx.one("SELECT role, revoked_at FROM devices WHERE device_id = :id", {"id": device_id})
    if row is None or (itself and row["revoked_at"] is not None):
        raise NotFound(f"There is no device {device_id}.")
    return str(row["role"])
