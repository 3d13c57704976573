"""Loki's push API: `POST /loki/api/v1/push` with gzipped JSON.

    {"streams": [{"stream": {"fleet": "acme", "kind": "status", "role": "kiosk"},
                  "values": [["1790000000000000000", "{…the line…}"], …]}]}

Labels stay few, since Loki keeps a stream for each combination: the device's id is in the line, not a label.
Time-stamps are when the hub received the report, in nanoseconds, as text: devices' clocks may be wrong by decades.

Source: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""

from __future__ import annotations

import gzip
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar, Final
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec

from hub.telemetry.sinks.queue import Queue
from hub.telemetry.sinks.render import Rendered
from hub.telemetry.sinks.sink import DroppedError, Sink

PATH: Final = "/loki/api/v1/push"
BACKOFF_S: Final = (0.5, 30.0)
TIMEOUT_S: Final = 3.0
REMEMBER_S: Final = 60.0
REMEMBER: Final = 10_000
_TOLD: Final = 200
_encoder: Final = msgspec.json.Encoder()


def push_url(url: str) -> str:
    """Return where lines are posted for `url`, with or without the path of the push API. Raises `ValueError`.

    >>> push_url("http://loki:3100")
    'http://loki:3100/loki/api/v1/push'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is not an http or https URL")
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(PATH) else path + PATH, fragment=""))


def payload(lines: list[Rendered], fleet: str, role_of: Callable[[str], str | None]) -> bytes:
    """Return the JSON that pushes `lines`; within a stream the oldest is first."""
    streams: dict[tuple[str, str], list[Rendered]] = defaultdict(list)
    for line in lines:
        streams[line.kind, role_of(line.device_id) or ""].append(line)
    return _encoder.encode(
        {
            "streams": [
                {
                    "stream": _labels(fleet, kind, role),
                    "values": [
                        [str(line.at * 1_000_000), line.text.decode()]
                        for line in sorted(found, key=lambda line: line.at)
                    ],
                }
                for (kind, role), found in streams.items()
            ]
        }
    )


def _labels(fleet: str, kind: str, role: str) -> dict[str, str]:
    labels = {"fleet": fleet, "kind": kind}
    return {**labels, "role": role} if role else labels


class Loki(Sink):
    """Pushes to `url` (see `push_url`; may carry `user:password@`).

    `role_of` gives a device's role, None for one that is not known any more. `jitter(low, high)` draws a pause.
    429, 5xx and network errors are tried again with full jitter, while the queue holds what comes; any other
    answer drops the batch, since the same bytes would be refused again.
    """

    NAME = "loki"
    REASONS: ClassVar[tuple[str, ...]] = (*Sink.REASONS, "refused")
    LINGER_S: ClassVar[float] = 1.0

    def __init__(
        self,
        url: str,
        *,
        fleet: str,
        role_of: Callable[[str], str | None] = lambda _device_id: None,
        jitter: Callable[[float, float], float] = random.uniform,
        queue: Queue | None = None,
    ) -> None:
        super().__init__(queue)
        self._url = push_url(url)
        self._fleet = fleet
        self._role_of = role_of
        self._jitter = jitter
        self._client = httpx2.Client(timeout=TIMEOUT_S, headers={"User-Agent": "flaghoist"})

    def write(self, lines: list[Rendered]) -> None:
        """Push `lines` and return when Loki has taken them; see `Sink.write`."""
        body = gzip.compress(payload(lines, self._fleet, self._role_of), compresslevel=1, mtime=0)
        tries = 0
        while problem := self._attempt(body):
            self.failed(problem)
            low, high = BACKOFF_S
            pause = self._jitter(0.0, min(high, low * 2**tries))
            tries = min(tries + 1, 10)
            if self.stopping.wait(pause):
                # One more try would hold up the hub's end; and what is behind this batch would fare no better.
                self._deadline = 0.0
                raise DroppedError("stopped", problem)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _attempt(self, body: bytes) -> str:
        """Push once; return "" when taken, else what went wrong if it is worth another try. Raises `DroppedError`."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            # Streamed, so that an endless answer is not read.
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                if answer.is_success:
                    return ""
                text = next(answer.iter_bytes(_TOLD), b"").decode("utf-8", "replace").strip()
        except httpx2.TransportError as error:
            return f"Loki cannot be reached: {str(error) or type(error).__name__}."
        said = f"Loki answered {answer.status_code}{f' ({text})' if text else ''}."
        if answer.status_code == httpx2.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            return said
        raise DroppedError("refused", said)


def roles(
    read: Callable[[str], str | None], *, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], str | None]:
    """Return a `role_of` that remembers what `read` answered, for `REMEMBER_S` and for `REMEMBER` devices at most.

    So a device's new role shows in its lines a minute later. `clock` gives seconds.
    """
    known: dict[str, str | None] = {}
    since = clock()

    def role_of(device_id: str) -> str | None:
        nonlocal since
        if clock() - since >= REMEMBER_S or len(known) >= REMEMBER:
            known.clear()
            since = clock()
        if device_id not in known:
            known[device_id] = read(device_id)
        return known[device_id]

    return role_of
