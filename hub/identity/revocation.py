"""The list of revoked device certificates that the broker asks at every handshake.

Mosquitto reads it at its start and again at SIGHUP. OpenSSL refuses everybody once a list's `nextUpdate` has
passed, so a hub that slept too long would shut out its whole fleet: the list is valid as long as the CA, and made
anew whenever it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hub.identity.building import BACKDATE
from hub.identity.ca import Authority


def serial_of(certificate_pem: str) -> str:
    """Return a certificate's serial number in lower-case hex. Raises `ValueError` for what is no certificate."""
    return f"{x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number:x}"


def revocation_list(authority: Authority, serials: Iterable[str], *, now: int) -> str:
    """Return the PEM of `authority`'s list of revoked `serials` (hex). `now` is in s, and numbers the list."""
    began = datetime.fromtimestamp(now - BACKDATE, UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(began)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(now), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    for serial in sorted(serials):
        revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(began)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(authority.key, None).public_bytes(Encoding.PEM).decode()
