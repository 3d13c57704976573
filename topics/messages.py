"""Uplink messages and the hub's receipt: what devices report.

Every uplink carries `v` (schema version), `boot` (a persisted counter and a random part), `at` (the
device's clock, s) and `clock_ok`. Heartbeats carry every fact that `decide` needs, so that the hub can
answer for the device. Durable reports carry `(spool, n)`; the device keeps them until the hub's receipt.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from topics.fields import (
    Count,
    DeviceId,
    LongText,
    Millis,
    Name,
    Number,
    ReleaseId,
    Role,
    Seconds,
    SpoolId,
    Text,
)

Health = Literal["ok", "degraded", "failing"]
Boot = tuple[Annotated[int, Meta(ge=0, le=2**53)], Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]]
"""Counter persisted on the device, and a random part that tells clones apart."""

UpdateState = Literal[
    "idle",
    "downloading",
    "verified",
    "staged",
    "activating",
    "probation",
    "committed",
    "failed",
    "rolling_back",
    "rolled_back",
    "refused",
]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of messages. Unknown fields are ignored, missing optional ones take defaults."""


class Uplink(Message, frozen=True, kw_only=True):
    """What every report says of its sender. `device_id` is optional; the topic already names the device."""

    boot: Boot
    at: Seconds
    v: Annotated[int, Meta(ge=1, le=1000)] = 1
    clock_ok: bool = True
    device_id: DeviceId | None = None


class Running(Message, frozen=True, kw_only=True):
    """The release a device runs: `current` in its state directory. `role` is given when it is not the device's."""

    id: ReleaseId
    sequence: Count
    since: Seconds = 0
    role: Role | None = None


class Attempt(Message, frozen=True, kw_only=True):
    """The update under way, or the last one: which release, which try, where it stands."""

    release: ReleaseId
    n: Annotated[int, Meta(ge=1, le=1_000_000)]
    state: UpdateState


class Verdict(Message, frozen=True, kw_only=True):
    """The agent's last decision: a reason of `topics.eligibility.REASONS` and, for `untrusted`, the check."""

    reason: Name
    release: ReleaseId | None = None
    check: Name = ""


class Probes(Message, frozen=True, kw_only=True):
    """psutil readings: shares are 0 to 1, sizes bytes, temperature °C, uptime s."""

    cpu_load: Number = 0.0
    memory_used: Number = 0.0
    disk_used: Number = 0.0
    disk_free: Count = 0
    temperature: Number | None = None
    uptime: Count = 0
    restarts: Count = 0


class Status(Uplink, frozen=True, kw_only=True):
    """Heartbeat. Of two, the one with the higher boot counter, then the higher `seq`, is the newer."""

    kind: ClassVar[str] = "status"

    seq: Count
    role: Role
    segment: Role
    agent_version: Name
    health: Health = "ok"
    running: Running | None = None
    attempt: Attempt | None = None
    failed: Annotated[list[ReleaseId], Meta(max_length=32)] = []
    floor: Count = 0
    hardware: Name = ""
    zone: Name = "UTC"
    version_lock: ReleaseId | None = None
    maintenance: bool = False
    safe_mode: bool = False
    trusted_root: Count = 0
    trusted_manifest: Millis = 0
    trusted_desired: Millis = 0
    verdict: Verdict | None = None
    probes: Probes | None = None
    spool_depth: Count = 0


class Durable(Uplink, frozen=True, kw_only=True):
    """A report that is kept until it is receipted: `n` counts one by one within the spool's life."""

    spool: SpoolId
    n: Annotated[int, Meta(ge=1, le=2**53)]


class UpdateResult(Durable, frozen=True, kw_only=True):
    """One step of an update that must not be lost.

    `cause` is `own` when the device failed or fell back by itself, `ordered` when it obeyed the hub.
    `check` names the trust check behind a `refused`; `phases` are milliseconds spent per state.
    """

    kind: ClassVar[str] = "update-result"

    state: UpdateState
    release: ReleaseId | None = None
    attempt: Count = 0
    from_release: ReleaseId | None = msgspec.field(default=None, name="from")
    to_release: ReleaseId | None = msgspec.field(default=None, name="to")
    segment: Role | None = None
    cause: Literal["own", "ordered"] = "own"
    reason: Text = ""
    check: Name = ""
    topic: Name = ""
    manifest: Millis = 0
    phases: dict[Name, Annotated[int, Meta(ge=0, le=10**12)]] = {}


class DriftItem(Message, frozen=True, kw_only=True):
    """One difference between what was released and what stands on the device."""

    path: Text
    what: Literal["hash", "mode", "owner", "missing", "extra", "service"]
    expected: Name = ""
    found: Name = ""


class Drift(Durable, frozen=True, kw_only=True):
    """Result of a deep check; `items` empty means none was found."""

    kind: ClassVar[str] = "drift"

    release: ReleaseId | None = None
    items: Annotated[list[DriftItem], Meta(max_length=256)] = []
    more: Count = 0
    repaired: bool = False


class Recovery(Durable, frozen=True, kw_only=True):
    """Entry to, or leave from, safe mode, or what the device found out about itself.

    `entry` identifies one stay, "" for diagnostics outside of one. Keys of `diagnostics`: `checks` (JSON: a list of
    name, verdict, detail, remedy), `probes` and `disk` (JSON), `errors` and `log` (lines).
    """

    kind: ClassVar[str] = "recovery"

    state: Literal["entered", "left", "diagnostics"]
    entry: Name
    reason: Text = ""
    release: ReleaseId | None = None
    diagnostics: dict[Name, LongText] = {}


class CommandResult(Durable, frozen=True, kw_only=True):
    """What became of a command."""

    kind: ClassVar[str] = "command-result"

    command: Name
    ok: bool
    detail: Text = ""
    output: dict[Name, Text] = {}


class Presence(Message, frozen=True, kw_only=True):
    """Online, sleeping until `next_wake`, or offline (also the last will). `session` counts connections,
    so a will of an older connection never marks a newer one offline."""

    kind: ClassVar[str] = "presence"

    boot: Boot
    session: Count
    state: Literal["online", "sleeping", "offline"]
    at: Seconds = 0
    v: Annotated[int, Meta(ge=1, le=1000)] = 1
    next_wake: Seconds = 0


class LogLine(Message, frozen=True, kw_only=True):
    """One line of a device's log."""

    at: Seconds
    text: Text
    level: Literal["debug", "info", "warning", "error"] = "info"
    source: Name = "agent"


class Log(Uplink, frozen=True, kw_only=True):
    """A batch of log lines; not durable."""

    kind: ClassVar[str] = "log"

    lines: Annotated[list[LogLine], Meta(max_length=128)]


class Receipt(Message, frozen=True, kw_only=True):
    """The hub's word: every report of `spool` up to and with `n` is committed or in quarantine."""

    kind: ClassVar[str] = "receipt"

    spool: SpoolId
    n: Count


UPLINK_TYPES: Final[dict[str, type[Message]]] = {
    kind.kind: kind for kind in (Status, UpdateResult, Drift, Recovery, CommandResult, Presence, Log)
}
"""Message type by channel name."""

DURABLE_TYPES: Final[dict[str, type[Durable]]] = {
    kind.kind: kind for kind in (UpdateResult, Drift, Recovery, CommandResult)
}
