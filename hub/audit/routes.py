"""HTTP of the audit; thin, and reading only: nothing here can change or delete an event."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from hub.audit import views
from hub.audit.views import Wanted
from hub.errors import Invalid
from hub.signer import Signer
from hub.store import Store
from hub.times import Clock, parse_rfc3339

MAX_LIMIT = 500


class AuditController(Controller):
    """`/audits`: every change, who made it, and the proof."""

    path = "/audits"
    opt = {"access": "viewer"}  # noqa: RUF012  (litestar reads it from the class)
    tags = ["audit"]  # noqa: RUF012

    @get("/", sync_to_thread=True)
    def index(
        self,
        store: NamedDependency[Store],
        device_id: Annotated[str | None, QueryParameter(name="deviceId")] = None,
        release_id: Annotated[str | None, QueryParameter(name="releaseId")] = None,
        role: FromQuery[str | None] = None,
        actor: FromQuery[str | None] = None,
        kind: FromQuery[str | None] = None,
        request_id: Annotated[str | None, QueryParameter(name="requestId")] = None,
        since: FromQuery[str | None] = None,
        until: FromQuery[str | None] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """List events, the newest first, by device, release, role, actor, kind, request and time (RFC 3339)."""
        if not 1 <= limit <= MAX_LIMIT:
            raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
        wanted = Wanted(
            device_id=device_id,
            release_id=release_id,
            role=role,
            actor=actor,
            kind=kind,
            request_id=request_id,
            since=_time("since", since),
            until=_time("until", until),
        )
        with store.read() as tx:
            found = views.audits(tx, wanted, before=_number("cursor", cursor), limit=limit + 1)
        items = found[:limit]
        return {"items": items, "next_cursor": str(items[-1]["n"]) if len(found) > limit else None}

    @get("/export", sync_to_thread=True)
    def export(
        self,
        store: NamedDependency[Store],
        signer: NamedDependency[Signer],
        clock: NamedDependency[Clock],
        after: FromQuery[str | None] = None,
    ) -> Stream:
        """Every event after number `after`, oldest first, with its hash, and the signed checkpoints, as NDJSON."""
        lines = views.export(store, signer, _number("after", after) or 0, clock.now())
        return Stream(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"{name} must be the number of an event.", rule=name)
    return int(text)


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} must be a time like 2026-11-25T09:30:00Z.", rule=name) from None
