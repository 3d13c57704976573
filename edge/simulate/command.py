"""`flaghoist-edge simulate`: enrol what is missing, run the fleet, say what happened."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from edge import resident
from edge.config import Paths, Settings
from edge.errors import NotReady, Unreachable
from edge.simulate import enrolment, report
from edge.simulate.device import Rules, SimulatedDevice
from edge.simulate.fate import Odds
from edge.simulate.loop import Loop
from edge.simulate.report import Seen
from edge.simulate.tally import Tally, Tolerance

HELPERS: Final = 8
SPARE_FILES: Final = 256
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (its folder is made by mkdtemp)
"""Where a fleet that is not kept stands: each of its many small files is forced to disk, which here costs nothing."""


def run(chosen: argparse.Namespace) -> int:
    """Run the command. Raises `EdgeError`."""
    if chosen.offline_seconds is not None and not chosen.offline:
        chosen.misused(
            "--offline-seconds is for devices that go dark; say with --offline which share of them does"
        )
    # Thousands of agents that each say what they do say nothing; what was refused is counted.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s", stream=sys.stderr)
    _raise_file_limit(chosen.devices)
    with ExitStack() as stack:
        # A fleet that is not kept stands in memory: however the run is ended, it must not stay there.
        stack.callback(
            signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler)
        )
        folder = stack.enter_context(_folder(chosen.state))
        fleet = enrolment.device_paths(folder / "devices", chosen.prefix, chosen.devices)
        lock = resident.hold(folder / "lock")
        stack.callback(os.close, lock)
        tokens = chosen.token or [t for t in [os.environ.get("FLAGHOIST_ENROL_TOKEN", "")] if t]
        say = _Progress(len(fleet))
        enrolment.enrol_missing(
            fleet, chosen.hub, tokens, chosen.hardware, lambda count: say(f"enrolled {count}", every=50)
        )
        figures = _simulate(chosen, fleet, stack, say)
        say.end()
    print(json.dumps(figures) if chosen.json else report.text(figures))  # noqa: T201
    return 0


def _simulate(
    chosen: argparse.Namespace, fleet: list[Paths], stack: ExitStack, say: _Progress
) -> dict[str, Any]:
    helpers = ThreadPoolExecutor(HELPERS, "helper")
    stack.callback(helpers.shutdown, cancel_futures=True)
    rules = Rules(
        settings=Settings(),
        odds=Odds(chosen.fail, chosen.slow, chosen.offline, chosen.seconds_per_step),
        seed=chosen.seed,
        helpers=helpers,
        fetch=chosen.fetch,
        dark_seconds=chosen.offline_seconds,
    )
    loop, tally = Loop(), Tally()
    stack.callback(loop.close)
    before = _resident_kb()
    devices = []
    for paths in fleet:
        devices.append(SimulatedDevice(paths, rules, tally, loop.awake))
        stack.callback(devices[-1].close)
    # They live to the end: a collector that walks through all of them again and again finds nothing.
    gc.collect()
    gc.freeze()
    until = time.monotonic() + chosen.seconds if chosen.seconds else float("inf")

    def each_second() -> None:
        connected = sum(device.connected for device in devices)
        say(f"{connected} connected, {sum(device.busy for device in devices)} at work")

    loop.run(devices, until, each_second)
    if not any(device.ever_connected for device in devices):
        raise Unreachable(
            f"no device could connect ({devices[0].last_reason}); check the network and the hub"
        )
    figures = report.summary([_seen(device) for device in devices], tally, _tolerance(chosen))
    return {**figures, "memory_kb_per_device": (_resident_kb() - before) // len(devices)}


def _seen(device: SimulatedDevice) -> Seen:
    state = device.agent.state
    attempt = (state.update.release.id, state.update.state) if state.update else None
    return Seen(device.connected, state.running_id, attempt, device.agent.decide_now().reason)


def _tolerance(chosen: argparse.Namespace) -> Tolerance:
    return Tolerance(chosen.threshold.removesuffix("%"), chosen.min_reports)


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """Make the folder of a fleet: the one that is wanted, else one that goes when the run ends."""
    try:
        if wanted is not None:
            wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
            (wanted / "devices").mkdir(mode=0o700, exist_ok=True)
            yield wanted.absolute()
            return
        place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="flaghoist-", dir=place) as name:
            (Path(name) / "devices").mkdir()
            yield Path(name)
    except OSError as error:
        raise NotReady(f"the fleet cannot be kept ({error}); name another folder with --state") from None


def _raise_file_limit(devices: int) -> None:
    """See that every device may hold its connection and its spool open."""
    needed = 2 * devices + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise NotReady(
            f"{devices} devices need {needed} open files and this process may have {hard}; raise the limit "
            f"(ulimit -Hn), or simulate at most {(hard - SPARE_FILES) // 2}"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


class _Progress:
    """One line on a terminal, nothing in a pipe."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._shown = sys.stderr.isatty()
        self._calls = 0

    def __call__(self, text: str, *, every: int = 1) -> None:
        """Show `text`, at each `every`-th call."""
        self._calls += 1
        if self._shown and self._calls % every == 0:
            sys.stderr.write(f"\r{text} of {self._devices} devices\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
