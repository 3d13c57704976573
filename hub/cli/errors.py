"""What ends a command early, and with which exit code.

0    done
1    Refused       the operation said no, or failed
2    usage         click's own errors, and an option whose value cannot be meant (`hub.usage`)
3    SetupError    this machine: a file, a program, a key with open permissions; any `OSError`
4    Unreachable   the hub does not answer
5    NotTrusted    a signature, hash or trust check refused (`topics.errors.TrustError` as well)
130  interrupted from the keyboard
"""

from __future__ import annotations

from typing import Final

from hub.errors import HubError, SetupError
from topics.errors import TrustError

REFUSED: Final = 1
NOT_READY: Final = 3
UNREACHABLE: Final = 4
NOT_TRUSTED: Final = 5


class Refused(HubError):  # noqa: N818  (named by outcome)
    """The operation said no."""


class Unreachable(HubError):  # noqa: N818
    """The hub does not answer, or what answers is not a hub."""


class NotTrusted(HubError):  # noqa: N818
    """Something signed, or named by a hash, is not what it has to be."""


def exit_code(error: Exception) -> int:
    """Return the exit code that `error` ends the command with."""
    table: tuple[tuple[type[Exception], int], ...] = (
        (SetupError, NOT_READY),
        (OSError, NOT_READY),
        (Unreachable, UNREACHABLE),
        (NotTrusted, NOT_TRUSTED),
        (TrustError, NOT_TRUSTED),
    )
    return next((code for kind, code in table if isinstance(error, kind)), REFUSED)
