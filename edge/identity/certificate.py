"""X.509 certificates in files, and their dates, read from the DER; Python's ssl tells those only of a peer's."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Final

_END: Final = "-----END CERTIFICATE-----"
_SEQUENCE: Final = 0x30
_UTC_TIME, _GENERAL_TIME, _VERSION = 0x17, 0x18, 0xA0


def dates(der: bytes) -> tuple[datetime, datetime]:
    """Return (not before, not after) of a certificate. Raises `ValueError` for what is none.

    RFC 5280: Certificate is a sequence that begins with TBSCertificate: version (tagged 0, optional), serial number,
    signature algorithm, issuer, validity, and more.
    """
    _, certificate, _ = _element(der)
    _, inside, _ = _element(certificate)
    tag, _, rest = _element(inside)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    for _ in range(2):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where a certificate has it")
    first, begin, rest = _element(validity)
    last, end, _ = _element(rest)
    return _time(first, begin), _time(last, end)


def ders(pem: str) -> list[bytes]:
    """Return the DER of every certificate in `pem`, one after the other. Raises `ValueError` for what is none."""
    pieces = pem.strip().split(_END)
    if len(pieces) < 2 or pieces[-1].strip():
        raise ValueError("this is no certificate")
    return [ssl.PEM_cert_to_DER_cert(piece.strip() + _END) for piece in pieces[:-1]]


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return (tag, content, what follows) of the first element."""
    if len(data) < 2:
        raise ValueError("the certificate ends too early")
    size, start = data[1], 2
    if size & 0x80:
        start = 2 + (size & 0x7F)
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise ValueError("the certificate ends too early")
    return data[0], data[start : start + size], data[start + size :]


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280: two digits from 50 on mean the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERAL_TIME:
        raise ValueError("no date where a certificate has one")
    if len(text) != 15 or text[14] != "Z" or not text[:14].isdigit():
        raise ValueError("no date where a certificate has one")
    # strptime would load half a dozen modules into the agent.
    month, day, hour, minute, second = (int(text[n : n + 2]) for n in range(4, 14, 2))
    return datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC)
