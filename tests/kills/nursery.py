"""A process that has loaded the agent and makes copies of itself, each of which runs one `flaghoist-edge` command.

A copy stops before its first step, so that a tracer takes hold of it. To load the interpreter anew for every system
call at which something is to go wrong would take most of the time. A copy has one thread, so the n-th call of a kind is
the same one in every copy.

Reads lines `{"arguments": [...], "stderr": FILE}`; answers `PID` when the copy stands still, and later `PID STATUS`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from typing import Final

import edge.main
import edge.mirror
import edge.resident
import edge.updating.child

PR_SET_PTRACER: Final = 0x59616D61
FAULT: Final = 70
"""Exit code of a copy that ended by an exception, which no command may."""


def child(arguments: list[str], stderr: str) -> None:
    """Become the command, once somebody says SIGCONT."""
    handle = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = FAULT
    # Where only a parent may trace: the tracer is a sibling.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        code = edge.main.main(arguments)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else FAULT
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Make copies until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order["arguments"], order["stderr"])
        os.waitpid(pid, os.WUNTRACED)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(pid, os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
