"""What the agent tells systemd, in the protocol of sd_notify(3): ready, stopping, a status line, the watchdog.

Without `NOTIFY_SOCKET` in the environment nobody is told anything, and the watchdog wants no wake-up.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Final

SEND_SECONDS: Final = 1.0
"""A service manager that takes no message within this does without it: the device comes first."""


class Notifier:
    """Talks to the service manager that `environ` names; `pid` is this process. Times are monotonic seconds."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._limit = _watchdog(environ, pid) if self._address else 0.0
        self._fed_at = 0.0

    def tell(self, *assignments: str) -> None:
        """Send assignments like `READY=1`; a manager that does not listen is passed over."""
        if not self._address:
            return
        text = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.settimeout(SEND_SECONDS)
            sock.sendto(text.encode(errors="replace"), self._address)

    def turned(self, now: float) -> None:
        """The main loop has turned: feed the watchdog, if a quarter of its time is over."""
        if self._limit and now >= self._fed_at + self._limit / 4:
            self._fed_at = now
            self.tell("WATCHDOG=1")

    @property
    def deadline(self) -> float | None:
        """When the loop must turn for the watchdog's sake: at half of its time. Turns that come of their own
        accord feed it before, so a connected agent is not woken."""
        return self._fed_at + self._limit / 2 if self._limit else None


def _watchdog(environ: Mapping[str, str], pid: int) -> float:
    """Return the watchdog's time in seconds, 0 for none or another process's."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0
