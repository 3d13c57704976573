"""One emulated machine: started, listened to on its console, and cut from its power."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
# Without KVM: nested virtualisation hangs on some machines, and minutes are bearable here.
EMULATION: Final = ("-accel", "tcg,thread=multi", "-cpu", "max", "-nographic", "-no-reboot")
APPEND: Final = (
    "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no net.ifnames=0 mitigations=off "
    # A machine that is emulated beside other work may be slower than any time that systemd gives by default.
    "systemd.default_timeout_start_sec=1h"
)


class SilentError(Exception):
    """The machine did not say in time what was waited for, or ended before."""


class Machine:
    """A machine that boots the kernel of `base` from `disks`, the first of which is its root; its console goes to `log`
    as well."""

    def __init__(
        self,
        base: Path,
        disks: Sequence[str],
        log: Path,
        *,
        memory: int,
        network: bool = False,
        append: str = "",
    ) -> None:
        # Polite: whatever else this machine does comes first.
        command: list[str | Path] = ["nice", "-n", "10", "qemu-system-x86_64", *EMULATION]
        command += [
            "-m",
            str(memory),
            "-smp",
            "1",
            "-nic",
            "user,model=virtio-net-pci" if network else "none",
        ]
        command += ["-kernel", base / "kernel", "-initrd", base / "initrd", "-append", f"{APPEND} {append}"]
        for disk in disks:
            command += ["-drive", f"{disk},if=virtio"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._log = log
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        """Every line of the console until now."""
        with self._news:
            return list(self._lines)

    def wait(self, what: str, seen: Callable[[list[str]], T | None], seconds: float) -> T:
        """Return what `seen` finds in the console's lines, None being nothing yet. Raises `SilentError`."""
        end = time.monotonic() + seconds
        with self._news:
            while (found := seen(self._lines)) is None:
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    why = "the machine ended" if self._ended else f"{seconds:g} s passed"
                    raise SilentError(f"{why} before {what}; its console is in {self._log}")
                self._news.wait(left)
            return found

    def cut(self) -> None:
        """Cut the power: the emulator is killed, whatever the machine was at."""
        self.process.kill()
        self._reap()

    def wait_for_poweroff(self, seconds: float) -> None:
        """Wait until the machine has switched itself off. Raises `SilentError`, and cuts the power then."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.cut()
            raise SilentError(
                f"the machine was still on after {seconds:g} s; its console is in {self._log}"
            ) from None
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._log.open("a") as log:
            for raw in self.process.stdout:
                line = raw.decode(errors="replace").strip("\r\n")
                log.write(line + "\n")
                log.flush()
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
