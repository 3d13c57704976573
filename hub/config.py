"""Settings of `flaghoist-hub up`, and the data directory they live in."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from hub.access.settings import PeopleSettings
from hub.artifacts.limits import MAX_BUNDLE
from hub.artifacts.retention import ROLLBACKS
from hub.errors import SetupError
from hub.identity.gateway import networks
from hub.recovery.rules import Limits
from hub.registry.certificates import Terms
from hub.store import Store
from hub.telemetry.retention import Keep
from hub.telemetry.sinks.loki import push_url
from hub.throttle import REQUESTS
from topics import names
from topics.errors import TopicError

MOST_MIRRORS = 7
"""A manifest has room for eight sources, and the hub is one."""


class Address(msgspec.Struct, frozen=True):
    """A host and a port; port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Settings(PeopleSettings, frozen=True, kw_only=True):
    """What an operator says at the start. `public_*` are what devices are told, when it differs; `loki` is where
    raw lines are pushed, empty for nowhere; `keep_*` are days; `mirrors` are URL templates of bundles, `max_bundle`
    is in bytes and `download_rate` in bytes a second, 0 for no ceiling; `keep_rollbacks` is the
    `rollbacks` of `hub.artifacts.retention`; `quarantine_*` are the `Limits` of recovery; `request_limit` is
    requests a minute of one caller; `certificate_days` and `renew_expired` are the `Terms` of renewals; `gateway`
    has the networks whose `Client-Cert` is believed."""

    data: Path
    fleet: str
    http: Address
    mqtt: Address
    public_http: str = ""
    public_mqtt: str = ""
    update_interval: int = 300
    lines: bool = True
    loki: str = ""
    keep_hourly: int = Keep().hourly
    keep_daily: int = Keep().daily
    keep_reports: int = Keep().reports
    mirrors: str = ""
    max_bundle: int = MAX_BUNDLE
    download_rate: int = 0
    keep_rollbacks: int = ROLLBACKS
    quarantine_failures: int = Limits().failures
    quarantine_drift_hours: int = Limits().drift_hours
    quarantine_restarts: int = Limits().restarts
    quarantine_storm: int = Limits().storm_percent
    chaos: bool = False
    request_limit: int = REQUESTS
    certificate_days: int = Terms().days
    renew_expired: int = Terms().expired_days
    gateway: str = ""


def parse_address(text: str) -> Address:
    """Return `HOST:PORT` as an address; raises `SetupError`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdigit() or int(port) > 65_535 or not host or (":" in host and not bracketed):
        raise SetupError(f"{text!r} is not an address; write HOST:PORT, for instance 127.0.0.1:8080.")
    return Address(host.strip("[]"), int(port))


def check_loki(url: str) -> str:
    """Return the URL of a Loki, or "" for none; raises `SetupError`."""
    try:
        return url and push_url(url)
    except ValueError:
        raise SetupError(
            f"{url!r} is not the URL of a Loki; write http://HOST:PORT, for instance http://127.0.0.1:3100."
        ) from None


def check_public_http(url: str) -> str:
    """Return the URL by which devices reach the API, or "" for none; raises `SetupError`."""
    parts = urlsplit(url)
    good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and url.isprintable()
    if url and (not good or " " in url):
        raise SetupError(
            f"{url!r} is not a URL; write http://HOST:PORT or https://HOST, as devices reach it."
        )
    return url.rstrip("/")


def check_mirrors(text: str) -> str:
    """Return URL templates of bundles, separated by spaces; raises `SetupError`."""
    for template in text.split():
        parts = urlsplit(template)
        if parts.scheme not in ("http", "https") or not parts.hostname or "{release}" not in template:
            raise SetupError(
                f"{template!r} is no mirror; write https://HOST/artifacts/{{role}}/{{release}}/bundle."
            )
    if len(text.split()) > MOST_MIRRORS:
        raise SetupError(f"A manifest names {MOST_MIRRORS} mirrors at most; take some out of --mirrors.")
    return text


def check_gateway(text: str) -> str:
    """Return networks of gateways, separated by spaces, or "" for none; raises `SetupError`."""
    networks(text)
    return text


def check_public_mqtt(text: str) -> str:
    """Return the address by which devices reach the broker, or "" for none; raises `SetupError`."""
    return str(parse_address(text)) if text else ""


def open_data(folder: Path) -> int:
    """Make sure the data directory is ours alone and return the lock that keeps a second hub out.

    Raises `SetupError` when it cannot be written or another hub runs on it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(
            f"The data directory {folder} cannot be written ({error.strerror}); "
            "choose another with --data or mend its permissions."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SetupError(f"Another hub is running on {folder}; stop it, or choose another --data.") from None
    return lock


def listen(address: Address, remembered: int = 0) -> socket.socket:
    """Return a listening TCP socket; a port of 0 takes the remembered one if free, else any.

    Raises `SetupError` when the port is in use or the host is not this machine's.
    """
    for port in dict.fromkeys([address.port or remembered, address.port]):
        # getaddrinfo, so that a name and an IPv6 address work as well.
        try:
            family, _, _, _, target = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)[0]
        except OSError:
            raise SetupError(f"{address.host} is not a host this machine knows; mend --http.") from None
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Head and body leave as two packets; Nagle's algorithm would hold the second for 40 ms. asyncio turns it off
        # only where the socket's protocol was named, and what is accepted inherits it from here.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind(target)
            listener.listen(1024)
        except OSError:
            listener.close()
            continue
        return listener
    raise SetupError(f"{address} cannot be listened on; stop what uses it, or choose another with --http.")


def port_again(store: Store, key: str, host: str) -> int:
    """Return a remembered port if it is free now, else 0 for any."""
    port = number(store, key)
    try:
        with socket.create_server((host, port), reuse_port=False):
            return port
    except OSError:
        return 0


def meta(store: Store, key: str, default: str) -> str:
    """Return a value that is written at the first start and kept for good."""
    with store.write() as tx:
        tx.execute(
            "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING",
            {"key": key, "value": default},
        )
        row = tx.one("SELECT value FROM meta WHERE key = :key", {"key": key})
    return str(row["value"]) if row else default


def remember(store: Store, key: str, value: str) -> None:
    """Write down a value that may change from start to start."""
    with store.write() as tx:
        tx.execute(
            "INSERT INTO meta (key, value) VALUES (:key, :value) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            {"key": key, "value": value},
        )


def fleet_name(store: Store, wanted: str) -> str:
    """Return the fleet of this data directory; it is chosen once. Raises `SetupError`."""
    try:
        names.fleet(wanted)
    except TopicError as error:
        raise SetupError(f"{error}.") from None
    fleet = meta(store, "fleet", wanted)
    if fleet != wanted:
        raise SetupError(
            f"This data directory belongs to the fleet {fleet!r}; start with --fleet {fleet} or another --data."
        )
    return fleet


def secret(store: Store, key: str) -> bytes:
    """Return a random secret of this installation, made at the first start."""
    return bytes.fromhex(meta(store, key, secrets.token_hex(32)))


def number(store: Store, key: str) -> int:
    """Return a remembered number, 0 if there is none."""
    with store.read() as tx:
        row = tx.one("SELECT value FROM meta WHERE key = :key", {"key": key})
    with suppress(ValueError):
        return int(row["value"]) if row else 0
    return 0
