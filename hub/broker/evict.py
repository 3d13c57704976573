"""Ending a device's live session: the broker has no command for it, but two clients of one id cannot both stay.

The hub issues itself a certificate under the device's name, valid for an hour, connects once with a clean
session that ends with the connection, and leaves. The device may connect again unless its certificate no
longer opens the door; eviction alone ends what it was doing.
"""

from __future__ import annotations

import ssl
import tempfile
import time
from pathlib import Path
from typing import Final

import mqtt5

from hub.broker.wire import Link, LinkError
from hub.identity.building import BACKDATE, DAY
from hub.identity.ca import Authorities

EVICT_SECONDS: Final = 10.0


def evict(authorities: Authorities, device_id: str, *, port: int, now: int, host: str = "127.0.0.1") -> None:
    """Take over `device_id`'s session on the device listener and end it; blocks until that is done.

    `now` is in seconds. Raises `LinkError`, `OSError` or `ssl.SSLError` when the
    broker cannot be reached or refuses.
    """
    with Link(host, port, _context(authorities, device_id, now)) as link:
        link.send(mqtt5.ConnectPacket(device_id, clean_start=True, keep_alive=30).write())
        deadline = time.monotonic() + EVICT_SECONDS
        while time.monotonic() < deadline:
            link.wait(deadline - time.monotonic())
            for packet in link.read()[0].packets:
                if isinstance(packet, mqtt5.ConnAckPacket):
                    if int(packet.reason_code) >= 0x80:
                        raise LinkError(f"the broker refused to take over {device_id}")
                    link.send(mqtt5.DisconnectPacket().write())
                    return
        raise LinkError("the broker does not answer")


def _context(authorities: Authorities, device_id: str, now: int) -> ssl.SSLContext:
    # A life of one hour: the certificate begins BACKDATE before the time it is made for.
    pair = authorities.device.issue_service(device_id, now=now - DAY + BACKDATE, days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The broker may be bound to an address that its certificate does not name; the CA is the hub's own.
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authorities.bundle)
    with tempfile.TemporaryDirectory(prefix="flaghoist-") as folder:
        path = Path(folder) / "client.pem"
        path.touch(mode=0o600)
        path.write_text("".join(pair))
        context.load_cert_chain(path)
    return context
