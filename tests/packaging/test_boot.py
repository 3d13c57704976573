"""The units on a machine that systemd really runs: a Debian 12 in QEMU, with hub, agent and released services."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.lab import debian
from tests.lab.machine import Machine

SCRIPTS = debian.GUEST / "boot"
BOOTS = (("units", "sandbox", "release", "restarts", "safemode", "rounds"), ("again",))
"""The parts of each boot of the machine, as start.sh runs them."""

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        "FLAGHOIST_BOOT" not in os.environ, reason="boots a machine for minutes: run make boot"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian to boot"),
    pytest.mark.skipif(bool(debian.missing()), reason=f"programs are missing: {debian.missing()}"),
]


def promised(parts: tuple[str, ...]) -> list[str]:
    text = "".join((SCRIPTS / f"{part}.sh").read_text() for part in parts)
    return [f"OK {name}" for name in re.findall(r"^ok '([^']*)'", text, re.M)]


@pytest.mark.timeout(7200)
def test_the_units_do_on_a_booted_machine_what_they_promise(tmp_path: Path) -> None:
    try:
        base, payload = debian.base(), debian.payload(tmp_path, "boot")
    except debian.CannotBuildError as error:
        pytest.skip(str(error))
    disk, log = tmp_path / "disk", tmp_path / "console"
    debian.overlay(base / "disk", "raw", disk)
    for parts in BOOTS:
        machine = Machine(
            base,
            [f"file={disk},format=qcow2", f"file={payload},format=raw,snapshot=on"],
            log,
            memory=1500,
        )
        machine.wait_for_poweroff(3000)
        print("\n".join(machine.lines))
        told = [line for line in machine.lines if re.match("(?:OK|NOT) ", line)]
        assert told == promised(parts)
        assert len(told) > 4
