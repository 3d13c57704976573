"""Two slots of a system, of which one runs: what the hooks `rauc` and `swupdate` have in common.

A release of such a hook carries one image in `files/`. It is written to the slot that does not run, and the machine
restarted into it. Rules:

1. Which release stands in which slot is written down once its image is whole; before a slot is written to, that is
   crossed out. The slot that runs is never written to.
2. `activate` makes the bootloader try the release's slot and asks for a restart (76). It is done when that slot runs.
   When a boot has passed and another runs, the bootloader fell back: that is a failure, and no second try.
3. `probe` is well only when the release's slot runs. Nothing else says that an update came through.
4. `rollback` leads back to the slot that ran before: at once where it still runs, else by a restart. A release that was
   confirmed has nothing to stop; its rollback only lets `activate` try anew.
5. Bootloaders count boots, so `confirm` is right in each of them; it is refused while another slot runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

LATER, RESTART = 75, 76
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Backend(Protocol):
    """An installer with its bootloader. Each call may end the hook with a reason."""

    name: str
    suffix: str

    def slots(self) -> tuple[str, str]:
        """Return the names of the slot that runs and of the other one."""

    def write(self, image: Path, slot: str) -> None:
        """Install `image` in `slot`, which does not run. What boots next stays as it was."""

    def fingerprint(self, slot: str) -> str:
        """Return what the installer knows `slot` to hold, "" when it keeps no account of that."""

    def holds(self, slot: str, image: Path) -> bool:
        """Whether the installer is certain that `slot` holds the whole of `image`. Asked when nothing else is known."""

    def boot_next(self, slot: str) -> None:
        """Make the bootloader try `slot` at the next boot."""

    def good(self, slot: str) -> None:
        """Tell the bootloader that `slot`, which runs, is good."""


@dataclass
class Record:
    """What stands where. `partly` is a slot that was begun to be written; `trial` the slot that the bootloader was last
    told to try, and `boot` the boot in which it was told."""

    releases: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    partly: str = ""
    trial: str = ""
    boot: str = ""
    confirmed: str = ""

    def place(self, release: str) -> str:
        """Return the slot of a release, "" when it has none."""
        return next((slot for slot, held in self.releases.items() if held == release), "")


class Slots:
    """The verbs, for the release in the environment."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._name = backend.name
        self._release = os.environ["FLAGHOIST_RELEASE_ID"]
        self._folder = Path(os.environ["FLAGHOIST_RELEASE_DIR"])
        self._path = Path(os.environ["FLAGHOIST_RUN_DIR"]) / f"{self._name}.json"
        self._record = self._load()
        self._boot = _BOOT_ID.read_text(encoding="ascii").strip()
        self._running, self._other = backend.slots()
        self._place = self._record.place(self._release)

    def install(self) -> None:
        """Write the release's image to the slot that does not run."""
        record, image = self._record, self._image()
        if self._find() and self._place != record.partly and self._intact():
            return
        if self._place == self._running:
            # Power failed while it was written, and the machine came up with it.
            if not self._backend.holds(self._running, image):
                self.fail(f"slot {self._running} runs and does not hold the whole image of {self._release}")
        else:
            record.releases = {
                self._running: record.releases.get(self._running, ""),
                self._other: self._release,
            }
            record.partly, record.trial = self._other, ""
            self._save()
            self._backend.write(image, self._other)
            self._place = self._other
        record.fingerprints[self._place] = self._backend.fingerprint(self._place)
        record.partly = ""
        self._save()

    def activate(self) -> None:
        """Have the release's slot booted."""
        record = self._record
        if self._find() == self._running:
            if record.trial not in ("", self._running):
                self._backend.boot_next(self._running)
                if record.confirmed == self._release:
                    self._backend.good(self._running)
                record.trial = ""
                self._save()
            return
        if not self._place or self._place == record.partly:
            self.fail(
                f"{self._release} is in no slot; a redeploy of another release, then of this one, writes it again"
            )
        self._try(self._place)

    def probe(self) -> None:
        """Fail unless the release's slot runs."""
        record = self._record
        if self._find() == self._running:
            if not self._intact():
                known, found = self._record.fingerprints[self._place], self._backend.fingerprint(self._place)
                tell(f"slot {self._running}", known, found or "nothing known")
                self.fail(f"slot {self._running} holds another image than the one of {self._release}")
            return
        if self._place and (record.trial, record.boot) == (self._place, self._boot):
            self.end(LATER, f"slot {self._place} runs after the restart that is to come")
        held = record.releases.get(self._running) or "another system"
        tell("system", f"{self._release} in slot {self._place or '?'}", f"{held} in slot {self._running}")
        self.fail(f"slot {self._running} runs with {held}, not {self._release}")

    def confirm(self) -> None:
        """Make the slot that runs the one to stay."""
        if self._find() != self._running:
            self.fail(f"slot {self._running} runs, which is not that of {self._release}")
        self._backend.good(self._running)
        if self._record.confirmed != self._release:
            self._record.confirmed = self._release
            self._save()

    def rollback(self) -> None:
        """Go back to the slot that ran before."""
        if self._record.confirmed == self._release:
            self._record.trial = ""
        elif self._place and self._place == self._running:
            self._try(self._other)
        elif self._place:
            self._backend.boot_next(self._running)
            self._backend.good(self._running)
            self._record.trial = ""
        self._save()

    def safe_mode(self) -> None:
        """Leave the system alone: it carries the agent."""

    def end(self, code: int, reason: str) -> NoReturn:
        """End the hook with an exit code and the reason for it."""
        sys.stderr.write(f"{self._name}: {reason}\n")
        sys.exit(code)

    def fail(self, reason: str) -> NoReturn:
        """End with a reason that people read."""
        self.end(1, reason)

    def _try(self, slot: str) -> NoReturn:
        record = self._record
        if record.trial == slot and record.boot != self._boot:
            self.fail(f"slot {slot} did not come up; the bootloader went back to slot {self._running}")
        self._backend.boot_next(slot)
        record.trial, record.boot = slot, self._boot
        self._save()
        self.end(RESTART, f"slot {slot} runs after a restart")

    def _find(self) -> str:
        """Return the release's slot; when nothing is written down of it, the installer may know that it runs."""
        if (
            not self._place
            and not self._record.releases
            and self._backend.holds(self._running, self._image())
        ):
            self._place = self._running
            self._record.releases[self._running] = self._release
            self._record.fingerprints[self._running] = self._backend.fingerprint(self._running)
            self._save()
        return self._place

    def _intact(self) -> bool:
        known = self._record.fingerprints.get(self._place, "")
        return not known or self._backend.fingerprint(self._place) == known

    def _image(self) -> Path:
        images = sorted(self._folder.glob(f"files/**/*{self._backend.suffix}"))
        if len(images) != 1:
            self.fail(
                f"the release has {len(images)} files named *{self._backend.suffix} in files/; it needs one"
            )
        return images[0]

    def _load(self) -> Record:
        try:
            record = Record(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Record()
        whole = isinstance(record.releases, dict) and isinstance(record.fingerprints, dict)
        return record if whole else Record()

    def _save(self) -> None:
        beside = self._path.with_suffix(".new")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(asdict(self._record), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def run(backend: Backend) -> None:
    """Run the verb of the command line and end."""
    verbs: dict[str, Callable[[Slots], None]] = {
        "probe": Slots.probe,
        "install": Slots.install,
        "activate": Slots.activate,
        "confirm": Slots.confirm,
        "rollback": Slots.rollback,
        "safe-mode": Slots.safe_mode,
    }
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb not in verbs:
        sys.exit(f"{backend.name}: {verb!r} is no verb; the verbs are {', '.join(verbs)}")
    try:
        verbs[verb](Slots(backend))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{backend.name}: {type(error).__name__}: {error}")


def tell(name: str, expected: str, found: str) -> None:
    """Tell of one difference, if the agent asks for them."""
    if items := os.environ.get("FLAGHOIST_ITEMS"):
        with Path(items).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "expected": expected, "found": found}) + "\n")


def ask(
    backend: Backend,
    command: list[str],
    *,
    cause: str = "",
    well: tuple[str, ...] = (),
    later: tuple[str, ...] = (),
) -> str:
    """Return what a program prints. One that fails ends the hook with its last line, or the first that has the word
    `cause`; to be tried again later where it said one of the words `later`. `well` is what it says, one of it, when all
    went well, whatever its exit code."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        sys.exit(f"{backend.name}: {command[0]} is not installed on this device")
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode and not any(word in said for word in well):
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        causes = [line for line in lines if cause in line] if cause else []
        reason = (causes[:1] or lines[-1:] or [f"{command[0]} ended with {done.returncode}"])[0]
        sys.stderr.write(f"{backend.name}: {reason}\n")
        sys.exit(LATER if any(word in said for word in later) else 1)
    return done.stdout
