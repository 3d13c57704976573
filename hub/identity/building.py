"""How the certificates of both authorities are put together. Times are seconds since the Unix epoch."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

DAY: Final = 86_400
CA_DAYS: Final = 30 * 365
BACKDATE: Final = 3600
"""A certificate begins an hour before it was made, for devices whose clocks run slow."""


def self_signed(key: Ed25519PrivateKey, name: str, now: int) -> str:
    """Return the PEM of a CA certificate named `name` for `key`."""
    public_key = key.public_key()
    made = (
        builder(
            name,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key,
            now=now,
            days=CA_DAYS,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
    )
    return made.sign(key, None).public_bytes(serialization.Encoding.PEM).decode()


def builder(
    name: str,
    issuer: x509.Name,
    public_key: Ed25519PublicKey,
    *,
    now: int,
    days: int,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    """Return what every certificate has, its extensions of use aside."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(datetime.fromtimestamp(now - BACKDATE, UTC))
        .not_valid_after(datetime.fromtimestamp(now + days * DAY, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what the key may be used for."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def alternative_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def alternative_names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    """Return the hosts that a certificate names."""
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def key_pem(key: Ed25519PrivateKey) -> str:
    """Return the PEM (PKCS#8) of a private key."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
