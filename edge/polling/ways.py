"""The one connection that the runner holds, over MQTT or over HTTPS as `edge.polling.choice` says, never both."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from edge.config import Paths, Settings
from edge.errors import NotReady
from edge.link import Connected, Disconnected, Event, MqttLink
from edge.polling import choice, notes
from edge.polling.choice import STABLE, Standing
from edge.polling.link import HttpsLink

AGAIN: Final = "MQTT is tried again"
"""Why a connection over HTTPS ends that is well."""


class Ways:
    """Both links behind the interface of one. `hurried` is `once`, which has no time for patience."""

    def __init__(
        self,
        mqtt: MqttLink,
        https: HttpsLink,
        settings: Settings,
        paths: Paths,
        *,
        hurried: bool,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._mqtt, self._https = mqtt, https
        self._settings, self._paths = settings, paths
        self._hurried = hurried
        self._wall, self._steady, self._dice = wall, steady, dice
        self._standing = notes.read(paths)
        self._way = choice.choose(self._standing, settings.transport, wall())
        self._since: float | None = None
        self._unopened: list[Event] = []
        self.reasons: dict[choice.Way, str] = {}
        """Why the last connection of each way ended, or could not be made."""

    @property
    def way(self) -> choice.Way:
        """The way of the present connection, or of the last attempt."""
        return self._way

    @property
    def _link(self) -> MqttLink | HttpsLink:
        return self._mqtt if self._way == "mqtt" else self._https

    def open(self, context: Callable[[], ssl.SSLContext], will_topic: str, will_body: bytes) -> None:
        """Begin a connection; events tell the outcome. Over MQTT with what `context` returns and a last will."""
        self._way = choice.choose(self._standing, self._settings.transport, self._wall())
        if self._way == "https":
            self._https.open()
            return
        try:
            self._mqtt.open(context(), will_topic, will_body)
        except (OSError, NotReady) as error:
            # A certificate that cannot be used; over HTTPS the key is enough.
            self._unopened.append(Disconnected(str(error)))

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events = [*self._unopened, *self._link.events()]
        self._unopened.clear()
        for event in events:
            if isinstance(event, Connected):
                self._since = self._steady()
                self._keep(
                    choice.connected(
                        self._standing,
                        self._way,
                        self._wall(),
                        retry_seconds=self._settings.mqtt_retry_seconds,
                        dice=self._dice(),
                    )
                )
            elif isinstance(event, Disconnected):
                self._lost(event.reason)
        return events

    def socket(self) -> Any:
        """The socket to watch, or None."""
        return self._link.socket()

    @property
    def wants_write(self) -> bool:
        """Whether something waits until the socket takes more."""
        return self._link.wants_write

    @property
    def deadline(self) -> float | None:
        """When `misc` is wanted, on the monotonic clock."""
        times = [self._link.deadline]
        if self._retries and self._https.is_idle:
            times.append(self._steady() + choice.due(self._standing, self._wall()))
        if self._is_unproven and self._since is not None:
            times.append(self._since + STABLE)
        return min((at for at in times if at is not None), default=None)

    def readable(self) -> None:
        """Read what is there."""
        self._link.readable()

    def has_more(self) -> bool:
        """Whether there is something to read that the selector will not tell of."""
        return self._link.has_more()

    def writable(self) -> None:
        """Write what waits."""
        self._link.writable()

    def misc(self) -> None:
        """Do what is due."""
        self._link.misc()
        if self._is_unproven and self._since is not None and self._steady() >= self._since + STABLE:
            self._keep(Standing())
        if self._retries and self._https.is_idle and choice.due(self._standing, self._wall()) <= 0:
            self._https.drop(AGAIN)

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """Send; see `edge.outside.Link`."""
        return self._link.publish(topic, body, qos=qos, retain=retain)

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Ask for topics, in this order: the root must come before what it signs for."""
        self._link.subscribe(topics)

    def unsubscribe(self, topics: list[str]) -> None:
        """Ask for topics no more."""
        self._link.unsubscribe(topics)

    def close(self) -> None:
        """End the connection in good order."""
        if self._hurried and self._is_unproven:
            self._keep(Standing())  # it did what it was for, and lasts no longer on such a device
        self._link.close()

    @property
    def _retries(self) -> bool:
        """Whether MQTT is to be tried again from a connection over HTTPS."""
        return self._settings.transport == "auto" and self._way == "https" and self._since is not None

    @property
    def _is_unproven(self) -> bool:
        """Whether a connection over MQTT stands that is to show that MQTT works again."""
        return self._way == "mqtt" and self._since is not None and self._standing != Standing()

    def _lost(self, reason: str) -> None:
        self.reasons[self._way] = reason
        lasted = None if self._since is None else self._steady() - self._since
        self._since = None
        self._keep(
            choice.lost(
                self._standing,
                self._way,
                reason,
                self._wall(),
                lasted=lasted,
                fallback_seconds=self._settings.fallback_seconds,
                hurried=self._hurried,
            )
        )

    def _keep(self, standing: Standing) -> None:
        if standing != self._standing and self._settings.transport == "auto":
            self._standing = standing
            notes.write(self._paths, standing)
