"""What every sink is: a bounded queue, a thread that empties it, and counts of what became of the lines."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import ClassVar, Final

import structlog

from hub.telemetry.sinks.queue import Queue
from hub.telemetry.sinks.render import Rendered, UnreadableError, render

BATCH_LINES: Final = 1_000
BATCH_BYTES: Final = 1024 * 1024
IDLE_S: Final = 60.0
SHARE: Final = 10
"""A sink may use one part in `SHARE` of a core (some 30,000 lines a second). Ingest shares the interpreter with it
and drains a backlog far faster than that; the lines that a sink then has to lose are counted."""
STOP_S: Final = 4.0
"""How long a sink that is stopped goes on emptying its queue."""

_log = structlog.get_logger("hub.sinks")


class DroppedError(Exception):
    """A batch will not be written; `reason` is one of the sink's `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Sink(ABC):
    """Runs from `start` to `stop`. Subclasses say how a batch is written, on the sink's own thread."""

    NAME: ClassVar[str]
    REASONS: ClassVar[tuple[str, ...]] = ("overflow", "unreadable", "fault", "stopped")
    """Why lines can be dropped: the queue was full, the body cannot be said in JSON, a fault of ours, the hub
    stopped before they were written. Subclasses add theirs."""
    LINGER_S: ClassVar[float] = 0.5
    """How long the first line of a batch waits for more."""

    def __init__(self, queue: Queue | None = None) -> None:
        self.queue = Queue() if queue is None else queue
        self.stopping = threading.Event()
        self.sent = 0
        """Lines written."""
        self.failures = 0
        """Attempts to write that failed, also those that were tried again with success."""
        self.problem = ""
        """One sentence while lines cannot be written, else empty."""
        self._dropped = dict.fromkeys(self.REASONS, 0)
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.NAME}", daemon=True)

    @property
    def queued(self) -> int:
        """Reports that wait."""
        return len(self.queue)

    @property
    def dropped(self) -> dict[str, int]:
        """Lines that were lost, by reason; every reason of `REASONS` is there."""
        return {**self._dropped, "overflow": self.queue.overflowed}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Tell the thread to empty the queue and end; returns at once."""
        self._deadline = time.monotonic() + STOP_S
        self.stopping.set()
        self.queue.wake()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, at most `seconds`; a write that hangs ends with the process."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def failed(self, problem: str) -> None:
        """Count a failed attempt; the first of a row is logged."""
        if not self.problem:
            _log.warning("sink fails", sink=self.NAME, reason=problem)
        self.problem = problem
        self.failures += 1

    @abstractmethod
    def write(self, lines: list[Rendered]) -> None:
        """Write all of `lines` or none; raises `DroppedError` for none."""

    def idle(self) -> None:  # noqa: B027  (most have nothing to do)
        """Called now and then while nothing comes."""

    @abstractmethod
    def close(self) -> None:
        """Called once, at the end, on the sink's thread."""

    def _run(self) -> None:
        while True:
            self.queue.wait(linger=self.LINGER_S, timeout=IDLE_S)
            begin = time.thread_time()
            self._step()
            if self.stopping.is_set():
                if not len(self.queue) or time.monotonic() > self._deadline:
                    break
            else:
                self.stopping.wait((SHARE - 1) * (time.thread_time() - begin))
        while left := self.queue.take(BATCH_LINES, BATCH_BYTES):
            self._dropped["stopped"] += len(left)
        try:
            self.close()
        except OSError as error:
            _log.warning("sink did not close", sink=self.NAME, reason=str(error))

    def _step(self) -> None:
        rendered: list[Rendered] = []
        try:
            for line in self.queue.take(BATCH_LINES, BATCH_BYTES):
                try:
                    rendered += render(line)
                except UnreadableError:
                    self._dropped["unreadable"] += 1
            if not rendered:
                self.idle()
                return
            self.write(rendered)
        except DroppedError as error:
            self.failed(error.detail)
            self._dropped[error.reason] += len(rendered)
        except Exception as error:
            # A fault of ours must not end the sink for good; the lines of this batch are lost and counted.
            _log.exception("sink failed", sink=self.NAME)
            self.failed(f"{type(error).__name__}: {error}")
            self._dropped["fault"] += len(rendered)
        else:
            self.sent += len(rendered)
            if self.problem:
                self.problem = ""
                _log.info("sink works again", sink=self.NAME)
