"""The hook `swupdate` where SWUpdate is a service, with the real programs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.edge.machines import LATER, NEW, OLD, RealSwupdateService
from tests.edge.test_slot_hooks import needs, runs


@pytest.mark.heavy
@needs("swupdate", "swupdate-client", "cpio", "openssl")
def test_swupdate_through_its_service_forth_back_and_not_written_whole(tmp_path: Path) -> None:
    """The rest of the table asks nothing of SWUpdate that would differ by who asks it."""
    with contextlib.closing(RealSwupdateService(tmp_path)) as machine:
        for name, data in ((OLD, b"old system"), (NEW, b"new system")):
            machine.release(name, data)
        runs(machine, OLD)
        runs(machine, NEW)
        assert (machine.holds("A"), machine.holds("B")) == (b"new system", b"old system")
        machine.release("kiosk-9-c", b"third system")
        machine.spoil()
        code, reason = machine.call("install", "kiosk-9-c")
        assert code == 1 and reason.startswith("swupdate: "), reason
        machine.mend()
        assert machine.service is not None
        machine.service.kill()
        machine.service.wait()
        assert machine.call("install", "kiosk-9-c")[0] == LATER
        machine.switch_on()
        runs(machine, "kiosk-9-c")
        assert machine.holds("B") == b"third system"
