"""What hub and agents write is their own: nobody else on the machine reads a key, a token, a database or a report."""

from __future__ import annotations

import contextlib
import ssl
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hub.app import DATABASE
from hub.broker.credentials import Credentials
from hub.config import number
from hub.store import SqliteStore
from tests.e2e import leaks
from tests.hostile.harbour import GOOD, PATIENCE, Harbour
from tests.support.tls import handshake, is_refused

pytestmark = pytest.mark.heavy

PUBLIC = {".pem", ".pub"}
"""Certificates and public halves; a `key.pem` is none of them."""
PEOPLES = {"device.env", "agent.json"}
"""What people write on a device."""


def test_every_file_and_folder_is_its_owners_alone(harbour: Harbour) -> None:
    device = harbour.fleet.folder / "devices" / GOOD
    written = [harbour.fleet.data, *harbour.fleet.data.rglob("*"), *device.rglob("*")]
    assert len(written) > 50
    open_to_others = {
        str(path.relative_to(harbour.fleet.folder)): oct(mode)
        for path in written
        if (mode := mode_of(path)) & ~allowed(path)
    }
    assert open_to_others == {}


def mode_of(path: Path) -> int:
    """The mode of a file or folder, 0 for a link, and for what the hub put another in the place of meanwhile."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return 0
    return 0 if stat.S_ISLNK(found) else stat.S_IMODE(found)


def allowed(path: Path) -> int:
    """The most that the mode of a file or folder may be."""
    if path.is_dir():
        return 0o700
    is_public = path.suffix in PUBLIC and path.name != "key.pem"
    return 0o644 if is_public or path.name in PEOPLES else 0o600


@pytest.mark.parametrize("listener", ["device", "service"])
def test_a_listener_speaks_tls_1_3_alone(harbour: Harbour, listener: str) -> None:
    """All of its ciphers encrypt and authenticate, and none is without forward secrecy."""
    if listener == "device":
        port, files = harbour.port, harbour.files[GOOD]
    else:
        store = SqliteStore(harbour.fleet.data / DATABASE)
        port = number(store, "service_port")
        store.close()
        services = harbour.fleet.data / "services"
        name = "svc.dashboard"
        files = Credentials(services / "service-ca.pem", services / f"{name}.pem", services / f"{name}.key")
    with harbour.unharmed():
        assert handshake(files.context(), port) == "TLSv1.3"
        older = files.context()
        older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert is_refused(older, port)


def test_no_log_holds_what_was_shown_or_guessed(harbour: Harbour) -> None:
    """A new API key, wrong credentials, a session that is none, and a secret in a query: none of them is in a log."""
    fleet = harbour.fleet
    given = [
        str(fleet.post("/api-keys", {"name": "ci", "role": "viewer"})["key"]),
        *[f"{what}-that-was-only-guessed" for what in ("bearer", "session", "token")],
    ]
    key, bearer, session, token = given
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Bearer {bearer}"},
        {"Cookie": f"__Host-session={session}; session={session}"},
    ):
        request = urllib.request.Request(f"{fleet.url}/devices?token={token}", headers=headers)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=PATIENCE):
            pass
    assert fleet.get("/devices")["items"]
    assert leaks.found(fleet.folder, given + fleet.given_out) == []
