"""The decisions of the registry, pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub.errors import Conflict, Unauthorised
from hub.presence import SILENT_AFTER
from topics.fields import Name, ReleaseId, Role, Text

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType

RESERVED = ("register", "enrolment-tokens")
"""What stands in paths where a device's id does: a device of that name could not be reached."""


class DevicePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What operators may change of a device; what is left out stays."""

    role: Role | Unset = UNSET
    segment: Literal["canary", "early", "general"] | Unset = UNSET
    branch: Name | Unset = UNSET
    hardware: Name | Unset = UNSET
    serial: Name | Unset = UNSET
    owner: Name | Unset = UNSET
    geolocation: Text | Unset = UNSET
    tags: dict[Name, Name] | Unset = UNSET
    update_interval: Annotated[int, Meta(ge=5, le=7 * 86_400)] | Unset = UNSET
    event_stream_url: Text | Unset = UNSET
    version_lock: ReleaseId | Unset | None = UNSET
    maintenance: bool | Unset = UNSET
    rekey_allowed: bool | Unset = UNSET


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new enrolment token: for one role and segment, a number of uses, a life in seconds."""

    role: Role
    segment: Literal["canary", "early", "general"] = "canary"
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    expires_in: Annotated[int, Meta(ge=60, le=90 * 86_400)] = 86_400


class KnownDevice(msgspec.Struct, frozen=True):
    """What the registry holds of an id that registers again."""

    public_key: bytes
    token_id: str
    rekey_allowed: bool
    revoked: bool


def check_token(
    *, uses_left: int, expires_at: int, now: int, spent_by_this_device: bool, revoked: bool
) -> None:
    """Raise `Unauthorised` unless a token may be used at `now` (ms).

    A device that has already spent a use of it may ask again: its answer may have been lost on the way.
    """
    if revoked:
        raise Unauthorised("The enrolment token was withdrawn; ask for a new one.", rule="token_revoked")
    if now >= expires_at:
        raise Unauthorised("The enrolment token has expired; ask for a new one.", rule="token_expired")
    if uses_left < 1 and not spent_by_this_device:
        raise Unauthorised("The enrolment token is used up; ask for a new one.", rule="token_used")


def check_identity(device_id: str, known: KnownDevice | None, public_key: bytes) -> None:
    """Raise `Conflict` when an id is taken by another key, until an operator allows the change."""
    if device_id in RESERVED:
        raise Conflict(f"{device_id} is a word of the API's own; choose another id.", rule="reserved_id")
    if known is None:
        return
    if known.revoked:
        raise Conflict(f"{device_id} was revoked; delete it before it may register again.", rule="revoked")
    if known.public_key != public_key and not known.rekey_allowed:
        raise Conflict(
            f"{device_id} is registered with another key; choose another id, or have an operator set rekey_allowed.",
            rule="id_taken",
        )


def presence(
    state: str | None, heard_at: int | None, next_wake: int, update_interval: int, now: int
) -> Literal["online", "sleeping", "offline", "unknown"]:
    """Return how a device is shown. `heard_at` and `now` in ms, `next_wake` and `update_interval` in s.

    A device that says it is online but has missed `SILENT_AFTER` heartbeats is offline, whatever the broker
    still retains; a sleeping one is given the same grace after its announced wake.
    """
    if state is None and heard_at is None:
        return "unknown"
    if state == "offline":
        return "offline"
    grace = SILENT_AFTER * update_interval * 1000
    due = max(heard_at or 0, next_wake * 1000 if state == "sleeping" else 0)
    if now - due > grace:
        return "offline"
    return "sleeping" if state == "sleeping" else "online"
