"""Puts out a client that listens where it may not: ends its session and writes it down."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import structlog

from hub.broker.evict import evict
from hub.broker.wire import LinkError
from hub.caller import rule
from hub.events import Event, append
from hub.identity.ca import Authorities
from hub.store import Store

_log = structlog.get_logger("hub.guard")


def put_out(
    store: Store,
    authorities: Authorities,
    port: int,
    client: str,
    topic_filter: str,
    clock: Callable[[], int],
) -> None:
    """End the session of `client`, which subscribed to `topic_filter`; blocks. `clock` gives ms.

    A device that guessed the ingest's share group would take other devices' reports, and Mosquitto's access
    list does not cover subscriptions.
    """
    _log.warning("a client subscribed where it may not", device=client, filter=topic_filter)
    with store.write() as tx:
        event = Event(kind="device.evicted", device_id=client, reason=f"subscribed to {topic_filter}")
        append(tx, event, rule("subscriptions"), clock())
    try:
        evict(authorities, client, port=port, now=clock() // 1000)
    except (LinkError, OSError, ssl.SSLError) as error:
        _log.error("the client could not be put out", device=client, reason=str(error))
