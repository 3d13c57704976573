"""Renewing a device's certificate: when it is due, and what is asked for.

    device → hub   CertificateRequest, `POST /devices/{deviceId}/certificate`
    hub → device   signed `topics.documents.Credentials`, or nothing: what the device holds is right

Asking again after an answer was put in place tells the hub that it was.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from topics.eligibility import BUCKETS, bucket
from topics.fields import Sha256


class CertificateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a device holds: the SHA-256 of its certificate and of the CAs it knows its broker by (DER each).

    `nonce` is random; the answer repeats it.
    """

    nonce: Annotated[bytes, Meta(min_length=16, max_length=64)]
    certificate: Sha256
    cas: Annotated[list[Sha256], Meta(min_length=1, max_length=8)]


def due_at(begin: int, end: int, device_id: str) -> int:
    """Return when a certificate that is valid from `begin` to `end` is to be renewed, in their unit.

    When a third of its life is left, or later by the device's own place in a twelfth of it: a fleet that was enrolled
    in one day does not come back in one. A quarter of its life remains for a hub that does not answer.

        >>> due_at(0, 1200, "shop-12")
        897
    """
    life = end - begin
    return end - life // 3 + life // 12 * bucket("certificate", device_id) // BUCKETS


def may_renew(begin: int, end: int, now: int) -> bool:
    """Whether a hub makes another certificate for one that is valid from `begin` to `end`: half its life is over.

    Earlier than any device asks, since clocks differ; and not at will, since each is remembered until it expires.
    """
    return now >= begin + (end - begin) // 2
