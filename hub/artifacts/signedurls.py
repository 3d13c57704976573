"""URLs that open one release's bundle for a short time, to whoever holds them. Pure.

The signature covers role, release and end, and nothing of the address: a proxy may change host, scheme and prefix. It
stands in the path, which caches and logs treat as one name, and where no proxy drops it as some do a query.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from hub.errors import Forbidden

LONGEST_S: Final = 24 * 3600


def sign(secret: bytes, role: str, release_id: str, expires_at: int) -> str:
    """Return the signature of a URL that is valid until `expires_at` (s)."""
    text = f"flaghoist-bundle-url\n{role}\n{release_id}\n{expires_at}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def path(secret: bytes, role: str, release_id: str, expires_at: int) -> str:
    """Return the path of a signed URL."""
    signature = sign(secret, role, release_id, expires_at)
    return f"/artifacts/{role}/{release_id}/signed/{expires_at}/{signature}/bundle"


def check(secret: bytes, role: str, release_id: str, expires_at: int, signature: str, *, now: int) -> None:
    """Raise `Forbidden` unless the signature is good and `now` (s) is before its end."""
    good = sign(secret, role, release_id, expires_at)
    if not hmac.compare_digest(good.encode(), signature.encode()):
        raise Forbidden("The signature of this address is not this hub's.", rule="url_signature")
    if now >= expires_at:
        raise Forbidden("This address has expired; ask for another.", rule="url_expired")
