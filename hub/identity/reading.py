"""What stands in a device's certificate, and whether it is one of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.identity.ca import Authority


@dataclass(frozen=True, slots=True)
class Facts:
    """Whose a certificate is, and since and until when (ms). `serial` and `sha256` (of the DER) are lower-case hex."""

    name: str
    serial: str
    sha256: str
    begin: int
    end: int
    public_key: bytes


def facts(certificate: x509.Certificate) -> Facts:
    """Return what stands in a certificate. Raises `ValueError` when it has no single name, or another kind of key."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key = certificate.public_key()
    if len(names) != 1 or not isinstance(key, Ed25519PublicKey):
        raise ValueError("not a certificate of a device")
    return Facts(
        name=str(names[0].value),
        serial=f"{certificate.serial_number:x}",
        sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
        begin=int(certificate.not_valid_before_utc.timestamp() * 1000),
        end=int(certificate.not_valid_after_utc.timestamp() * 1000),
        public_key=key.public_bytes_raw(),
    )


def is_by(certificate: x509.Certificate, authority: Authority) -> bool:
    """Whether an authority issued a certificate."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def client(der: bytes, authorities: Iterable[Authority], now: int) -> Facts:
    """Return whose the client certificate `der` is, issued by one of `authorities` and valid at `now` (ms).

    Raises `ValueError` saying what is wrong with it. Says nothing about revocation.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found = facts(certificate)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise ValueError("it is not a certificate of a device") from None
    if not any(is_by(certificate, authority) for authority in authorities):
        raise ValueError("it was not issued by this fleet's CA")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("it is not a client's")
    if not found.begin <= now < found.end:
        raise ValueError("it has expired or is not valid yet")
    return found
