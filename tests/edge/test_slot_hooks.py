"""The hooks `rauc` and `swupdate`: what an image of a system goes through, one table for fakes and real installers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.machines import (
    LATER,
    NEW,
    OLD,
    RESTART,
    FakeRauc,
    FakeSwupdate,
    Machine,
    RealRauc,
    RealSwupdate,
)
from tests.edge.test_restart import PowerOffError
from tests.edge.world import Box, Built, Source, build


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not installed here: {', '.join(missing)}; .ci/setup all"
    )


MOUNTS = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(),
    reason="RAUC mounts bundles: that takes root and loop devices",
)


MACHINES = [
    pytest.param(FakeRauc, id="rauc"),
    pytest.param(
        RealRauc,
        id="real rauc",
        marks=[pytest.mark.heavy, needs("rauc", "dbus-daemon", "openssl"), MOUNTS],
    ),
    pytest.param(
        RealSwupdate, id="real swupdate", marks=[pytest.mark.heavy, needs("swupdate", "cpio", "openssl")]
    ),
]


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    made: Machine = request.param(tmp_path)
    made.release(OLD, b"old system")
    made.release(NEW, b"new system")
    yield made
    made.close()


def runs(machine: Machine, release: str) -> None:
    """Bring a release to run for good."""
    assert machine.call("install", release)[0] == 0
    assert machine.call("activate", release)[0] == RESTART
    machine.switch_on()
    assert machine.call("probe", release) == (0, "")
    assert machine.call("confirm", release) == (0, "")


def test_a_release_goes_to_the_slot_that_does_not_run_and_runs_after_a_restart(machine: Machine) -> None:
    assert machine.call("install") == (0, "")
    assert (machine.holds("A"), machine.holds("B")) == (b"factory", b"new system")
    assert machine.told() == "A", "what boots next stays as it was"
    b = machine.slots["B"]
    assert machine.call("activate") == (RESTART, f"{machine.hook}: slot {b} runs after a restart")
    assert machine.call("probe") == (
        LATER,
        f"{machine.hook}: slot {b} runs after the restart that is to come",
    )
    machine.switch_on()
    assert machine.running == "B"
    assert machine.call("activate") == (0, "")
    assert machine.call("probe") == (0, "")
    assert machine.call("confirm") == (0, "")
    assert machine.good() == "B"


def test_a_bootloader_that_went_back_is_noticed_and_not_tried_again(machine: Machine) -> None:
    """R2: nothing but the running slot says that an update came through."""
    machine.call("install")
    machine.call("activate")
    machine.switch_on(into="A")
    a, b = machine.slots["A"], machine.slots["B"]
    items = machine.root / "items"
    reason = f"{machine.hook}: slot {a} runs with another system, not {NEW}"
    assert machine.call("probe", FLAGHOIST_ITEMS=str(items)) == (1, reason)
    assert json.loads(items.read_text()) == {
        "name": "system",
        "expected": f"{NEW} in slot {b}",
        "found": f"another system in slot {a}",
    }
    assert machine.call("activate") == (
        1,
        f"{machine.hook}: slot {b} did not come up; the bootloader went back to slot {a}",
    )
    assert machine.call("confirm")[0] == 1
    assert machine.call("rollback") == (0, "")
    assert (machine.told(), machine.good()) == ("A", "A")
    machine.switch_on()
    assert machine.running == "A"


def test_after_a_rollback_the_release_may_be_tried_once_more(machine: Machine) -> None:
    machine.call("install")
    machine.call("activate")
    machine.switch_on(into="A")
    machine.call("rollback")
    runs(machine, NEW)


def test_the_way_back_from_the_new_slot_takes_a_restart(machine: Machine) -> None:
    runs(machine, OLD)
    machine.call("install")
    machine.call("activate")
    machine.switch_on()
    b = machine.slots["B"]
    assert machine.call("rollback") == (RESTART, f"{machine.hook}: slot {b} runs after a restart")
    assert machine.call("rollback")[0] == RESTART, "as long as that restart is to come"
    machine.switch_on()
    assert machine.call("rollback") == (0, "")
    assert machine.call("probe", OLD) == (0, "")
    assert machine.holds("B") == b"old system"


def test_a_system_that_is_activated_once_more_stays(machine: Machine) -> None:
    """The way back was told to the bootloader already, and then it was not wanted after all."""
    machine.call("install")
    machine.call("activate")
    machine.switch_on()
    assert machine.call("rollback")[0] == RESTART
    assert machine.told() == "A"
    assert machine.call("activate") == (0, "")
    machine.switch_on()
    assert machine.running == "B"


def test_a_way_back_that_ends_in_the_same_slot_fails(machine: Machine) -> None:
    machine.call("install")
    machine.call("activate")
    machine.switch_on()
    machine.call("rollback")
    machine.switch_on(into="B")
    code, reason = machine.call("rollback")
    assert code == 1
    assert reason.endswith(
        f"slot {machine.slots['A']} did not come up; the bootloader went back to slot {machine.slots['B']}"
    )


def test_an_image_is_written_once(machine: Machine) -> None:
    machine.call("install")
    machine.release(NEW, b"other bytes")
    assert machine.call("install") == (0, "")
    assert machine.holds("B") == b"new system"


def test_an_image_that_was_not_written_whole_is_written_again(machine: Machine) -> None:
    machine.spoil()
    code, reason = machine.call("install")
    assert code == 1 and reason.startswith(f"{machine.hook}: ")
    code, reason = machine.call("activate")
    assert code == 1 and f"{NEW} is in no slot" in reason
    machine.mend()
    machine.release(NEW, b"new system again")
    runs(machine, NEW)
    assert machine.holds("B") == b"new system again"


def test_the_slot_that_runs_is_never_written_to(machine: Machine) -> None:
    """Also after the bootloader went back: then it is the other one that gets the next release."""
    runs(machine, OLD)
    machine.call("install")
    machine.call("activate")
    machine.switch_on(into="B")
    machine.call("rollback")
    machine.release("kiosk-9-c", b"third system")
    runs(machine, "kiosk-9-c")
    assert (machine.holds("A"), machine.holds("B")) == (b"third system", b"old system")


def test_the_release_before_runs_again_without_being_written(machine: Machine) -> None:
    """A rollback that the hub orders is an update to the release before: it stands in the other slot."""
    runs(machine, OLD)
    runs(machine, NEW)
    machine.release(OLD, b"other bytes")
    runs(machine, OLD)
    assert (machine.holds("A"), machine.holds("B")) == (b"new system", b"old system")


def test_a_committed_release_that_is_ordered_anew_is_booted_anew(machine: Machine) -> None:
    runs(machine, NEW)
    assert machine.call("rollback") == (0, "")
    assert machine.call("probe") == (0, ""), "there is nothing to stop"
    machine.switch_on(into="A")
    assert machine.call("activate")[0] == RESTART
    machine.switch_on(into="A")
    assert machine.call("activate")[0] == 1, "one that does not come up is not booted for ever"
    machine.call("rollback")
    assert machine.call("activate")[0] == RESTART
    machine.switch_on()
    assert machine.call("probe") == (0, "")


def test_a_slot_half_written_that_runs_nevertheless_is_not_believed(machine: Machine) -> None:
    machine.spoil()
    machine.call("install")
    machine.switch_on(into="B")
    code, reason = machine.call("install")
    assert code == 1
    assert f"slot {machine.slots['B']} runs and does not hold the whole image of {NEW}" in reason
    assert machine.call("rollback")[0] == RESTART
    machine.switch_on()
    assert (machine.running, machine.call("rollback")) == ("A", (0, ""))


@pytest.mark.parametrize("number", [0, 2])
def test_a_release_has_one_image(machine: Machine, number: int) -> None:
    folder = machine.root / "state" / "releases" / NEW / "files"
    if number:
        (folder / "more").mkdir()
        machine.image(b"more", folder / "more" / f"other{machine.suffix}")
    else:
        (folder / f"system{machine.suffix}").unlink()
    code, reason = machine.call("install")
    assert code == 1
    assert f"the release has {number} files named *{machine.suffix} in files/; it needs one" in reason
    assert machine.holds("B") == b"factory"


def test_safe_mode_leaves_the_system_alone(machine: Machine) -> None:
    runs(machine, NEW)
    assert machine.call("safe-mode") == (0, "")
    assert (machine.told(), machine.holds("B")) == ("B", b"new system")


def test_an_unknown_verb_is_refused(machine: Machine) -> None:
    code, reason = machine.call("explode")
    assert code == 1 and "'explode' is no verb" in reason


@pytest.fixture
def rauc(tmp_path: Path) -> FakeRauc:
    made = FakeRauc(tmp_path)
    made.release(NEW, b"new system")
    return made


INSTALLERS_SAY = [
    pytest.param(FakeRauc, "rauc: LastError: no space left", id="rauc"),
    pytest.param(
        FakeSwupdate, "swupdate: [ERROR] : SWUPDATE failed [0] ERROR : no space left", id="swupdate"
    ),
]


@pytest.mark.parametrize(("kind", "reason"), INSTALLERS_SAY)
def test_the_reason_is_the_cause_that_the_installer_names(
    tmp_path: Path, kind: type[Machine], reason: str
) -> None:
    machine = kind(tmp_path)
    machine.release(NEW, b"new system")
    machine.spoil()
    assert machine.call("install") == (1, reason)


def test_rauc_an_image_that_somebody_else_wrote_is_noticed(rauc: FakeRauc) -> None:
    runs(rauc, NEW)
    (rauc.fake / "sum-B").write_text("0" * 64)
    items = rauc.root / "items"
    reason = f"rauc: slot rootfs.1 holds another image than the one of {NEW}"
    assert rauc.call("probe", FLAGHOIST_ITEMS=str(items)) == (1, reason)
    told = json.loads(items.read_text())
    assert (told["name"], told["found"]) == ("slot rootfs.1", "0" * 64)
    assert told["expected"] == hashlib.sha256(b"new system").hexdigest()


def test_rauc_a_lost_record_is_made_anew_from_what_rauc_knows(rauc: FakeRauc) -> None:
    runs(rauc, NEW)
    (rauc.run / "rauc.json").write_bytes(b"\0" * 40)
    assert rauc.call("install") == (0, "")
    assert rauc.holds("A") == b"factory", "what runs already is not written once more"
    (rauc.run / "rauc.json").write_text('{"releases": null}')
    assert rauc.call("probe") == (0, "")
    rauc.switch_on(into="A")
    assert rauc.call("probe")[0] == 1


def test_rauc_an_installation_that_also_activated_is_taken_as_it_is(rauc: FakeRauc) -> None:
    """Without `activate-installed=false` a power cut after RAUC's end comes up with the new slot."""
    rauc.call("install")
    record = json.loads((rauc.run / "rauc.json").read_text())
    (rauc.run / "rauc.json").write_text(json.dumps(record | {"partly": "rootfs.1", "fingerprints": {}}))
    rauc.switch_on(into="B")
    assert rauc.call("install") == (0, "")
    assert len(rauc.calls("rauc install")) == 1, "the slot that runs is not written to"
    assert rauc.call("activate") == (0, "")
    assert rauc.call("probe") == (0, "")


@pytest.mark.parametrize("verb", ["probe", "install", "activate", "confirm", "rollback"])
def test_rauc_a_service_that_is_not_up_yet_is_tried_later(rauc: FakeRauc, verb: str) -> None:
    (rauc.fake / "away").touch()
    code, reason = rauc.call(verb)
    assert code == LATER and "Could not connect" in reason


@pytest.fixture
def swupdate(tmp_path: Path) -> FakeSwupdate:
    made = FakeSwupdate(tmp_path)
    made.release(NEW, b"new system")
    return made


def test_swupdate_all_the_way_forth_and_back(swupdate: FakeSwupdate) -> None:
    runs(swupdate, NEW)
    assert (swupdate.holds("A"), swupdate.holds("B"), swupdate.good()) == (b"factory", b"new system", "B")
    swupdate.release("kiosk-9-c", b"third system")
    swupdate.call("install", "kiosk-9-c")
    swupdate.call("activate", "kiosk-9-c")
    swupdate.switch_on(into="B")
    assert swupdate.call("probe", "kiosk-9-c") == (1, f"swupdate: slot B runs with {NEW}, not kiosk-9-c")
    assert swupdate.call("rollback", "kiosk-9-c") == (0, "")
    assert swupdate.good() == "B"


def test_swupdate_the_variable_that_decides_is_set_last(swupdate: FakeSwupdate) -> None:
    swupdate.call("install")
    swupdate.call("activate")
    assert swupdate.calls("fw_setenv") == [
        "fw_setenv bootcount 0",
        "fw_setenv upgrade_available 1",
        "fw_setenv slot B",
    ]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("[INFO ] : SWUPDATE successful ! SWUPDATE successful !", id="by itself"),
        pytest.param("SWUpdate was successful !", id="its client"),
    ],
)
def test_swupdate_an_installation_that_went_well_is_believed_whatever_the_exit_code(
    swupdate: FakeSwupdate, words: str
) -> None:
    """As SWUpdate 2022.12 ended in 6 of 40 runs by itself, its client in 1 of 8, the image written and checked."""
    text = (swupdate.fake / "swupdate").read_text()
    swupdate.program("swupdate", text + f"echo '{words}'\nexit 1\n")
    runs(swupdate, NEW)


def test_swupdate_a_service_that_takes_no_request_is_tried_later(
    swupdate: FakeSwupdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    swupdate.program("swupdate-client", "#!/bin/sh\necho 'swupdate_async_start returns -1' >&2\nexit 1\n")
    given = {**swupdate.variables(), "SWUPDATE_INSTALL": "swupdate-client -e stable,copy{slot} {image}"}
    monkeypatch.setattr(swupdate, "variables", lambda: given)
    assert swupdate.call("install") == (LATER, "swupdate: swupdate_async_start returns -1")


def test_swupdate_grub_has_its_variables_in_a_block(
    swupdate: FakeSwupdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    swupdate.program("grub-editenv", '#!/bin/sh\necho "$*" >> "$FAKE/calls"\n')
    given = {
        **swupdate.variables(),
        "SWUPDATE_BOOTLOADER": "grub",
        "SWUPDATE_GRUBENV": "/boot/efi/grubenv",
        "SWUPDATE_SLOT_VARIABLE": "copy",
    }
    monkeypatch.setattr(swupdate, "variables", lambda: given)
    swupdate.call("install")
    swupdate.call("activate")
    assert swupdate.calls("grubenv")[-1] == "/boot/efi/grubenv set copy=B"


CONFIGURATIONS = [
    pytest.param("", "has to name two copies", id="none"),
    pytest.param("A=/dev/a", "has to name two copies", id="one"),
    pytest.param("A=/dev/a B=", "has to name two copies", id="without a device"),
    pytest.param("A=/dev/a B=/dev/b C=/dev/c", "has to name two copies", id="three"),
    pytest.param("A=/dev/a B=/dev/b", "which SWUPDATE_SLOTS does not name", id="another root"),
]


@pytest.mark.parametrize(("named", "reason"), CONFIGURATIONS)
def test_swupdate_has_to_know_the_copies(
    swupdate: FakeSwupdate, named: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swupdate, "variables", lambda: {"SWUPDATE_SLOTS": named})
    code, said = swupdate.call("probe")
    assert code == 1 and reason in said


class Device(Box):
    """An agent on a machine of the table, with the hook as it is shipped."""

    def __init__(self, root: Path, source: Source, machine: Machine) -> None:
        super().__init__(root, source)
        self.machine = machine
        for path in machine.hooks.iterdir():
            shutil.copy(path, self.paths.hooks / path.name)
        given = {"FAKE": str(machine.fake), **machine.variables()}
        (self.paths.root / "device.env").write_text(
            "".join(f"{name}={value}\n" for name, value in given.items())
        )
        self.restart = self.power_off

    def power_off(self) -> str:
        raise PowerOffError

    def release(self, sequence: int, data: bytes, check: bytes = b"#!/bin/sh\n") -> Built:
        image = self.root / "image"
        self.machine.image(data, image)
        files = {f"files/system{self.machine.suffix}": image.read_bytes(), "validate/check": check}
        return build(sequence, files, hook=self.machine.hook)

    def switch_on(self, into: str | None = None) -> None:
        self.machine.switch_on(into)
        self.boot = f"boot-{self.machine.boots}"
        self.start()
        with contextlib.suppress(PowerOffError):
            self.online()

    def take(self, built: Built) -> None:
        """Let a release arrive, up to the restart that it needs."""
        with pytest.raises(PowerOffError):
            self.offer(built)


@pytest.fixture
def device(
    machine: Machine, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Device]:
    monkeypatch.setenv("PATH", f"{machine.fake}:{os.environ['PATH']}")
    made = Device(tmp_path / "device", source, machine)
    yield made
    made.close()


def test_an_agent_with_this_hook_tells_of_success_after_the_restart(device: Device) -> None:
    built = device.release(7, b"new system")
    device.take(built)
    assert device.results() == [("downloading", built.id)]
    device.switch_on()
    assert device.results() == [("downloading", built.id), ("committed", built.id)]
    assert (device.machine.good(), device.status.health) == ("B", "ok")


def test_an_agent_with_this_hook_tells_of_a_fall_back(device: Device) -> None:
    """R2, from the agent down to the bootloader."""
    old, new = device.release(7, b"old system"), device.release(8, b"new system")
    device.take(old)
    device.switch_on()
    device.take(new)
    device.switch_on(into="B")
    assert device.results()[2:] == [("downloading", new.id), ("rolled_back", new.id)]
    update = device.state.update
    assert update is not None
    slot = device.machine.slots["B"]
    assert update.reason == f"probe: {device.machine.hook}: slot {slot} runs with {old.id}, not {new.id}"
    assert (device.state.running_id, device.status.health) == (old.id, "ok")
    device.switch_on()
    assert (device.machine.running, device.machine.good()) == ("B", "B")


def test_an_agent_with_this_hook_goes_back_by_a_restart(device: Device) -> None:
    old = device.release(7, b"old system")
    bad = device.release(8, b"new system", check=b"#!/bin/sh\necho not well >&2\nexit 1\n")
    device.take(old)
    device.switch_on()
    device.take(bad)
    device.switch_on()
    assert ("rolled_back", bad.id) not in device.results(), "the new system still runs"
    device.switch_on()
    assert device.results()[-1] == ("rolled_back", bad.id)
    assert (device.machine.running, device.state.running_id) == ("B", old.id)
