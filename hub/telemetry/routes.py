"""HTTP of telemetry; thin."""

from __future__ import annotations

from typing import Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from hub.store import Store
from hub.telemetry import views


class TelemetryController(Controller):
    """`/telemetry`: what devices reported."""

    path = "/telemetry"
    tags = ["telemetry"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/devices/{device_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def timeline(
        self,
        store: NamedDependency[Store],
        device_id: FromPath[str],
        limit: FromQuery[int] = 100,
        before: FromQuery[int | None] = None,
    ) -> dict[str, Any]:
        """A device's latest status and durable reports, newest first."""
        with store.read() as tx:
            return views.timeline(tx, device_id, limit=limit, before=before)

    @get("/quarantine", opt={"access": "viewer"}, sync_to_thread=True)
    def quarantine(self, store: NamedDependency[Store], limit: FromQuery[int] = 100) -> dict[str, Any]:
        """Messages that could not be taken in, with the reason."""
        with store.read() as tx:
            return views.quarantine(tx, limit=limit)
