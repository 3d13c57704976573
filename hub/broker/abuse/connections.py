"""How many connections devices may have, so that the hub's own always find room.

A broker without a file left cannot take in the hub when it comes back, whoever holds the files: a connection needs no
certificate until its handshake.
"""

from __future__ import annotations

import resource
from typing import Final

RESERVE: Final = 128
"""Open files that devices cannot have: the broker's own, and the service listener's."""
ENOUGH: Final = 1_048_576


def most_connections() -> int:
    """Raise this process's limit of open files, and so its broker's, as far as it may; return what devices may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most - RESERVE)
