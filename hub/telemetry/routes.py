"""HTTP of telemetry; thin."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from hub.store import Store
from hub.telemetry import asked, views
from hub.telemetry import timeline as timelines
from hub.times import Clock


class TelemetryController(Controller):
    """`/telemetry`: what devices reported."""

    path = "/telemetry"
    tags = ["telemetry"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/devices/{device_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def device(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        device_id: FromPath[str],
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A device's latest status and durable reports, newest first."""
        with store.read() as tx:
            return views.device(tx, device_id, limit=limit, cursor=cursor, now=clock.now())

    @get("/devices/{device_id:str}/rollups", opt={"access": "viewer"}, sync_to_thread=True)
    def rollups(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        device_id: FromPath[str],
        tier: FromQuery[str] = "1h",
        begin: Annotated[str | None, QueryParameter(name="from")] = None,
        end: Annotated[str | None, QueryParameter(name="to")] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A device's heartbeats by 5 minutes, hour or day: how many, the worst health, mean and maximum of probes."""
        span = asked.span(begin, end)
        with store.read() as tx:
            return views.rollups(
                tx, device_id, tier=tier, span=span, limit=limit, cursor=cursor, now=clock.now()
            )

    @get("/quarantine", opt={"access": "viewer"}, sync_to_thread=True)
    def quarantine(self, store: NamedDependency[Store], limit: FromQuery[int] = 100) -> dict[str, Any]:
        """Messages that could not be taken in, with the reason."""
        with store.read() as tx:
            return views.quarantine(tx, limit=limit)


class TimelineController(Controller):
    """One device's timeline; among the devices, since that is where people look for it."""

    path = "/devices"
    tags = ["telemetry"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/{device_id:str}/timeline", opt={"access": "viewer"}, sync_to_thread=True)
    def timeline(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        device_id: FromPath[str],
        kind: FromQuery[str | None] = None,
        begin: Annotated[str | None, QueryParameter(name="from")] = None,
        end: Annotated[str | None, QueryParameter(name="to")] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """All that is known to have happened to a device, newest first."""
        kinds, span = timelines.kinds_of(kind), asked.span(begin, end)
        with store.read() as tx:
            return timelines.page(
                tx,
                asked.device(tx, device_id),
                kinds=kinds,
                span=span,
                limit=limit,
                cursor=cursor,
                now=clock.now(),
            )
