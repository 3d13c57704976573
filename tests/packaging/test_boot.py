"""The units on a machine that systemd really runs: a Debian 12 in QEMU, with hub, agent and a released service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("boot.sh")
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,initramfs-tools,linux-image-amd64,python3,mosquitto,util-linux,curl,iproute2,"
    "git,ca-certificates,procps"
)
LAB = """[Unit]
After=multi-user.target
[Service]
ExecStartPre=/bin/mount -o ro /dev/sdb /opt
ExecStart=/bin/bash /opt/boot.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "debootstrap": "debootstrap", "mke2fs": "e2fsprogs"}

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        "FLAGHOIST_BOOT" not in os.environ, reason="boots a machine for minutes: run make boot"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian to boot"),
    *(
        pytest.mark.skipif(
            shutil.which(program) is None, reason=f"{program} is missing (apt install {package})"
        )
        for program, package in PROGRAMS.items()
    ),
]


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def debian(cache: Path) -> Path:
    """Return the folder with `disk`, `kernel` and `initrd` of a Debian 12; debootstrap makes it once."""
    folder = cache / "flaghoist" / "debian-12"
    if (folder / "done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", tree],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if made.returncode:
        last = (made.stdout.strip() or "it said nothing").splitlines()[-1]
        pytest.skip(f"debootstrap cannot make a Debian here: {last}")
    units = tree / "etc/systemd/system"
    (units / "lab.service").write_text(LAB)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/lab.service").symlink_to("../lab.service")
    # A getty on the console waits 90 s for a device; Debian's own Mosquitto is not the hub's.
    for name in ("serial-getty@ttyS0.service", "mosquitto.service"):
        (units / name).symlink_to("/dev/null")
    for name, found in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        (path,) = (tree / "boot").glob(found)
        shutil.copy(path, folder / name)
    image(folder / "disk", tree, "2500M")
    shutil.rmtree(tree)
    (folder / "done").touch()
    return folder


def image(path: Path, tree: Path, size: str) -> None:
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, path, size)


def payload(folder: Path) -> Path:
    """Return a disk with the commands, the units, the example and the script."""
    tree = folder / "opt"
    environment = tree / "flaghoist"
    python = environment / "bin" / "python"
    tree.mkdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ".", cwd=ROOT)
    (wheel,) = (folder / "wheels").iterdir()
    # Debian's Python, since links to it lead to the same place on the machine.
    run("/usr/bin/python3", "-m", "venv", "--without-pip", environment)
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(
        *pip,
        "--python",
        python,
        "install",
        "--no-compile",
        *constraints,
        f"flaghoist[hub,edge] @ file://{wheel}",
    )
    for command in (environment / "bin").glob("flaghoist*"):
        command.write_text(re.sub(r"^#!.*", "#!/opt/flaghoist/bin/python", command.read_text()))
    shutil.copytree(ROOT / "systemd", tree / "systemd")
    shutil.copytree(ROOT / "docs" / "examples" / "fleet-repo", tree / "example")
    shutil.copy(SCRIPT, tree)
    image(folder / "payload", tree, "400M")
    return folder / "payload"


@pytest.mark.timeout(1800)
def test_the_units_do_on_a_booted_machine_what_they_promise(tmp_path: Path) -> None:
    base = debian(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")))
    disks = [f"file={path},format=raw,if=ide,snapshot=on" for path in (base / "disk", payload(tmp_path))]
    done = subprocess.run(
        [
            # Without KVM: nested virtualisation hangs on some machines, and minutes are bearable here.
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1500", "-smp", "2"),
            *(
                "-nographic",
                "-no-reboot",
                "-nic",
                "none",
                "-kernel",
                base / "kernel",
                "-initrd",
                base / "initrd",
            ),
            *("-append", "root=/dev/sda rw console=ttyS0 quiet systemd.show_status=no"),
            *(word for disk in disks for word in ("-drive", disk)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )
    print(done.stdout, done.stderr)
    promised = re.findall(r"^ok '([^']*)'", SCRIPT.read_text(), re.M)
    assert len(promised) > 15
    assert re.findall(r"^(?:OK|NOT) .*", done.stdout.replace("\r", ""), re.M) == [
        f"OK {name}" for name in promised
    ]
