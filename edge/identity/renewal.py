"""When the device's certificate is to be renewed, seen from the agent; `edge.identity.renewing` does it.

The agent asks by a file and has the update process started, which fetches and installs; what came of it is in a note.
Rules:

1. It is due by its own dates (`topics.renewal.due_at`), by the best that is known of the time.
2. It is due when the signed desired state names other CAs than those that the broker is known by here. All devices
   hear of it at one moment, so each waits for a random part of `SPREAD` times `retry_base_seconds`; not one that wakes
   at moments of its own, and would be asleep again by then.
3. It is due when a connection failed over a certificate: the broker may show one by a CA that this device, asleep for
   years, has never heard of.
4. After a try that failed the next one waits, with full jitter, twice as long each time. A try by rule 3 never follows
   sooner than `PAUSE` on the last one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from edge.beliefs import Beliefs
from edge.config import Paths, Settings
from edge.identity import certificate
from edge.storage import disk
from topics.renewal import due_at

LOOK: Final = 900.0
"""Seconds between two looks at the dates; they are counted in weeks, and nobody is woken for a look."""
PAUSE: Final = 600.0
"""Seconds between two tries over refused connections, of which there is one every few minutes."""
SPREAD: Final = 10.0
"""Times `retry_base_seconds`, 60 by default: ten minutes for a fleet to fetch a new CA in."""
TOLERATED: Final = 2
"""Tries that may fail before the device's health is `degraded`: a hub may be away for an hour."""
_BLAMED: Final = ("certificate", "CERTIFICATE", "unknown ca")


class Agent(Protocol):
    """What is needed of the agent."""

    trouble: str

    @property
    def beliefs(self) -> Beliefs:
        """What is believed, opened."""

    @property
    def now_ms(self) -> int:
        """The best that is known of the time, in ms."""

    def check_now(self) -> None:
        """Start the update process."""


@dataclass(frozen=True, slots=True)
class Held:
    """The certificate in place, since and until when (ms), and the CAs; hashes are SHA-256 of the DER."""

    begin: int
    end: int
    sha256: str
    cas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """How many tries in a row failed, and why the last one did."""

    tries: int = 0
    problem: str = ""


def held(folder: Path) -> Held:
    """Return what is in place in an identity's folder. Raises `OSError`, and `ValueError` for what cannot be read."""
    own = certificate.ders((folder / "cert.pem").read_text(encoding="ascii"))[0]
    begin, end = certificate.dates(own)
    return Held(
        begin=int(begin.timestamp() * 1000),
        end=int(end.timestamp() * 1000),
        sha256=_sha256(own),
        cas=hashes((folder / "ca.pem").read_text(encoding="ascii")),
    )


def hashes(pem: str) -> tuple[str, ...]:
    """Return the SHA-256 of each certificate in `pem`. Raises `ValueError`."""
    return tuple(_sha256(der) for der in certificate.ders(pem))


def is_due(held: Held, device_id: str, wanted: Sequence[str], now: int) -> bool:
    """Whether rule 1 or 2 holds at `now` (ms); `wanted` are the CAs that the desired state names, if it does."""
    return now >= due_at(held.begin, held.end, device_id) or bool(wanted and set(wanted) != set(held.cas))


def ask(paths: Paths) -> None:
    """Ask the update process for a renewal. Raises `OSError`."""
    disk.replace(_wish(paths), b"")


def is_asked(paths: Paths) -> bool:
    """Whether a renewal is asked for."""
    return _wish(paths).exists()


def done(paths: Paths, problem: str) -> None:
    """Say what came of it: `problem` is one sentence, "" for none. Raises `OSError`."""
    note = paths.run / "renewal.json"
    if problem:
        body = {"tries": read(paths).tries + 1, "problem": problem}
        disk.replace(note, json.dumps(body).encode())
    else:
        note.unlink(missing_ok=True)
    _wish(paths).unlink(missing_ok=True)


def read(paths: Paths) -> Note:
    """Return what came of the last try; nothing that is readable is nothing wrong."""
    try:
        body = json.loads((paths.run / "renewal.json").read_bytes())
        return Note(int(body["tries"]), str(body["problem"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Note()


class Renewal:
    """Looks after the certificate of a running agent; holds no connection. Times are on the monotonic clock."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        device_id: str,
        *,
        spread: float = SPREAD,
        steady: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._paths, self._settings, self._device_id = paths, settings, device_id
        self._spread, self._steady, self._dice = spread, steady, dice
        self._held = self._look()
        self._note = read(paths)
        self._next = self._no_sooner = 0.0
        self._wanted: tuple[str, ...] = ()
        self._asked = False

    def turned(self, agent: Agent, *, busy: bool) -> None:
        """Ask for a renewal when it is due; `busy` says that the update process is at something else."""
        agent.trouble = self._note.problem if self._note.tries > TOLERATED else ""
        desired = agent.beliefs.desired
        wanted = tuple(desired.desired.cas) if desired else ()
        now = self._steady()
        if wanted != self._wanted:
            spread = self._spread * self._settings.retry_base_seconds
            self._wanted, self._next = wanted, now + self._dice() * spread
        if busy or now < self._next or self._held is None:
            return
        self._next = now + LOOK
        if is_due(self._held, self._device_id, wanted, agent.now_ms):
            self._ask(agent)

    def refused(self, agent: Agent, reason: str, *, busy: bool) -> None:
        """Take in why a connection ended or could not be made."""
        if not busy and self._steady() >= self._no_sooner and any(word in reason for word in _BLAMED):
            self._ask(agent)

    def ended(self) -> bool:
        """Take in that the update process has ended; return whether another certificate or CA is in place now."""
        if not self._asked:
            return False
        self._asked = False
        before, self._held, self._note = self._held, self._look(), read(self._paths)
        if self._note.problem:
            pause = self._settings.retry_base_seconds * 2.0 ** min(self._note.tries, 20)
            wait = self._dice() * min(pause, self._settings.retry_cap_seconds)
            self._next = self._steady() + wait
            self._no_sooner = max(self._no_sooner, self._next)
        return self._held != before

    def _ask(self, agent: Agent) -> None:
        self._no_sooner = self._steady() + PAUSE
        with contextlib.suppress(OSError):  # a full disk: it is due for weeks
            ask(self._paths)
            self._asked = True
            agent.check_now()

    def _look(self) -> Held | None:
        try:
            return held(self._paths.identity)
        except (OSError, ValueError):
            return None


def _wish(paths: Paths) -> Path:
    return paths.run / "renew"


def _sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()
