"""The channel table: every topic, who speaks and who listens on it, and how.

Topic building, parsing, subscriptions, QoS, retain and the broker's ACL all come from `CHANNELS`.

    >>> MANIFEST.topic("acme", role="kiosk", segment="canary")
    'acme/v1/releases/kiosk/canary'
    >>> parse("acme/v1/devices/shop-12/up/status")
    Address(fleet='acme', channel='status', device_id='shop-12', site=None, role=None, segment=None, release=None)
    >>> STATUS.filter("acme")
    'acme/v1/devices/+/up/status'
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from topics import names
from topics.errors import TopicError

MANIFEST_LIMIT: Final = 16 * 1024
RELEASE_LIMIT: Final = 6 * 1024
UPLINK_LIMIT: Final = 64 * 1024


class Principal(StrEnum):
    """Who holds a certificate. A device's CN is its id; a service's CN is the value here (slots add `-N`)."""

    DEVICE = "device"
    SITE = "site"
    HOISTER = "svc.hoister"
    INGEST = "svc.ingest"
    DASHBOARD = "svc.dashboard"


@dataclass(frozen=True, slots=True)
class Channel:
    """One row of the table. `limit` is the largest payload in bytes that either side accepts."""

    name: str
    template: str
    writers: tuple[Principal, ...]
    readers: tuple[Principal, ...]
    qos: int
    retain: bool
    limit: int

    def topic(self, fleet: str, **parts: str) -> str:
        """Return the topic with `parts` filled in; raise `TopicError` for a part that could not stand there."""
        values = {"fleet": names.fleet(fleet)}
        for key, text in parts.items():
            values[key] = _CHECKS[key](text)
        try:
            return self.template.format(**values)
        except KeyError as missing:
            raise TopicError(f"topic of {self.name} needs {missing.args[0]!r}") from None

    def filter(self, fleet: str, **parts: str) -> str:
        """Return a subscription filter, `+` for every part that is not given; raise `TopicError` for a bad part."""
        checked = {key: check(parts[key]) if key in parts else "+" for key, check in _CHECKS.items()}
        return self.template.format(fleet=names.fleet(fleet), **checked)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: the channel's name and the parts that stand in it."""

    fleet: str
    channel: str
    device_id: str | None = None
    site: str | None = None
    role: str | None = None
    segment: str | None = None
    release: str | None = None


_CHECKS = {
    "id": names.device_id,
    "site": names.role,
    "role": names.role,
    "segment": names.segment,
    "release": names.release_id,
}

_DEVICE, _SITE = Principal.DEVICE, Principal.SITE
_HOISTER, _INGEST, _DASHBOARD = Principal.HOISTER, Principal.INGEST, Principal.DASHBOARD


def _up(name: str, qos: int = 1, *, retain: bool = False) -> Channel:
    return Channel(
        name, f"{{fleet}}/v1/devices/{{id}}/up/{name}", (_DEVICE,), (_INGEST,), qos, retain, UPLINK_LIMIT
    )


def _site_up(channel: Channel) -> Channel:
    template = channel.template.replace("/v1/", "/v1/sites/{site}/")
    return Channel(
        f"site-{channel.name}", template, (_SITE,), (_INGEST,), channel.qos, channel.retain, channel.limit
    )


def _summary(name: str, tail: str) -> Channel:
    return Channel(
        f"summary-{name}", f"{{fleet}}/v1/summary/{tail}", (_HOISTER,), (_DASHBOARD,), 0, True, UPLINK_LIMIT
    )


TRUST_ROOT: Final = Channel(
    "trust-root", "{fleet}/v1/trust/root", (_HOISTER,), (_DEVICE, _SITE, _HOISTER), 1, True, UPLINK_LIMIT
)
MANIFEST: Final = Channel(
    "manifest",
    "{fleet}/v1/releases/{role}/{segment}",
    (_HOISTER,),
    (_DEVICE, _SITE, _HOISTER),
    1,
    True,
    MANIFEST_LIMIT,
)
DESIRED: Final = Channel(
    "desired",
    "{fleet}/v1/devices/{id}/down/desired",
    (_HOISTER,),
    (_DEVICE, _HOISTER),
    1,
    True,
    MANIFEST_LIMIT,
)
RECEIPT: Final = Channel(
    "receipt", "{fleet}/v1/devices/{id}/down/receipt", (_INGEST, _HOISTER), (_DEVICE,), 1, False, UPLINK_LIMIT
)
PRESENCE: Final = _up("presence", retain=True)
STATUS: Final = _up("status")
UPDATE_RESULT: Final = _up("update-result")
DRIFT: Final = _up("drift")
RECOVERY: Final = _up("recovery")
COMMAND_RESULT: Final = _up("command-result")
LOG: Final = _up("log", qos=0)
UPLINKS: Final = (PRESENCE, STATUS, UPDATE_RESULT, DRIFT, RECOVERY, COMMAND_RESULT, LOG)
DURABLE: Final = (UPDATE_RESULT, DRIFT, RECOVERY, COMMAND_RESULT)
"""Reports the device keeps in its spool until the hub's receipt."""
SITE_UPLINKS: Final = tuple(_site_up(channel) for channel in UPLINKS)
WAKE: Final = Channel(
    "wake", "{fleet}/v1/bus/wake", (_HOISTER, _INGEST), (_HOISTER, _INGEST), 0, False, UPLINK_LIMIT
)
SUMMARIES: Final = (
    _summary("fleet", "fleet"),
    _summary("role", "roles/{role}"),
    _summary("release", "releases/{release}"),
    _summary("alerts", "alerts"),
)

CHANNELS: Final = (TRUST_ROOT, MANIFEST, DESIRED, RECEIPT, *UPLINKS, *SITE_UPLINKS, WAKE, *SUMMARIES)
BY_NAME: Final = {channel.name: channel for channel in CHANNELS}

_PART_FIELDS = {"id": "device_id"}


def parse(topic: str) -> Address:
    """Return what `topic` names; raise `TopicError` when no row of the table could have built it."""
    levels = topic.split("/")
    for channel in CHANNELS:
        template = channel.template.split("/")
        if len(template) != len(levels):
            continue
        fields: dict[str, str] = {}
        for pattern, level in zip(template, levels, strict=True):
            if pattern.startswith("{"):
                fields[pattern[1:-1]] = level
            elif pattern != level:
                break
        else:
            parts = {
                _PART_FIELDS.get(key, key): _CHECKS[key](text)
                for key, text in fields.items()
                if key != "fleet"
            }
            return Address(fleet=names.fleet(fields["fleet"]), channel=channel.name, **parts)
    raise TopicError(f"{topic!r} is not a topic of this system")


def device_subscriptions(fleet: str, device_id: str, role: str, segment: str) -> list[tuple[str, int]]:
    """Return the exact topics, with QoS, that one device subscribes to: four, however large the fleet."""
    return [
        (TRUST_ROOT.topic(fleet), TRUST_ROOT.qos),
        (DESIRED.topic(fleet, id=device_id), DESIRED.qos),
        (RECEIPT.topic(fleet, id=device_id), RECEIPT.qos),
        (MANIFEST.topic(fleet, role=role, segment=segment), MANIFEST.qos),
    ]
