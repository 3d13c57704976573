"""What a device reports shows on the event stream: through the real broker, ingest, the judge and SSE."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import msgspec

from hub.deployment.policy import FailurePolicy, Policy
from tests.e2e.fleet import Fleet
from tests.e2e.played import Device
from topics.messages import UpdateState

PATIENCE_S = 60.0


class Heard(NamedTuple):
    """One event and when it was read (monotonic, s)."""

    kind: str
    data: dict[str, Any]
    at: float


class EventStream:
    """Reads `GET /events` on a thread of its own, from the end of the log on."""

    def __init__(self, fleet: Fleet) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", fleet.http_port, timeout=PATIENCE_S)
        token = fleet.environment["FLAGHOIST_TOKEN"]
        self._connection.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
        assert self._connection.sock is not None
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would wait for the reader, and the reader for the next event.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._answer.close()
        self._connection.close()

    def _read(self) -> None:
        kind = ""
        with contextlib.suppress(OSError, http.client.HTTPException):  # the test is over
            for raw in self._answer:
                name, _, text = raw.decode().rstrip().partition(": ")
                if name == "event":
                    kind = text
                elif name == "data":
                    self._heard.put(Heard(kind, json.loads(text), time.monotonic()))

    def next(self, *wanted: Callable[[Heard], bool]) -> list[Heard]:
        """Return the next event of each that is `wanted`, in whatever order they come."""
        deadline = time.monotonic() + PATIENCE_S
        found: dict[int, Heard] = {}
        while len(found) < len(wanted):
            heard = self._heard.get(timeout=max(0.1, deadline - time.monotonic()))
            for place, is_it in enumerate(wanted):
                if place not in found and is_it(heard):
                    found[place] = heard
        return [found[place] for place in range(len(wanted))]


def test_a_rollouts_health_is_on_the_event_stream_as_soon_as_devices_report(fleet: Fleet) -> None:
    """Each report is seen by itself, none is skipped or shown twice, and the halt follows the report that caused it."""
    devices = [Device(fleet, fleet.enrol(f"shop-{number}", "canary")) for number in (1, 2, 3)]
    policy = Policy(failure=FailurePolicy(max_ratio=0.5, min_reports=3))
    (fleet.repo / "roles" / "kiosk" / "rollout.json").write_bytes(msgspec.json.encode(policy))
    fleet.commit("policy")
    release = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", release, "--segment", "canary")
    story: list[tuple[int, UpdateState]] = [
        (0, "downloading"), (1, "downloading"), (2, "downloading"), (0, "committed"), (1, "rolled_back"),
    ]  # fmt: skip
    waits: list[float] = []
    try:
        with EventStream(fleet) as events:
            counted: dict[str, int] = {"began": 0, "committed": 0, "rolled_back": 0}
            for place, state in story:
                before = dict(counted)
                counted["began" if state == "downloading" else state] += 1
                published = devices[place].report(release, state)
                (shown,) = events.next(lambda heard: counts(heard, release) not in (None, before))  # noqa: B023
                assert counts(shown, release) == counted
                waits.append(shown.at - published)
            published = devices[2].report(release, "rolled_back")
            halt, told = events.next(
                lambda heard: heard.kind == "release.halted",
                lambda heard: (state_of(heard, release) or {}).get("state") == "halted",
            )
            assert (halt.data["release_id"], halt.data["actor"]) == (release, "rule:failure")
            assert counts(told, release) == {"began": 3, "committed": 1, "rolled_back": 2}
            assert state_of(told, release)["reason"] == halt.data["reason"]  # type: ignore[index]
        print(
            f"from publish to the event stream: {', '.join(f'{wait * 1000:.0f}' for wait in waits)} ms; "
            f"to the halt {(halt.at - published) * 1000:.0f} ms"
        )
    finally:
        for device in devices:
            device.peer.close()


def state_of(heard: Heard, release: str) -> dict[str, Any] | None:
    """The release's summary in an event, None in any other."""
    if heard.kind != "summary" or heard.data["summary"] != f"releases/{release}":
        return None
    state: dict[str, Any] | None = heard.data["state"]
    return state


def counts(heard: Heard, release: str) -> dict[str, int] | None:
    """What the summary of a release says of its canary, None for any other event."""
    state = state_of(heard, release)
    if state is None:
        return None
    row = state["segments"].get("canary", {})
    return {name: row.get(name, 0) for name in ("began", "committed", "rolled_back")}
