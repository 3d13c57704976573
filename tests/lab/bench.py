"""The bench of the power cuts: a hub on this machine, an emulated device, and the switch."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.e2e.fleet import Fleet, NotObservedError, until
from tests.edge import agents
from tests.lab import debian, judge
from tests.lab.judge import Cut
from tests.lab.machine import Machine, SilentError

HOST: Final = "10.0.2.2"
"""This machine's loopback, as QEMU's user network shows it to the emulated one."""
DEVICE: Final = "lab-1"
PATIENCE: Final = 2400.0
"""Seconds for anything to happen: emulation is slow, and nothing here is decided by time."""
BALLAST: Final = 1_000_000
"""Bytes in each release that the one before has not got, so that there is a download to interrupt."""
EVERY: Final = 3
"""One of so many releases brings a new agent."""
POLICY: Final = {
    "failure": {"max_ratio": 1.0, "min_reports": 1000, "max_count": 1000, "update_timeout_seconds": 86_400}
}
"""The rollout of one device is not to stop by what becomes of it; that is looked at here."""
SAID: Final = re.compile(r"LAB (boot|now) (\{.*\})")


class Hub(Fleet):
    """A hub that the device knows by another address than this machine does."""

    def _address(self) -> str:
        return f"http://127.0.0.1:{self.http_port}" if super()._address() else ""


class Bench:
    """One device and its hub. `tell` hears of each step in a sentence."""

    def __init__(self, folder: Path, seed: int, tell: Callable[[str], None]) -> None:
        self._folder, self.tell = folder, tell
        self._chance = Random(seed)
        self.fleet = Hub(folder / "hub", name="lab")
        self.fleet.options = (
            *("--public-http", f"http://{HOST}:{self.fleet.http_port}"),
            *("--public-mqtt", f"{HOST}:{self.fleet.mqtt_port}"),
        )
        self._machine: Machine | None = None
        self._disk, self._layer = folder / "disk", folder / "layer"
        self.update_seconds = 0.0
        self.boot_seconds = 0.0

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make the disks, start the hub, have the device enrol. Raises `CannotBuildError` and `SilentError`."""
        self._base, self._payload = debian.base(), debian.payload(self._folder / "made", "cuts")
        debian.overlay(self._base / "disk", "raw", self._disk)
        with self.fleet.ready():
            try:
                self.tell("the device boots for the first time and enrols")
                token = self.fleet.flaghoist(
                    "device", "token", "--role", "kiosk", "--segment", "canary", "--json"
                )
                self.power_on(
                    f"lab.hub=http://{HOST}:{self.fleet.http_port} lab.token={json.loads(token)['token']}"
                )
                self.boot()
                yield
            finally:
                if self._machine is not None and self._machine.process.poll() is None:
                    self._machine.cut()

    @property
    def machine(self) -> Machine:
        """The device as it was switched on last."""
        assert self._machine is not None
        return self._machine

    def power_on(self, append: str = "") -> float:
        """Start the device with `append` on its kernel's command line; return when that was (monotonic s)."""
        # A new layer for each boot: nothing that it writes stands before it flushes.
        if self._layer.exists():
            debian.merge(self._layer)
        debian.overlay(self._disk, "qcow2", self._layer)
        self._machine = Machine(
            self._base,
            [f"file={self._layer},format=qcow2", f"file={self._payload},format=raw,snapshot=on"],
            self._folder / "console",
            memory=640,
            network=True,
            append=append,
        )
        return self.machine.started

    def offer(self, sequence: int) -> str:
        """Publish and promote the release with this number; return its id."""
        place = self.fleet.repo / "roles" / "kiosk"
        (place / "files" / "ballast").write_bytes(self._chance.randbytes(BALLAST))
        (place / "rollout.json").write_text(json.dumps(POLICY))
        if sequence % EVERY == 0:
            files = agents.packages({"edge/mirror.py": f"\n# comes with release {sequence}\n"})
            for name, content in files.items():
                path = place / "files" / "agent" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o755 if content.startswith(b"#!") else 0o644)
        self.fleet.commit(f"release {sequence}")
        release = self.fleet.publish("kiosk", sequence)
        self.fleet.flaghoist("release", "promote", release, "--segment", "canary")
        return release

    def boot(self) -> dict[str, Any]:
        """Return what the witness found on the disk in this boot. Raises `SilentError`."""
        found = self.said("boot", lambda _: True)
        self.boot_seconds = time.monotonic() - self.machine.started
        return found

    def said(self, what: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the witness has said `what` ("boot" or "now") of that kind in this boot, and return the last such.

        Raises `SilentError`.
        """

        def look(lines: list[str]) -> dict[str, Any] | None:
            told = [json.loads(found[2]) for found in map(SAID.search, lines) if found and found[1] == what]
            return told[-1] if told and wanted(told[-1]) else None

        try:
            return self.machine.wait("the device said what it should", look, PATIENCE)
        except SilentError as error:
            raise SilentError(f"{error}; what it said last is {self.heard()}") from None

    def heard(self, what: str = "boot|now") -> dict[str, Any] | None:
        """What the witness has said last in this boot, None before it said anything."""
        told = [
            found[2] for found in map(SAID.search, self.machine.lines) if found and re.match(what, found[1])
        ]
        return dict(json.loads(told[-1])) if told else None

    def arrived(self, release: str) -> dict[str, Any]:
        """Wait until the device runs `release` and the hub knows it. Raises `SilentError` and `NotObservedError`."""
        seen = self.said("now", lambda seen: judge.is_there(seen, release))
        with contextlib.suppress(NotObservedError):
            until("the hub's record", lambda: not self.record(release), seconds=PATIENCE, every=1.0)
        if wrong := self.record(release):
            raise NotObservedError(f"of {release}, {'; '.join(wrong)}")
        return seen

    def record(self, release: str) -> list[str]:
        """What is wrong with the hub's record of the device and of this rollout."""
        return judge.record_faults(
            self.fleet.get(f"/devices/{DEVICE}"), self.fleet.progress(release, "canary"), release
        )

    def first(self) -> str:
        """Bring the device to its first release, and a second one without a cut, to know how long that takes."""
        self.tell("the first release goes out, then one without a cut, to see how long an update takes here")
        self.arrived(self.offer(1))
        begun = time.monotonic()
        release = self.offer(2)
        self.arrived(release)
        self.update_seconds = time.monotonic() - begun
        return release

    def cut(self, cut: Cut, since: float) -> float:
        """Cut the power at the moment of `cut`, counted from `since` (monotonic s); return the seconds until then."""
        span = self.update_seconds + (self.boot_seconds if cut.again else 0.0)
        delay = cut.moment * span
        time.sleep(max(0.0, since + delay - time.monotonic()))
        self.machine.cut()
        return round(delay, 1)
