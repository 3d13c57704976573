"""TLS files on disk: made when missing, kept while current, renewed when a third of their life is left."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hub.identity.ca import Authority
from hub.identity.files import write_atomic

Owner = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths of what one TLS client needs: the CA it trusts, its own certificate and its key."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 client context that trusts this CA alone and shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


def service_credentials(folder: Path, authority: Authority, name: str, *, now: int) -> Credentials:
    """Return the credentials of the hub's own connection `name` (`svc.hoister`, `svc.ingest-0`, …).

    `now` is in seconds. Raises `SetupError` when `folder` cannot be written.
    """
    files = Credentials(folder / "service-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    write_atomic(files.ca, authority.pem.encode(), 0o644)
    if not (_is_pair(files) and authority.is_current(files.certificate.read_text(), now=now)):
        _write_pair(files, authority.issue_service(name, now=now), None)
    return files


def server_credentials(
    folder: Path, authority: Authority, kind: str, hosts: tuple[str, ...], *, now: int, owner: Owner
) -> None:
    """Make sure that `folder` holds `KIND-server.pem` and `KIND-server.key` for a listener."""
    files = Credentials(
        folder / f"{kind}-ca.pem", folder / f"{kind}-server.pem", folder / f"{kind}-server.key"
    )
    if not (_is_pair(files) and authority.is_current(files.certificate.read_text(), now=now, hosts=hosts)):
        _write_pair(files, authority.issue_server(hosts, now=now), owner)


def _write_pair(files: Credentials, pair: tuple[str, str], owner: Owner) -> None:
    certificate, key = pair
    write_atomic(files.key, key.encode(), 0o600, owner=owner)
    write_atomic(files.certificate, certificate.encode(), 0o644, owner=owner)


def _is_pair(files: Credentials) -> bool:
    # A crash between the two writes leaves a new key beside an old certificate.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(files.certificate, files.key)
        files.certificate.read_text()
    except (OSError, ValueError):
        return False
    return True
