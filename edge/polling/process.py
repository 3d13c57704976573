"""The exchange process as the agent holds it: started for a question, kept for the next ones, let go of when idle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from edge.config import Paths
from edge.polling.frames import LENGTH, Answer, Ask, pack, whole

_READ: Final = 65536
END_SECONDS: Final = 1.0
"""A process whose end of the socket is closed has ended within this, or is killed."""


def command(paths: Paths) -> Callable[[int], list[str]]:
    """Return what makes the command line of the process, for the number of its socket."""
    program = [sys.executable, "-m", "edge.polling.exchange", str(paths.root)]
    return lambda handle: [*program, str(handle), str(os.getpid())]


class Exchange:
    """One process at a time, with one question at a time; nothing here waits for it."""

    def __init__(self, command: Callable[[int], list[str]]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent = b""
        self._received = bytearray()
        self.channel: socket.socket | None = None
        """The socket to watch, while there is a process."""

    @property
    def wants_write(self) -> bool:
        """Whether some of the question waits until the socket takes more."""
        return bool(self._unsent)

    def ask(self, ask: Ask) -> None:
        """Ask; starts a process if there is none. Raises `OSError`."""
        if self.channel is None:
            self._start()
        self._unsent = pack(ask)
        self.writable()

    def writable(self) -> None:
        """Send what waits."""
        if self.channel is not None and self._unsent:
            try:
                self._unsent = self._unsent[self.channel.send(self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                self._unsent = b""  # reading tells that it is gone

    def read(self) -> Answer | None:
        """Return the answer, if it is all there. One without a status when the process has ended."""
        if self.channel is None:
            return None
        try:
            piece = self.channel.recv(_READ)
        except BlockingIOError:
            return None
        except OSError:
            piece = b""
        if not piece:
            return self._ended()
        self._received += piece
        frame = whole(self._received)
        if frame is None:
            return None
        del self._received[: LENGTH + len(frame)]
        return msgspec.msgpack.decode(frame, type=Answer)

    def let_go(self) -> None:
        """End the process: it has nothing to finish, since what was not answered is asked again."""
        if self.channel is not None:
            self.channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.channel = self._process = None
        self._unsent = b""
        self._received.clear()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            handle = theirs.fileno()
            try:
                self._process = subprocess.Popen(
                    self._command(handle), stdin=subprocess.DEVNULL, pass_fds=(handle,)
                )
            except OSError:
                ours.close()
                raise
        self.channel = ours

    def _ended(self) -> Answer:
        code = None
        if self._process is not None:
            try:
                code = self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
        self.let_go()
        if code == -signal.SIGALRM:
            return Answer(problem="the hub's answer takes too long")
        return Answer(problem=f"the process that asks the hub ended with {code}")
