"""Errors of the agent that end a command, by exit code.

EdgeError
├── Refused      1   the hub, or this device's own state, said no
├── NotReady     3   this machine: not enrolled, unreadable or unsafe file, another agent is running
├── Unreachable  4   the hub or the broker cannot be reached
└── Untrusted    5   a signature, hash or trust check refused

Stop             what ends one update before it is activated; never leaves the update's process
"""

from __future__ import annotations

from typing import ClassVar, Literal


class EdgeError(Exception):
    """Root. The text is one sentence that names the thing and the way out."""

    exit_code: ClassVar[int] = 1


class Refused(EdgeError):  # noqa: N818  (named by outcome)
    """The operation was refused."""


class NotReady(EdgeError):  # noqa: N818
    """This machine is not ready."""

    exit_code = 3


class Unreachable(EdgeError):  # noqa: N818
    """Nobody answers at the other end."""

    exit_code = 4


class Untrusted(EdgeError):  # noqa: N818
    """Something was received that must not be believed."""

    exit_code = 5


class Stop(Exception):  # noqa: N818
    """An update ends here, before anything was changed.

    `lasting` says that trying the same release again cannot help (its content is at fault), so it goes on
    the list of failed releases; otherwise it is tried again later. `full` says that the disk has no room.
    `cause` and `check` are as in `UpdateResult`.
    """

    def __init__(
        self,
        reason: str,
        *,
        lasting: bool = False,
        full: bool = False,
        cause: Literal["own", "ordered"] = "own",
        check: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.full = full
        self.cause = cause
        self.check = check
