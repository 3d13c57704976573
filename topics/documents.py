"""Signed documents: what a device is told, each addressed and numbered.

`to` is the full topic a document belongs on; `issued_at` (ms) is its version on that topic. Times in
documents are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from topics.fields import (
    BasisPoints,
    Commit,
    Count,
    DeviceId,
    Duration,
    Fleet,
    Integer,
    KeyId,
    LongText,
    Millis,
    Name,
    PublicKey,
    ReleaseId,
    Role,
    Sha256,
    Text,
)

TrustRole = Literal["root", "release", "deployment"]
Segment = Literal["canary", "early", "general"]
Envelopes = Annotated[bytes, Meta(max_length=6 * 1024)]


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of signed documents: unknown fields are ignored, so an older agent reads a newer hub."""


class KeyRole(Document, frozen=True, kw_only=True):
    """Which keys speak for a trust role, and how many of them must agree."""

    keyids: Annotated[list[KeyId], Meta(min_length=1, max_length=16)]
    threshold: Annotated[int, Meta(ge=1, le=16)]


class Root(Document, frozen=True, kw_only=True):
    """The root of trust, pinned at enrolment; version N+1 is signed by the thresholds of N and N+1."""

    fleet: Fleet
    version: Annotated[int, Meta(ge=1, le=2**31)]
    expires_at: Millis
    keys: dict[KeyId, PublicKey]
    roles: dict[TrustRole, KeyRole]


class Bundle(Document, frozen=True, kw_only=True):
    """The release's tar.gz: hash and size of the file, and the hash of the tar inside it."""

    sha256: Sha256
    size: Annotated[int, Meta(ge=1, le=2**40, description="bytes")]
    tar_sha256: Sha256


class Requires(Document, frozen=True, kw_only=True):
    """What a device must have before it may take the release."""

    min_agent: Name = "0"
    hardware: Annotated[list[Name], Meta(max_length=16)] = []
    from_sequence: Count = 0


class Release(Document, frozen=True, kw_only=True):
    """One release of a role, signed by the release keys, offline or in CI."""

    fleet: Fleet
    id: ReleaseId
    role: Role
    commit: Commit
    sequence: Annotated[int, Meta(ge=1, le=2**53)]
    version: Name
    bundle: Bundle
    checksums: Sha256
    compose_sha256: Sha256
    hook: Role
    created_at: Millis
    floor: Count = 0
    feature_flags: dict[Name, bool | Integer | Name] = {}
    migration: Text = ""
    requires: Requires = Requires()
    changelog: Text = ""


class Window(Document, frozen=True, kw_only=True):
    """When updates may start. `days` are 0 (Monday) to 6; `end` before `start` runs past midnight.

    `zone` is an IANA name, or `device` for the device's own zone. Anything malformed refuses.
    """

    days: Annotated[list[Annotated[int, Meta(ge=0, le=6)]], Meta(min_length=1, max_length=7)]
    start: Annotated[str, Meta(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z")]
    end: Annotated[str, Meta(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z")]
    zone: Name = "device"


class Manifest(Document, frozen=True, kw_only=True):
    """The whole desired state of one role and segment, signed by the hub's deployment key.

    `rollback_from` is the highest sequence that a rollback was ordered from: a device that runs a release
    up to it goes down to `stable`, even when this manifest is the first it reads in a month.
    """

    to: Name
    fleet: Fleet
    role: Role
    segment: Segment
    issued_at: Millis
    expires_at: Millis
    event: Literal["update_available", "pause", "rollback", "refresh"]
    stable: Envelopes | None = None
    candidate: Envelopes | None = None
    basis_points: BasisPoints = 0
    paused: bool = False
    rollback_from: Count = 0
    spread_seconds: Duration = 0
    window: Window | None = None
    waypoints: Annotated[list[Envelopes], Meta(max_length=8)] = []
    sources: Annotated[list[Text], Meta(max_length=8)] = []


CommandKind = Literal[
    "redeploy",
    "collect-diagnostics",
    "check-drift",
    "repair-drift",
    "report-now",
    "restart-agent",
    "fail-next-update",
]


class Command(Document, frozen=True, kw_only=True):
    """Something one device is asked to do once, before `expires_at`."""

    id: Name
    kind: CommandKind
    expires_at: Millis
    release: ReleaseId | None = None
    args: dict[Name, Text] = {}


class Desired(Document, frozen=True, kw_only=True):
    """One device's own desired state with its pending commands, signed by the deployment key.

    `quarantine` is why the hub holds the device's updates back, "" while it does not. `cas` are the SHA-256 of the
    CAs (DER) that a device has to know its broker by; empty as long as that is the one it was enrolled with.
    """

    to: Name
    fleet: Fleet
    device_id: DeviceId
    issued_at: Millis
    role: Role
    segment: Segment
    branch: Name = "main"
    update_interval: Annotated[int, Meta(ge=5, le=7 * 86_400, description="seconds")] = 300
    event_stream_url: Text = ""
    version_lock: Envelopes | None = None
    maintenance: bool = False
    safe_mode: Name = "auto"
    quarantine: Text = ""
    tags: dict[Name, Name] = {}
    commands: Annotated[list[Command], Meta(max_length=32)] = []
    cas: Annotated[list[Sha256], Meta(max_length=8)] = []


class Config(Document, frozen=True, kw_only=True):
    """What registration answers: where to connect, signed by the deployment key, beside the certificate."""

    to: Name
    fleet: Fleet
    device_id: DeviceId
    issued_at: Millis
    role: Role
    segment: Segment
    mqtt_host: Name
    mqtt_port: Annotated[int, Meta(ge=1, le=65_535)]
    http_url: Text
    update_interval: Annotated[int, Meta(ge=5, le=7 * 86_400)] = 300


class Credentials(Document, frozen=True, kw_only=True):
    """A device's certificate and the CAs that it knows its broker by (PEM, one after the other), signed by the
    deployment key: HTTP may go over a network that anybody changes. `nonce` is that of the request it answers.
    """

    to: Name
    fleet: Fleet
    device_id: DeviceId
    issued_at: Millis
    nonce: Annotated[bytes, Meta(max_length=64)]
    certificate_pem: LongText
    ca_pem: LongText


class Checkpoint(Document, frozen=True, kw_only=True):
    """The event log of a hub as it stood `at` (ms): its newest event and that event's hash."""

    fleet: Fleet
    n: Annotated[int, Meta(ge=1)]
    hash: Sha256
    at: Millis


class RootChain(msgspec.Struct, frozen=True):
    """The retained `trust/root` message: the last few root envelopes, oldest first. Each proves itself."""

    roots: Annotated[list[Annotated[bytes, Meta(max_length=16 * 1024)]], Meta(max_length=8)]
