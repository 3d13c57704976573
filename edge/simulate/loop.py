"""One thread on one selector for all devices: it sleeps until one of them has something to read or to do."""

from __future__ import annotations

import contextlib
import heapq
import os
import queue
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from edge.simulate.device import SimulatedDevice

CONNECTS: Final = 4
"""Connections made per turn; each waits for a TLS handshake, and those that stand want their turn too."""
GOODBYE_S: Final = 10.0


class Loop:
    """Runs devices until a time, a signal, or `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._selector.register(self._reading, selectors.EVENT_READ, None)
        self._watched: dict[SimulatedDevice, tuple[Any, int]] = {}
        self._timers: list[tuple[float, int, SimulatedDevice]] = []
        self._connects: list[tuple[float, int, SimulatedDevice]] = []
        self._due: dict[SimulatedDevice, float | None] = {}
        self._connect_due: dict[SimulatedDevice, float | None] = {}
        self._numbers: dict[SimulatedDevice, int] = {}
        self._awake: queue.SimpleQueue[SimulatedDevice] = queue.SimpleQueue()
        self._stop = False

    def awake(self, device: SimulatedDevice) -> None:
        """Say that what the device waited for is done. Thread-safe."""
        self._awake.put(device)
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b".")

    def run(self, devices: Sequence[SimulatedDevice], until: float, each_second: Callable[[], None]) -> None:
        """Start the devices and run them until `until` (s, monotonic) or SIGTERM or SIGINT, then say goodbye."""
        with self._signals():
            self._numbers = {device: number for number, device in enumerate(devices)}
            for device in devices:
                device.start()
                self._look(device)
            second = time.monotonic()
            while not self._stop and (now := time.monotonic()) < until:
                if now >= second:
                    second = now + 1.0
                    each_second()
                self._turn(min(until, second))
            self._leave(devices)

    def close(self) -> None:
        """Let go of the selector."""
        self._selector.close()
        os.close(self._reading)
        os.close(self._writing)

    def _turn(self, until: float) -> None:
        """Wait for something to happen and see to it."""
        self._connect(time.monotonic())
        due = min([until, *(heap[0][0] for heap in (self._timers, self._connects) if heap)])
        ready = self._selector.select(max(0.0, due - time.monotonic()))
        # All is read before anything is handled, so that work on one device does not date the messages of another.
        touched = []
        for key, mask in ready:
            if key.data is None:
                os.read(self._reading, 4096)
            else:
                key.data.read(
                    writable=bool(mask & selectors.EVENT_WRITE), readable=bool(mask & selectors.EVENT_READ)
                )
                touched.append(key.data)
        for device in touched:
            device.turn()
            self._look(device)
        while not self._awake.empty():
            device = self._awake.get()
            device.work_done()
            self._look(device)
        self._fire(time.monotonic())

    def _connect(self, now: float) -> None:
        """Make some of the connections that are due."""
        for _ in range(CONNECTS):
            if not self._connects or self._connects[0][0] > now:
                return
            at, _number, device = heapq.heappop(self._connects)
            if device.connect_at == at:
                self._connect_due[device] = None
                device.connect()
                device.turn()
                self._look(device)

    def _fire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            at, _, device = heapq.heappop(self._timers)
            if self._due.get(device) == at:
                self._due[device] = None
                device.turn()
                self._look(device)

    def _look(self, device: SimulatedDevice) -> None:
        """Bring the selector and the timers in line with what the device waits for."""
        due = device.due
        if due != self._due.get(device):
            self._due[device] = due
            if due is not None:
                heapq.heappush(self._timers, (due, self._numbers[device], device))
        connect_at = device.connect_at
        if connect_at is not None and connect_at != self._connect_due.get(device):
            self._connect_due[device] = connect_at
            heapq.heappush(self._connects, (connect_at, self._numbers[device], device))
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if device.link.wants_write else 0)
        wanted, known = device.link.socket(), self._watched.get(device)
        if known is not None and known[0] is wanted and known[1] == mask:
            return
        if known is not None:
            # A socket that was closed is gone from epoll already.
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(known[0])
            del self._watched[device]
        if wanted is not None:
            self._selector.register(wanted, mask, device)
            self._watched[device] = (wanted, mask)

    def _leave(self, devices: Sequence[SimulatedDevice]) -> None:
        for device in devices:
            device.connect_at = None
            device.leave()
            self._look(device)
        end = time.monotonic() + GOODBYE_S
        while time.monotonic() < end and any(
            device.connected and device.agent.awaiting for device in devices
        ):
            self._turn(time.monotonic() + 0.2)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        old_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in old.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop = True
