"""HTTP of recovery; thin."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from hub.recovery import commands, views
from hub.recovery.service import Recovery, Redeploy
from hub.store import Store
from topics.documents import CommandKind
from topics.fields import DeviceId, ReleaseId, Text

AnyRequest = Request[Any, Any, State]
Lifetime = Annotated[int, msgspec.Meta(ge=60, le=commands.LONGEST_S, description="seconds")]


class Why(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, in the operator's words; it stands in the audit."""

    reason: Text = ""


class RedeployRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release (without one, what the device is offered), and whether diagnostics may be passed over."""

    release_id: ReleaseId | None = msgspec.field(default=None, name="releaseId")
    force: bool = False
    reason: Text = ""
    policy_exception: Text = ""
    expires_in: Lifetime = commands.LIFETIME_S


class CommandRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command of a kind that needs no rule of its own."""

    kind: CommandKind
    reason: Text = ""
    expires_in: Lifetime = commands.LIFETIME_S


class FailRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how the next update of a device breaks, for a test."""

    device_id: DeviceId = msgspec.field(name="deviceId")
    phase: Literal["download", "verify", "stage", "activate", "probation"] = "probation"
    kind: Literal["fail", "hang", "crash", "power"] = "fail"
    reason: Text = ""
    expires_in: Lifetime = 3_600


class RecoveryController(Controller):
    """`/recovery`: devices in trouble."""

    path = "/recovery"
    tags = ["recovery"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/", opt={"access": "viewer"}, sync_to_thread=True)
    def index(
        self,
        store: NamedDependency[Store],
        role: FromQuery[str | None] = None,
        segment: FromQuery[str | None] = None,
        rule: FromQuery[str | None] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """List the devices in quarantine by id, a page at a time, and how many there are by rule."""
        with store.read() as tx:
            return views.page(tx, role=role, segment=segment, rule=rule, limit=limit, cursor=cursor)

    @get("/{device_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def show(self, store: NamedDependency[Store], device_id: FromPath[str]) -> dict[str, Any]:
        """Show a device's quarantine, stays in safe mode, diagnostics and commands."""
        return _shown(store, device_id)

    @post("/{device_id:str}/enter", opt={"access": "operator"}, sync_to_thread=True, status_code=HTTP_200_OK)
    def enter(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """Order a device into safe mode."""
        recovery.enter(device_id, request.state.caller, data.reason)
        return _shown(store, device_id)

    @post("/{device_id:str}/leave", opt={"access": "operator"}, sync_to_thread=True, status_code=HTTP_200_OK)
    def leave(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """End a device's stay in safe mode."""
        recovery.leave(device_id, request.state.caller, data.reason)
        return _shown(store, device_id)

    @post(
        "/{device_id:str}/quarantine",
        opt={"access": "operator"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def quarantine(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """Hold a device back until somebody lets it go."""
        recovery.quarantine(device_id, request.state.caller, data.reason)
        return _shown(store, device_id)

    @post(
        "/{device_id:str}/release", opt={"access": "operator"}, sync_to_thread=True, status_code=HTTP_200_OK
    )
    def release(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """Let a device go from quarantine."""
        recovery.release(device_id, request.state.caller, data.reason)
        return _shown(store, device_id)

    @post("/{device_id:str}/redeploy", opt={"access": "operator"}, sync_to_thread=True)
    def redeploy(
        self,
        request: AnyRequest,
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[RedeployRequest],
    ) -> dict[str, Any]:
        """Have a device install a release again, once its diagnostics pass."""
        asked = Redeploy(
            release=data.release_id,
            force=data.force,
            reason=data.reason,
            exception=data.policy_exception,
            lifetime=data.expires_in,
        )
        return recovery.redeploy(device_id, asked, request.state.caller)

    @post("/{device_id:str}/collect-diagnostics", opt={"access": "operator"}, sync_to_thread=True)
    def collect(
        self,
        request: AnyRequest,
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """Ask a device for its diagnostics."""
        return recovery.command(device_id, "collect-diagnostics", request.state.caller, reason=data.reason)

    @post("/{device_id:str}/repair", opt={"access": "operator"}, sync_to_thread=True)
    def repair(
        self,
        request: AnyRequest,
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[Why],
    ) -> dict[str, Any]:
        """Have a device put right what differs from its release."""
        return recovery.command(device_id, "repair-drift", request.state.caller, reason=data.reason)


class CommandsController(Controller):
    """Commands to one device; among the devices, since that is where people look for them."""

    path = "/devices"
    tags = ["recovery"]  # noqa: RUF012

    @post("/{device_id:str}/commands", opt={"access": "operator"}, sync_to_thread=True)
    def queue(
        self,
        request: AnyRequest,
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        data: JSONBody[CommandRequest],
    ) -> dict[str, Any]:
        """Queue a command; the device hears of it now, or when it wakes."""
        return recovery.command(
            *(device_id, data.kind, request.state.caller), reason=data.reason, lifetime=data.expires_in
        )

    @get("/{device_id:str}/commands/{command_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def show(
        self, store: NamedDependency[Store], device_id: FromPath[str], command_id: FromPath[str]
    ) -> dict[str, Any]:
        """Show one command and what became of it."""
        with store.read() as tx:
            return views.command(tx, device_id, command_id)

    @delete(
        "/{device_id:str}/commands/{command_id:str}",
        opt={"access": "operator"},
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def cancel(
        self,
        request: AnyRequest,
        recovery: NamedDependency[Recovery],
        device_id: FromPath[str],
        command_id: FromPath[str],
    ) -> dict[str, Any]:
        """Take a pending command back."""
        return recovery.cancel(device_id, command_id, request.state.caller)


class ChaosController(Controller):
    """`/test`: making devices fail, on hubs that were started for it."""

    path = "/test"
    tags = ["recovery"]  # noqa: RUF012

    @post("/fail-update", opt={"access": "admin"}, sync_to_thread=True, status_code=HTTP_201_CREATED)
    def fail_update(
        self, request: AnyRequest, recovery: NamedDependency[Recovery], data: JSONBody[FailRequest]
    ) -> dict[str, Any]:
        """Have the next update of a device break."""
        return recovery.fail_update(
            *(data.device_id, data.phase, data.kind, request.state.caller),
            lifetime=data.expires_in,
            reason=data.reason,
        )


def _shown(store: Store, device_id: str) -> dict[str, Any]:
    with store.read() as tx:
        return views.device(tx, device_id)
