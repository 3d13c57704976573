"""What Mosquitto is told: its configuration file, and which subscriptions a device may hold. Pure.

Rules of the configuration, each against a fault that was seen:

- TLS 1.3 with client certificates on both listeners; user name and client id are the certificate's CN, or one
  device could take over another's session by its client id.
- Queues and packets are finite: a session nobody reads must not take the machine's memory. The limit is
  `max_packet_size`, since `message_size_limit` tells the sender it succeeded and drops the message.
- `check_retain_source false`: otherwise what a former principal retained turns invisible.
- Subscriptions are logged, because the access list covers delivery only and a device could join a `$share`
  group of the hub and eat other devices' reports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from topics.channels import CHANNELS, UPLINK_LIMIT, Principal

PACKET_LIMIT: Final = UPLINK_LIMIT + 4096
"""Largest MQTT packet in bytes: the largest body, its topic and properties."""
SERVICE_CONNECTIONS: Final = 100
"""The hub has a handful; dashboards come in here as well."""

_SUBSCRIBED = re.compile(r"(\S+) [012] (.+)\Z")


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How the broker runs. Ports of 0 are replaced by free ones at start.

    `folder` holds all of the broker's files and belongs to `user` when the hub runs as root. `hosts` are the
    names and addresses, besides localhost, by which devices reach the broker. `max_connections` is how many they may
    have, and `max_queued_bytes` bounds the memory that waits for an ingest slot while the hub is down.
    """

    folder: Path
    fleet: str
    host: str = "0.0.0.0"  # noqa: S104  (devices come from outside; the service listener stays on loopback)
    device_port: int = 8883
    service_port: int = 0
    hosts: tuple[str, ...] = ()
    slots: int = 1
    max_connections: int = 50_000
    max_queued_messages: int = 1_000_000
    max_queued_bytes: int = 512 * 1024 * 1024
    program: str = "mosquitto"
    user: str = "mosquitto"

    @property
    def services(self) -> dict[Principal, list[str]]:
        """Certificate CNs that hold each service principal."""
        return {
            Principal.HOISTER: [Principal.HOISTER.value],
            Principal.INGEST: [f"{Principal.INGEST.value}-{slot}" for slot in range(self.slots)],
            Principal.DASHBOARD: [Principal.DASHBOARD.value],
        }


def render(settings: BrokerSettings) -> str:
    """Return the text of `mosquitto.conf`; paths in it are relative to `settings.folder`."""
    return f"""\
# Rendered by flaghoist-hub; edits are overwritten at the next start.
per_listener_settings false
allow_anonymous false
acl_file acl

persistence true
persistence_location data
persistence_file mosquitto.db
autosave_interval 300
check_retain_source false

max_queued_messages {settings.max_queued_messages}
max_queued_bytes {settings.max_queued_bytes}
max_inflight_messages 1000
max_packet_size {PACKET_LIMIT}
max_keepalive 3600
persistent_client_expiration 14d
set_tcp_nodelay true
sys_interval 60

log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
connection_messages false

{_listener(settings.device_port, settings.host, "device", settings.max_connections)}\
crlfile revoked.pem

{_listener(settings.service_port, "127.0.0.1", "service", SERVICE_CONNECTIONS)}"""


def _listener(port: int, host: str, kind: str, most: int) -> str:
    return f"""\
listener {port} {host}
max_connections {most}
cafile {kind}-ca.pem
certfile {kind}-server.pem
keyfile {kind}-server.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""


def parse_subscription(line: str) -> tuple[str, str] | None:
    """Return (client id, filter) when a line of Mosquitto's log says that a client subscribed.

    >>> parse_subscription("shop-12 1 acme/v1/trust/root")
    ('shop-12', 'acme/v1/trust/root')
    >>> parse_subscription("mosquitto version 2.0.11 running")
    """
    match = _SUBSCRIBED.match(line)
    return (match[1], match[2]) if match else None


def may_subscribe(fleet: str, client: str, topic_filter: str) -> bool:
    """Whether `client` (a certificate's CN) keeps to what it may read.

    Services come in by their own listener and are trusted. A device may name its own topics, or patterns
    that lie within what every device may read; never a wildcard beyond them and never `$share`.

    >>> may_subscribe("acme", "shop-12", "acme/v1/devices/shop-12/down/desired")
    True
    >>> may_subscribe("acme", "shop-12", "acme/v1/devices/+/down/desired")
    False
    """
    if client.startswith("svc."):
        return True
    levels = topic_filter.split("/")
    return any(_covers(own, client, levels) for own in _readable(fleet, client.startswith("site.")))


def _covers(pattern: tuple[str, ...], client: str, levels: list[str]) -> bool:
    if len(pattern) != len(levels):
        return False
    for own, level in zip(pattern, levels, strict=True):
        if own == "+":
            if level == "#":
                return False
        elif level != (client if own == "%u" else own):
            return False
    return True


@cache
def _readable(fleet: str, is_site: bool) -> tuple[tuple[str, ...], ...]:
    principal = Principal.SITE if is_site else Principal.DEVICE
    return tuple(
        tuple(_READ_AS.get(level, level) for level in channel.template.replace("{fleet}", fleet).split("/"))
        for channel in CHANNELS
        if principal in channel.readers
    )


_READ_AS: Final = {"{id}": "%u", "{site}": "+", "{role}": "+", "{segment}": "+", "{release}": "+"}
