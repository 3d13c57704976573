"""HTTP of deployment control; thin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED

from hub.conditional import is_known
from hub.deployment import permits, stages, views
from hub.deployment.catalogue import Catalogue
from hub.deployment.policy import read_policy
from hub.deployment.preview import preview
from hub.deployment.records import get_release, release_view
from hub.deployment.rehearsal import Verb
from hub.deployment.rehearsal import dry_run as rehearse
from hub.deployment.rules import basis_points
from hub.deployment.service import Deployment
from hub.errors import Forbidden, Invalid
from hub.store import Store
from hub.times import Clock, rfc3339
from topics import names
from topics.channels import DESIRED, MANIFEST
from topics.errors import TopicError
from topics.fields import Text
from topics.trust import sha256

AnyRequest = Request[Any, Any, State]
ENVELOPE_TYPE = "application/vnd.flaghoist.envelope+msgpack"
Base64 = Annotated[str, msgspec.Meta(max_length=16 * 1024)]


class Observed(msgspec.Struct, frozen=True):
    """What reading needs beside the store: since when ingest is caught up (ms), the fleet, and time zones."""

    since: Callable[[], int]
    fleet: str
    zones: Callable[[str], tzinfo | None]


class Reading(msgspec.Struct, frozen=True):
    """All that answering one question takes, in one: Litestar spends as long on three as on the answer."""

    store: Store
    clock: Clock
    observed: Observed


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed release envelope (base64) and its rollout policy."""

    envelope: Base64
    policy: dict[str, Any] | None = None


class PromoteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which segment, and what share of it in percent (0 exclusive to 100; the policy's next step without); not before
    a time.

    `override` passes over the gate of the present segment, for the `reason` given; `policy_exception` is the reason
    for which an admin passes over the fleet's policies.
    """

    target_segment: Literal["canary", "early", "general"]
    rollout_percentage: float | None = None
    reason: Text = ""
    override: bool = False
    policy_exception: Text = msgspec.field(default="", name="policy_exception")
    not_before: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        default=None, name="not_before"
    )


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, in the operator's words; it stands in the audit."""

    reason: Text = ""


class ExceptedReason(Reason, frozen=True, forbid_unknown_fields=True):
    """Why; and for which reason an admin passes over the fleet's policies, if so."""

    policy_exception: Text = ""


class DeploymentController(Controller):
    """`/releases`, `/manifests` and a device's own desired state."""

    path = "/"
    tags = ["deployment"]  # noqa: RUF012  (litestar reads it from the class)

    @post("/releases", opt={"access": "release-manager"}, sync_to_thread=True)
    def declare(
        self,
        request: AnyRequest,
        catalogue: NamedDependency[Catalogue],
        observed: NamedDependency[Observed],
        data: JSONBody[ReleaseRequest],
    ) -> dict[str, Any]:
        """Declare a signed release; it is a draft until its bundle is uploaded."""
        policy = read_policy(data.policy, observed.zones) if data.policy is not None else None
        return _release(catalogue.declare(data.envelope, policy, request.state.caller))

    @get("/releases", opt={"access": "viewer"}, sync_to_thread=True)
    def index(
        self,
        store: NamedDependency[Store],
        role: FromQuery[str | None] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[int | None] = None,
    ) -> dict[str, Any]:
        """List releases, newest sequence first."""
        with store.read() as tx:
            page = views.page(tx, role=role, limit=limit, cursor=cursor)
        return {**page, "items": [_release(item) for item in page["items"]]}

    @get("/releases/{release_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def show(self, store: NamedDependency[Store], release_id: FromPath[str]) -> dict[str, Any]:
        """Show one release, with when, by whom and why each of its stages began and ended."""
        with store.read() as tx:
            found = release_view(get_release(tx, release_id))
            return {**_release(found), "stages": stages.shown(tx, release_id)}

    @post(
        "/releases/{release_id:str}/promote",
        opt={"access": "release-manager"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def promote(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        observed: NamedDependency[Observed],
        deployment: NamedDependency[Deployment],
        release_id: FromPath[str],
        data: JSONBody[PromoteRequest],
        dry_run: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Offer a release to a share of a segment; with `dry_run`, say who would move and which rule would refuse."""
        if dry_run:
            asked = None if data.rollout_percentage is None else basis_points(data.rollout_percentage)
            with store.read() as tx:
                release = get_release(tx, release_id)
                share = asked or deployment.next_share(tx, release, data.target_segment)
                refusal = deployment.refusal(tx, release, data.target_segment, share, override=data.override)
                to = (release, data.target_segment, share, request.state.caller)
                refused = deployment.refused_by_policy(tx, *to) if refusal is None else []
                refusal = refusal or permits.conflict(refused)
                found = preview(
                    tx, observed.fleet, release, data.target_segment, share, observed.zones, now=clock.now()
                )
            return {
                "dry_run": True,
                "refused_by": refusal.rule if refusal else None,
                "detail": refusal.detail if refusal else "",
                "policies": [msgspec.structs.asdict(one) for one in refused],
                "basis_points": share,
                **found,
            }
        where = (release_id, data.target_segment, data.rollout_percentage)
        caller = request.state.caller
        not_before = round(data.not_before.timestamp() * 1000) if data.not_before else 0
        if not_before > clock.now():
            if data.override:
                raise Invalid("override is for a promotion now; leave out not_before.", rule="override")
            return _release(deployment.schedule(*where, not_before, caller, data.reason))
        exception = data.policy_exception
        return _release(
            deployment.promote(*where, caller, data.reason, override=data.override, exception=exception)
        )

    @post(
        "/releases/{release_id:str}/pause",
        opt={"access": "operator"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def pause(
        self,
        request: AnyRequest,
        reading: NamedDependency[Reading],
        deployment: NamedDependency[Deployment],
        release_id: FromPath[str],
        data: JSONBody[Reason | None] = None,
        dry_run: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Stop new starts; what has begun finishes. With `dry_run`, only say what it would do."""
        why = (request.state.caller, _text(data))
        if dry_run:
            return _rehearsed(
                reading, "pause", release_id, lambda: deployment.rehearsed().pause(release_id, *why)
            )
        return _release(deployment.pause(release_id, *why))

    @post(
        "/releases/{release_id:str}/resume",
        opt={"access": "release-manager"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def resume(
        self,
        request: AnyRequest,
        reading: NamedDependency[Reading],
        deployment: NamedDependency[Deployment],
        release_id: FromPath[str],
        data: JSONBody[ExceptedReason | None] = None,
        dry_run: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Go on after a pause or a halt. With `dry_run`, only say what it would do."""
        why = data or ExceptedReason()
        caller = request.state.caller

        def act(on: Deployment) -> dict[str, Any]:
            return on.resume(release_id, caller, why.reason, exception=why.policy_exception)

        if dry_run:
            return _rehearsed(reading, "resume", release_id, lambda: act(deployment.rehearsed()))
        return _release(act(deployment))

    @post(
        "/releases/{release_id:str}/rollback",
        opt={"access": "operator"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def rollback(
        self,
        request: AnyRequest,
        reading: NamedDependency[Reading],
        deployment: NamedDependency[Deployment],
        release_id: FromPath[str],
        data: JSONBody[ExceptedReason | None] = None,
        dry_run: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Withdraw a release from every device that runs it. With `dry_run`, only say what it would do."""
        why = data or ExceptedReason()
        caller = request.state.caller

        def act(on: Deployment) -> dict[str, Any]:
            return on.rollback(release_id, caller, why.reason, exception=why.policy_exception)

        if dry_run:
            return _rehearsed(reading, "rollback", release_id, lambda: act(deployment.rehearsed()))
        return _release(act(deployment))

    @get("/releases/{release_id:str}/progress", opt={"access": "viewer"}, sync_to_thread=True)
    def progress(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        observed: NamedDependency[Observed],
        release_id: FromPath[str],
    ) -> dict[str, Any]:
        """Show how far a rollout is, per segment."""
        with store.read() as tx:
            found = views.progress(tx, release_id, now=clock.now(), observed_since=observed.since())
        segments = [
            {**row, "started_at": rfc3339(row["started_at"]), "finished_at": rfc3339(row["finished_at"])}
            for row in found["segments"]
        ]
        return {**_release(found), "segments": segments}

    @get(
        "/releases/{release_id:str}/eligibility/{device_id:str}",
        opt={"access": "device"},
        sync_to_thread=False,  # a few rows by their keys take less than handing them to a thread
    )
    def eligibility(
        self,
        request: AnyRequest,
        reading: NamedDependency[Reading],
        release_id: FromPath[str],
        device_id: FromPath[str],
    ) -> dict[str, Any]:
        """Say what the device would decide about the release, on the facts of its last heartbeat."""
        _own(request, device_id)
        observed = reading.observed
        with reading.store.read() as tx:
            found = views.eligibility(
                tx, release_id, device_id, observed.fleet, observed.zones, now=reading.clock.now()
            )
        return {**found, "as_of": rfc3339(found["as_of"])}

    @get("/manifests/{role:str}/{segment:str}", opt={"access": "device"}, sync_to_thread=True)
    def manifest(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        observed: NamedDependency[Observed],
        role: FromPath[str],
        segment: FromPath[str],
    ) -> Response[bytes]:
        """The very bytes that are retained for a role and segment."""
        try:
            topic = MANIFEST.topic(observed.fleet, role=role, segment=segment)
        except TopicError as error:
            raise Invalid(f"{error}.", rule="topic") from None
        return _retained(request, store, topic)

    @get("/devices/{device_id:str}/desired", opt={"access": "device"}, sync_to_thread=True)
    def desired(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        observed: NamedDependency[Observed],
        device_id: FromPath[str],
    ) -> Response[bytes]:
        """The very bytes that are retained for one device."""
        _own(request, device_id)
        try:
            topic = DESIRED.topic(observed.fleet, id=names.device_id(device_id))
        except TopicError as error:
            raise Invalid(f"{error}.", rule="topic") from None
        return _retained(request, store, topic)


def _own(request: AnyRequest, device_id: str) -> None:
    caller = request.scope["state"]["caller"]
    if caller.role == "device" and caller.name != device_id:
        raise Forbidden("A device may only read what is its own.", rule="own_device")


def _retained(request: AnyRequest, store: Store, topic: str) -> Response[bytes]:
    with store.read() as tx:
        data = views.retained(tx, topic)
    # What polls, a CDN or a device without MQTT, asks again and again for what seldom changes.
    headers = {"ETag": f'"{sha256(data)}"', "Cache-Control": "no-cache"}
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(data, headers=headers, media_type=ENVELOPE_TYPE)


def _rehearsed(reading: Reading, verb: Verb, release_id: str, act: Callable[[], object]) -> dict[str, Any]:
    moment = {"now": reading.clock.now(), "observed_since": reading.observed.since()}
    return rehearse(reading.store, verb, release_id, act, **moment)


def _text(data: Reason | None) -> str:
    return data.reason if data else ""


def _release(view: dict[str, Any]) -> dict[str, Any]:
    return {**view, "created_at": rfc3339(view["created_at"]), "updated_at": rfc3339(view["updated_at"])}
