"""The `systemd` hook against a systemctl that keeps account of units, and the real `systemd-analyze`.

No service manager runs in these tests: they show which units are linked, started and stopped, and in which order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / "firmware_hooks" / "systemd"
SYSTEMCTL = """#!{python} -IS
import json, os, pathlib, sys
fake = pathlib.Path(os.environ["FAKE"])
book = fake / "book"
known = json.loads(book.read_text()) if book.exists() else {{"links": {{}}, "active": []}}
arguments = [each for each in sys.argv[1:] if not each.startswith("--")]
verb, names = arguments[0], arguments[1:]
if (fake / "fail").exists() and (fake / "fail").read_text().split()[0] in (verb, "all"):
    sys.stderr.write("first\\n" + (fake / "fail").read_text().partition(" ")[2])
    sys.exit(1)
if verb == "show":
    name = names[0]
    if "FragmentPath" in sys.argv[2] + sys.argv[3]:
        system = fake / "system" / name
        print(known["links"].get(name, str(system) if system.exists() else ""))
    else:
        said = fake / ("state-" + name)
        active = "active" if name in known["active"] else "inactive"
        print(said.read_text() if said.exists() else "ActiveState=" + active + "\\nResult=success\\nType=simple")
    sys.exit(0)
with (fake / "calls").open("a") as calls:
    calls.write(" ".join([verb, *(pathlib.Path(name).name for name in names)]) + "\\n")
if verb == "link":
    known["links"].update({{pathlib.Path(name).name: name for name in names}})
elif verb == "restart":
    assert all(pathlib.Path(known["links"][name]).exists() for name in names)
    known["active"] = sorted({{*known["active"], *names}})
elif verb == "stop":
    known["active"] = [name for name in known["active"] if name not in names]
elif verb == "disable":
    for name in names:
        del known["links"][name]
book.write_text(json.dumps(known))
"""
WEB = """[Unit]
Description=Web of ${FLAGHOIST_ROLE}
[Service]
ExecStart=/bin/sleep 600
WorkingDirectory=${FLAGHOIST_RELEASE_DIR}
EnvironmentFile=-${FLAGHOIST_ENV_DIR}/web.env
ExecReload=/bin/kill -HUP $MAINPID
[Install]
WantedBy=multi-user.target
"""
HELPER = "[Service]\nType=oneshot\nExecStart=/bin/true ${NOT_OURS} ${FLAGHOIST_RELEASE_ID}\n"


class Bench:
    """Releases on a device, and a systemctl of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fake, self.run = root / "fake", root / "state" / "run"
        for folder in (self.fake / "system", self.run):
            folder.mkdir(parents=True)
        program = self.fake / "systemctl"
        program.write_text(SYSTEMCTL.format(python=sys.executable))
        program.chmod(0o755)
        self.folder = self.release("kiosk-8-b", {"kiosk-web.service": WEB, "kiosk-job.service": HELPER})

    def release(self, name: str, units: dict[str, str]) -> Path:
        folder = self.root / "state" / "releases" / name
        (folder / "files" / "systemd").mkdir(parents=True)
        for unit, text in units.items():
            (folder / "files" / "systemd" / unit).write_text(text)
        return folder

    def call(
        self,
        verb: str,
        folder: Path | None = None,
        previous: Path | None = None,
        path: str | None = None,
        items: Path | None = None,
    ) -> tuple[int, str]:
        folder = folder or self.folder
        environment = {
            "PATH": path or f"{self.fake}:{os.environ['PATH']}",
            "FAKE": str(self.fake),
            "FLAGHOIST_RELEASE_ID": folder.name,
            "FLAGHOIST_RELEASE_DIR": str(folder),
            "FLAGHOIST_PREVIOUS_DIR": str(previous) if previous else "",
            "FLAGHOIST_STATE_DIR": str(self.root / "state"),
            "FLAGHOIST_RUN_DIR": str(self.run),
            "FLAGHOIST_DEVICE_ID": "shop-12",
            "FLAGHOIST_ROLE": "kiosk",
            **({"FLAGHOIST_ITEMS": str(items)} if items else {}),
        }
        done = subprocess.run(
            [sys.executable, HOOK, verb],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.strip()

    def calls(self) -> list[str]:
        path = self.fake / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def book(self) -> tuple[list[str], list[str]]:
        """Return (linked, active)."""
        known = json.loads((self.fake / "book").read_text())
        return sorted(known["links"]), known["active"]

    def says(self, unit: str, active: str, result: str = "success", kind: str = "simple") -> None:
        text = f"ActiveState={active}\nResult={result}\nType={kind}\n"
        (self.fake / f"state-{unit}").write_text(text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_activate_links_all_units_and_starts_those_with_an_install_section(bench: Bench) -> None:
    assert bench.call("activate") == (0, "")
    assert bench.calls() == [
        "link kiosk-job.service kiosk-web.service",
        "daemon-reload",
        "restart kiosk-web.service",
    ]
    assert bench.call("probe") == (0, "")


def test_the_places_of_the_release_are_filled_in_and_nothing_else(bench: Bench) -> None:
    bench.call("activate")
    web = (bench.run / "systemd" / "kiosk-web.service").read_text()
    assert f"WorkingDirectory={bench.folder}\n" in web
    assert f"EnvironmentFile=-{bench.root}/state/rendered/kiosk-8-b/env/web.env\n" in web
    assert "Description=Web of kiosk\n" in web and "$MAINPID" in web
    job = (bench.run / "systemd" / "kiosk-job.service").read_text()
    assert "ExecStart=/bin/true ${NOT_OURS} kiosk-8-b\n" in job
    assert "${FLAGHOIST_ROLE}" in (bench.folder / "files/systemd/kiosk-web.service").read_text()


def test_activating_again_leaves_alone_what_runs_and_starts_what_does_not(bench: Bench) -> None:
    for _ in range(2):
        bench.call("activate")
    assert len(bench.calls()) == 3
    bench.says("kiosk-web.service", "failed", "exit-code")
    assert bench.call("activate") == (0, "")
    assert bench.calls()[3:] == bench.calls()[:3]


def test_what_the_release_before_had_more_is_stopped_and_unlinked(bench: Bench) -> None:
    bench.call("activate")
    newer = bench.release("kiosk-9-c", {"kiosk-front.service": WEB, "kiosk-job.service": HELPER})
    assert bench.call("activate", newer, bench.folder) == (0, "")
    assert bench.book() == (["kiosk-front.service", "kiosk-job.service"], ["kiosk-front.service"])
    assert not (bench.run / "systemd" / "kiosk-web.service").exists()
    assert bench.call("probe", newer) == (0, "")
    assert bench.call("probe") == (1, "systemd: kiosk-9-c runs instead")
    assert bench.call("rollback", newer, bench.folder) == (0, "")
    assert bench.book() == (["kiosk-job.service", "kiosk-web.service"], ["kiosk-web.service"])
    assert bench.call("probe") == (0, "")
    assert f"WorkingDirectory={bench.folder}\n" in (bench.run / "systemd" / "kiosk-web.service").read_text()


@pytest.mark.parametrize("verb", ["rollback", "safe-mode"])
def test_nothing_of_ours_is_left_when_there_is_nothing_to_run(bench: Bench, verb: str) -> None:
    bench.call("activate")
    for _ in range(2):
        assert bench.call(verb) == (0, "")
    assert bench.book() == ([], [])
    assert list((bench.run / "systemd").iterdir()) == []
    assert bench.call("probe") == (1, "systemd: nothing runs instead")


@pytest.mark.parametrize("verb", ["link", "daemon-reload", "restart"])
def test_a_start_that_was_cut_off_anywhere_is_finished_or_undone(bench: Bench, verb: str) -> None:
    bench.call("activate")
    newer = bench.release("kiosk-9-c", {"kiosk-front.service": WEB})
    (bench.fake / "fail").write_text(f"{verb} the disk is full\n")
    assert bench.call("activate", newer, bench.folder) == (1, "systemd: the disk is full")
    (bench.fake / "fail").unlink()
    assert bench.call("rollback", newer, bench.folder) == (0, "")
    assert bench.book() == (["kiosk-job.service", "kiosk-web.service"], ["kiosk-web.service"])
    assert bench.call("activate", newer, bench.folder) == (0, "")
    assert bench.book() == (["kiosk-front.service"], ["kiosk-front.service"])


def test_a_lost_record_leaves_no_unit_behind(bench: Bench) -> None:
    bench.call("activate")
    (bench.run / "systemd.json").write_bytes(bytes(40))
    newer = bench.release("kiosk-9-c", {"kiosk-front.service": WEB})
    assert bench.call("activate", newer) == (0, "")
    assert bench.book() == (["kiosk-front.service"], ["kiosk-front.service"])


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        pytest.param(("active", "success", "simple"), (0, ""), id="runs"),
        pytest.param(("failed", "exit-code", "simple"), (1, "is failed (exit-code)"), id="failed"),
        pytest.param(("inactive", "success", "simple"), (1, "is inactive (success)"), id="ended"),
        pytest.param(("inactive", "success", "oneshot"), (0, ""), id="a one-shot that ended well"),
        pytest.param(("failed", "exit-code", "oneshot"), (1, "is failed"), id="a one-shot that failed"),
        pytest.param(("activating", "success", "notify"), (75, "is activating"), id="not up yet"),
    ],
)
def test_what_the_manager_says_of_a_unit(
    bench: Bench, state: tuple[str, str, str], answer: tuple[int, str]
) -> None:
    bench.call("activate")
    bench.says("kiosk-web.service", *state)
    code, reason = bench.call("probe")
    assert code == answer[0] and answer[1] in reason


@pytest.mark.parametrize("verb", ["install", "activate"])
def test_a_unit_of_the_system_is_not_stood_in_for(bench: Bench, verb: str) -> None:
    (bench.fake / "system" / "kiosk-web.service").touch()
    code, reason = bench.call(verb)
    assert code == 1 and "kiosk-web.service is a unit of this system" in reason
    assert bench.calls() == []


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        pytest.param({}, "no unit with an [Install] section", id="no units"),
        pytest.param({"a.service": HELPER}, "no unit with an [Install] section", id="nothing to start"),
        pytest.param({"a.mount": WEB}, "not the name of a service", id="a kind that is not run"),
        pytest.param({"-.service": WEB}, "not the name of a service", id="a name that is an option"),
    ],
)
def test_a_release_that_cannot_be_run_is_refused(bench: Bench, units: dict[str, str], reason: str) -> None:
    code, said = bench.call("install", bench.release("kiosk-9-c", units))
    assert code == 1 and reason in said


def test_install_lets_systemd_read_the_units_and_changes_nothing(bench: Bench) -> None:
    """With the real systemd-analyze, which needs no running manager."""
    assert shutil.which("systemd-analyze"), "Debian's package systemd has it"
    assert bench.call("install") == (0, "")
    wrong = WEB.replace("/bin/sleep", "/nowhere/sleep")
    code, reason = bench.call("install", bench.release("kiosk-9-c", {"kiosk-web.service": wrong}))
    assert code == 1 and "/nowhere/sleep is not executable" in reason
    assert bench.calls() == []


@pytest.mark.parametrize(
    "words",
    ["System has not been booted with systemd as init system (PID 1).", "Failed to connect to bus: No"],
)
def test_a_manager_that_does_not_listen_yet_is_tried_later(bench: Bench, words: str) -> None:
    (bench.fake / "fail").write_text(f"all {words}\n")
    code, reason = bench.call("activate")
    assert (code, reason) == (75, f"systemd: {words}")


def test_a_device_without_systemd_says_so(bench: Bench, tmp_path: Path) -> None:
    assert bench.call("activate", path=str(tmp_path / "none")) == (
        1,
        "systemd: systemctl is not installed on this device",
    )


def test_a_place_that_units_cannot_name_is_refused(tmp_path: Path) -> None:
    code, reason = Bench(tmp_path / "my devices").call("install")
    assert code == 1 and "has a space in it" in reason


def test_another_verb_is_named(bench: Bench) -> None:
    code, reason = bench.call("explode")
    assert code == 1 and "'explode' is no verb" in reason


def told(bench: Bench) -> list[tuple[str, str, str]]:
    """Return what the hook tells of units when it is asked."""
    items = bench.root / "items"
    items.unlink(missing_ok=True)
    bench.call("probe", items=items)
    lines = items.read_text().splitlines() if items.exists() else []
    return [tuple(json.loads(line).values()) for line in lines]


def test_it_has_nothing_to_tell_of_units_that_are_as_released(bench: Bench) -> None:
    bench.call("activate")
    assert told(bench) == []


def test_it_tells_of_a_unit_that_does_not_run(bench: Bench) -> None:
    bench.call("activate")
    bench.says("kiosk-web.service", "failed", "exit-code")
    assert told(bench) == [("kiosk-web.service", "active", "failed (exit-code)")]


def test_it_tells_of_a_unit_that_runs_otherwise_than_released(bench: Bench) -> None:
    """Another ExecStart, whether it was written into the unit's file, beside it, or instead of it."""
    bench.call("activate")
    text = bench.run / "systemd" / "kiosk-web.service"
    text.write_text(text.read_text().replace("/bin/sleep 600", "/bin/sleep 6"))
    assert told(bench) == [("kiosk-web.service", "as released", "another unit file")]
    text.unlink()
    assert told(bench) == [("kiosk-web.service", "as released", "no unit file")]
    bench.call("activate", bench.release("kiosk-9-c", {"kiosk-web.service": WEB}))
    bench.call("activate")
    known = "ActiveState=active\nResult=success\nType=simple\n"
    dropped = "/etc/systemd/system/kiosk-web.service.d/override.conf"
    (bench.fake / "state-kiosk-web.service").write_text(
        f"{known}DropInPaths={dropped}\nNeedDaemonReload=no\n"
    )
    assert told(bench) == [("kiosk-web.service", "no drop-in", dropped)]
    (bench.fake / "state-kiosk-web.service").write_text(f"{known}DropInPaths=\nNeedDaemonReload=yes\n")
    assert told(bench) == [("kiosk-web.service", "loaded as it is", "changed since it was loaded")]


def test_it_tells_of_units_that_are_not_linked_or_not_released(bench: Bench) -> None:
    before = bench.release("kiosk-7-a", {"kiosk-old.service": WEB})
    bench.call("activate", before)
    assert told(bench) == [
        ("kiosk-job.service", "linked", "not loaded"),
        ("kiosk-web.service", "linked", "not loaded"),
        ("kiosk-old.service", "not released", "linked"),
    ]
