"""Renewing certificates of devices: by the key that was registered, as long as the device is not revoked.

Rules, in this order:

1. A certificate that expired longer ago than the policy allows is not renewed: the device enrols again with a token.
2. Another is made once half of the present one's life is over, or when another CA than the newest issued it.
3. Who does not hold the present certificate, or other CAs than those of now, gets the present ones: an answer that was
   lost is given again, and nobody makes certificates at will.
4. Else there is nothing to hand out, and what the device holds is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec
from cryptography import x509

from hub.caller import Caller
from hub.errors import Forbidden, NotFound
from hub.events import Event, append
from hub.identity import reading
from hub.identity.ca import LEAF_DAYS, Authorities
from hub.identity.reading import Facts
from hub.registry import revoked
from hub.signer import Signer
from hub.store import Row, Store, Tx
from hub.times import rfc3339
from topics.channels import DESIRED
from topics.documents import Credentials
from topics.renewal import CertificateRequest, may_renew

DAY_MS: Final = 86_400_000
EXPIRED_DAYS: Final = 365


class Terms(msgspec.Struct, frozen=True):
    """How long (days) certificates of devices last, and how long after its end one may still be renewed."""

    days: int = LEAF_DAYS
    expired_days: int = EXPIRED_DAYS


def verdict(
    held: CertificateRequest,
    present: Facts,
    *,
    is_newest: bool,
    cas: frozenset[str],
    terms: Terms,
    now: int,
) -> Literal["expired", "make", "give", "nothing"]:
    """Return what follows from a request by the rules above. `now` is in ms."""
    if now >= present.end + terms.expired_days * DAY_MS:
        return "expired"
    if not is_newest or may_renew(present.begin, present.end, now):
        return "make"
    if held.certificate != present.sha256 or frozenset(held.cas) != cas:
        return "give"
    return "nothing"


class Certificates:
    """Renewals: each is one transaction and, where a certificate was made, one event. `clock` gives ms."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        authorities: Authorities,
        clock: Callable[[], int],
        terms: Terms,
    ) -> None:
        self._store, self._signer, self._authorities = store, signer, authorities
        self._clock, self._terms = clock, terms

    def renew(self, device_id: str, request: CertificateRequest, caller: Caller) -> bytes | None:
        """Return signed credentials for a device that has shown its key, None when it holds what it should.

        Raises `Forbidden` (`certificate_expired`) by rule 1.
        """
        now = self._clock()
        authorities = self._authorities
        cas = frozenset(authority.sha256 for authority in authorities.trusted)
        with self._store.write() as tx:
            row = tx.one(
                "SELECT * FROM devices WHERE device_id = :id AND revoked_at IS NULL", {"id": device_id}
            )
            if row is None:
                raise NotFound(f"There is no device {device_id}.")
            certificate = x509.load_pem_x509_certificate(row["certificate_pem"].encode())
            what = verdict(
                request,
                reading.facts(certificate),
                is_newest=reading.is_by(certificate, authorities.device),
                cas=cas,
                terms=self._terms,
                now=now,
            )
            if what == "expired":
                raise Forbidden(
                    f"The certificate of {device_id} expired too long ago; enrol it again with a token.",
                    rule="certificate_expired",
                )
            newest = authorities.device.sha256
            if newest in request.cas and row["ca_confirmed"] != newest:
                tx.execute(
                    "UPDATE devices SET ca_confirmed = :newest WHERE key = :key",
                    {"newest": newest, "key": row["key"]},
                )
            if what == "nothing":
                return None
            pem = self._make(tx, row, caller, now) if what == "make" else row["certificate_pem"]
        topic = DESIRED.topic(self._signer.fleet, id=device_id)
        document = Credentials(
            to=topic,
            fleet=self._signer.fleet,
            device_id=device_id,
            issued_at=now,
            nonce=request.nonce,
            certificate_pem=pem,
            ca_pem=authorities.bundle,
        )
        return self._signer.sign(document, "credentials")

    def _make(self, tx: Tx, row: Row, caller: Caller, now: int) -> str:
        pem = self._authorities.device.issue_device(
            row["public_key"], row["device_id"], now=now // 1000, days=self._terms.days
        )
        not_after = (now // 1000) * 1000 + self._terms.days * DAY_MS
        revoked.replaced(tx, row, now)
        tx.execute(
            "UPDATE devices SET certificate_pem = :pem, certificate_not_after = :not_after WHERE key = :key",
            {"pem": pem, "not_after": not_after, "key": row["key"]},
        )
        body = {"not_after": rfc3339(not_after), "was_until": rfc3339(row["certificate_not_after"])}
        event = Event(
            kind="device.certificate_renewed", device_id=row["device_id"], role=row["role"], body=body
        )
        append(tx, event, caller, now)
        return pem
