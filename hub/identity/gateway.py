"""Devices behind a gateway that ends mutual TLS, and hands on whom it saw in the header `Client-Cert` (RFC 9440).

Rules:

1. The header is believed from the networks that were named (`--gateway`), and from nobody else. There the gateway has
   to take away what clients send by that name, as RFC 9440 says.
2. From elsewhere it is nothing: with a token the token counts, without one the request is refused and told why.
3. A token counts for more than the header: who has one speaks by it.
4. The certificate is checked here once more: our own device CA, client use, its dates, the CN of a device that is not
   revoked, over the key that the device registered, and not withdrawn.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Final

from hub.caller import Caller
from hub.errors import SetupError, Unauthorised
from hub.identity import reading
from hub.identity.ca import Authorities
from hub.store import Store

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HEADER: Final = b"client-cert"
LIMIT: Final = 8 * 1024
"""Longest header that is read, in bytes; a certificate of ours has about 700."""


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks in `text`, separated by spaces, as `10.0.0.7` or `10.0.0.0/24`. Raises `SetupError`."""
    found = []
    for word in text.split():
        try:
            network = ipaddress.ip_network(word)
        except ValueError as error:
            raise SetupError(
                f"--gateway {word!r} is no network ({error}); write 10.0.0.7 or 10.0.0.0/24."
            ) from None
        if network.prefixlen == 0:
            raise SetupError(
                f"--gateway {word} would let anybody be any device; name the gateway's own address."
            )
        found.append(network)
    return tuple(found)


class Gateways:
    """Turns the header into a caller. `clock` gives ms."""

    def __init__(
        self,
        trusted: Sequence[Network],
        store: Store,
        authorities: Authorities,
        clock: Callable[[], int],
    ) -> None:
        self._trusted, self._store, self._authorities, self._clock = trusted, store, authorities, clock

    def caller(self, scope: Any) -> Caller | None:
        """Return which device the gateway saw, None when the request says nothing by a certificate.

        Raises `Unauthorised` (`gateway`, `client_cert`, `device`).
        """
        values = [value for name, value in scope["headers"] if name == HEADER]
        if not values or any(name == b"authorization" for name, _ in scope["headers"]):
            return None
        if not self._is_gateway(scope):
            raise Unauthorised("Client-Cert is believed from gateways only; see --gateway.", rule="gateway")
        now = self._clock()
        try:
            found = reading.client(_der(values), self._authorities.trusted, now)
        except ValueError as error:
            raise Unauthorised(f"The client certificate is refused: {error}.", rule="client_cert") from None
        with self._store.read() as tx:
            row = tx.one(
                "SELECT public_key FROM devices WHERE device_id = :id AND revoked_at IS NULL AND NOT EXISTS "
                "(SELECT 1 FROM revoked_certificates WHERE serial = :serial)",
                {"id": found.name, "serial": found.serial},
            )
        if row is None or bytes(row["public_key"]) != found.public_key:
            raise Unauthorised("The device is unknown or revoked.", rule="device")
        return Caller(found.name, "device", scope["state"].get("request_id", ""))

    def _is_gateway(self, scope: Any) -> bool:
        try:
            address = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self._trusted)


def _der(values: Sequence[bytes]) -> bytes:
    """Return the certificate in the header: one byte sequence of RFC 8941, `:BASE64:`. Raises `ValueError`."""
    value = values[0].strip(b" ")
    if len(values) != 1 or not 2 < len(value) <= LIMIT or value[:1] + value[-1:] != b"::":
        raise ValueError("the header is not one certificate as RFC 9440 writes it")
    try:
        return base64.b64decode(value[1:-1], validate=True)
    except binascii.Error:
        raise ValueError("the header is not base64") from None
