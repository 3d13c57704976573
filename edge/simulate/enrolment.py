"""The identities of a simulated fleet: enrolled like any device's, a few at a time, and kept for the next run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.errors import NotReady, Refused
from edge.identity.enrol import Wanted, enrol
from edge.machine.clock import SystemClock
from topics import names
from topics.errors import TopicError

AT_ONCE: Final = 4
"""Enrolments under way at a time; the hub signs a certificate in each."""


def device_paths(folder: Path, prefix: str, count: int) -> list[Paths]:
    """Return where each device stands. Raises `Refused` for a prefix that makes no device id."""
    width = len(str(count - 1))
    ids = [f"{prefix}{number:0{width}d}" for number in range(count)]
    try:
        names.device_id(ids[0])
    except TopicError as error:
        raise Refused(f"--prefix {prefix!r}: {error}") from None
    return [Paths(folder / device_id) for device_id in ids]


def enrol_missing(
    fleet: Sequence[Paths], hub: str, tokens: Sequence[str], hardware: str, progress: Callable[[int], None]
) -> int:
    """Enrol every device that has no identity; return how many. `progress` hears how many stand.

    Raises `EdgeError`: of the first that could not be enrolled, after those under way have ended.
    """
    missing = [(number, paths) for number, paths in enumerate(fleet) if not paths.identity.is_symlink()]
    if missing and not (hub and tokens):
        raise NotReady(f"{len(missing)} of {len(fleet)} devices are not enrolled yet; give --hub and --token")

    def one(number: int, paths: Paths) -> None:
        token = tokens[number % len(tokens)]
        enrol(paths, Wanted(hub, token, paths.root.name, hardware), SystemClock())

    with ThreadPoolExecutor(AT_ONCE, "enrol") as pool:
        running = [pool.submit(one, number, paths) for number, paths in missing]
        try:
            for done, future in enumerate(running, len(fleet) - len(missing) + 1):
                future.result()
                progress(done)
        finally:
            pool.shutdown(cancel_futures=True)
    for paths in fleet:
        paths.make()
    return len(missing)
