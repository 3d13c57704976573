"""`confirm-boot`: a boot counts as good only when the agent is up and the committed release runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edge import resident
from edge.identity import identity
from edge.main import main
from edge.storage import records, state
from tests.edge.world import Box, build


@pytest.fixture
def device(box: Box) -> Iterator[Box]:
    """A device with a release committed, and the lock that its agent would hold."""
    identity.write(
        box.paths,
        box.device,
        seed=bytes(box.key),
        certificate_pem="",
        ca_pem="",
        unique=identity.unique(),
    )
    box.offer(build(7))
    lock = resident.hold(box.paths.root / "lock")
    yield box
    os.close(lock)


def confirm(box: Box, *options: str) -> int:
    where = ("--state", str(box.paths.root), "--hooks", str(box.paths.hooks))
    return main(["confirm-boot", *where, "--seconds", "0", *options])


def confirms(box: Box) -> int:
    return sum(call.startswith("confirm ") for call in box.calls())


def test_a_release_that_runs_is_confirmed_by_its_hook(
    device: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    before = confirms(device)
    assert confirm(device) == 0
    assert confirms(device) == before + 1
    assert "runs; this boot is confirmed" in capsys.readouterr().out


def test_a_device_with_nothing_installed_boots_well(device: Box) -> None:
    state.save(device.paths, records.changed(device.state, running=None, update=None))
    assert confirm(device) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"safe_mode": "own-1-1"}, "safe mode", id="safe mode"),
        pytest.param({"update": "probation"}, "is probation", id="an update that is not proven yet"),
    ],
)
def test_a_boot_that_is_not_good_is_not_confirmed(
    device: Box, change: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held, before = device.state, confirms(device)
    if "update" in change:
        changed = records.changed(held, update=records.changed(held.update, state=change["update"]))  # type: ignore[type-var]
    else:
        changed = records.changed(held, **change)
    state.save(device.paths, changed)
    assert confirm(device) == 1
    assert said in capsys.readouterr().err
    assert confirms(device) == before


def test_a_service_that_does_not_run_is_not_confirmed(
    device: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    before = confirms(device)
    (device.paths.root / "fail-probe").touch()
    assert confirm(device) == 1
    assert "this device cannot probe" in capsys.readouterr().err
    assert confirms(device) == before


def test_a_hook_that_cannot_confirm_fails_the_boot(device: Box, capsys: pytest.CaptureFixture[str]) -> None:
    (device.paths.root / "fail-confirm").touch()
    assert confirm(device) == 1
    assert "this device cannot confirm" in capsys.readouterr().err


def test_without_an_agent_only_a_device_that_sleeps_is_confirmed(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.write(
        box.paths,
        box.device,
        seed=bytes(box.key),
        certificate_pem="",
        ca_pem="",
        unique=identity.unique(),
    )
    box.offer(build(7))
    assert confirm(box) == 1
    assert "no agent works in" in capsys.readouterr().err
    assert confirm(box, "--no-agent") == 0
