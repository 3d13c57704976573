"""Making one update break on purpose, once: for tests of everything that must survive it.

It takes a signed command, and a device whose own settings say `chaos`. What is to break is written down with the
attempt, and struck out before it happens, so that a crash is one crash.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final, NamedTuple

from topics.documents import Command

PHASES: Final = ("download", "verify", "stage", "activate", "probation")
KINDS: Final = ("fail", "hang", "crash", "power")
CRASHED: Final = 70
"""Exit code of an update process that died by command."""


class Fault(NamedTuple):
    """What breaks where, by which command."""

    phase: str
    kind: str
    command: str

    def text(self) -> str:
        """Return it as it is written down."""
        return " ".join(self)


def asked(command: Command) -> Fault | None:
    """Return what a `fail-next-update` asks for; None for a phase or a kind that this agent does not know."""
    phase, kind = command.args.get("phase", "probation"), command.args.get("kind", "fail")
    return Fault(phase, kind, command.id) if phase in PHASES and kind in KINDS else None


def due(written: str, phase: str) -> Fault | None:
    """Return what breaks in `phase`, None for nothing."""
    parts = written.split(" ", 2)
    return Fault(*parts) if len(parts) == len(Fault._fields) and parts[0] == phase else None


def strike(fault: Fault, seconds: float) -> str:
    """Let it happen; return the reason of a failure that the process outlives. `seconds` is how long a hang lasts."""
    if fault.kind == "crash":
        os._exit(CRASHED)
    if fault.kind == "power":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.kind == "hang":
        time.sleep(seconds)
    return f"made to {fault.kind} in {fault.phase} by command {fault.command}"
