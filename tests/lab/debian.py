"""Disks to boot from, made once and kept in `build/lab/`, which git ignores."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / "build" / "lab"
GUEST: Final = Path(__file__).with_name("guest")
PACKAGES: Final = (
    "systemd,systemd-sysv,dbus,udev,initramfs-tools,linux-image-amd64,python3,mosquitto,util-linux,curl,iproute2,"
    "git,ca-certificates,procps"
)
PROGRAMS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
}
FILES: Final = {
    "etc/fstab": "LABEL=payload /opt ext4 ro,x-systemd.device-timeout=1h 0 0\n",
    "etc/systemd/system/lab.service": """[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/bash /opt/start.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
""",
}
"""What is added to a plain Debian: a second disk on /opt, and a script on it that runs once everything is up."""
MASKED: Final = ("serial-getty@ttyS0.service", "mosquitto.service")
"""A getty on the console waits 90 s for a device; Debian's own Mosquitto is not the hub's."""


class CannotBuildError(Exception):
    """A disk cannot be made here; one sentence says why."""


def missing() -> str:
    """Return what to install before anything can be booted here, "" when nothing is missing."""
    lacking = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return f"apt install {' '.join(lacking)}" if lacking else ""


def base() -> Path:
    """Return the folder with `disk`, `kernel` and `initrd` of a Debian 12. Raises `CannotBuildError`."""
    recipe = hashlib.sha256(repr((PACKAGES, FILES, MASKED)).encode()).hexdigest()[:12]
    folder = CACHE / f"debian-12-{recipe}"
    if (folder / "done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", tree)
    for name, text in FILES.items():
        (tree / name).write_text(text)
    units = tree / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/lab.service").symlink_to("../lab.service")
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    for name, found in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        (path,) = (tree / "boot").glob(found)
        shutil.copy(path, folder / name)
    image(folder / "disk", tree, "2500M", "debian")
    shutil.rmtree(tree)
    (folder / "done").touch()
    return folder


def image(path: Path, tree: Path, size: str, label: str) -> None:
    """Make an ext4 file system of `size` with what is in `tree`."""
    path.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", tree, path, size)


def overlay(backing: Path, kind: str, disk: Path) -> None:
    """Make `disk` a layer on `backing`, of the format `kind`, that holds what changes. Raises `CannotBuildError`.

    Its own format (qcow2) keeps in the emulator's memory where newly written blocks lie, until the machine flushes. So
    a killed emulator loses what was written to them since, as a disk with a cache does at a power cut; a block that
    this layer held before is written in place, and stays.
    """
    disk.unlink(missing_ok=True)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", backing, disk)


def merge(layer: Path) -> None:
    """Write what `layer` holds into what it lies on. Raises `CannotBuildError`."""
    run("qemu-img", "commit", "-q", layer)


def payload(folder: Path, guest: str) -> Path:
    """Return a disk, made in `folder`, with the commands as the wheel installs them, the units, the example and the
    scripts of `guest`, a folder beside this file. Raises `CannotBuildError`."""
    tree = folder / "opt"
    environment = tree / "flaghoist"
    python = environment / "bin" / "python"
    tree.mkdir(parents=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ".", cwd=ROOT)
    (wheel,) = (folder / "wheels").iterdir()
    # Debian's Python, since links to it lead to the same place on the machine.
    run("/usr/bin/python3", "-m", "venv", "--without-pip", environment)
    constraints = ("--constraint", ROOT / "constraints.txt")
    wanted = f"flaghoist[hub,edge] @ file://{wheel}"
    run(*pip, "--python", python, "install", "--no-compile", *constraints, wanted)
    for command in (environment / "bin").glob("flaghoist*"):
        command.write_text(re.sub(r"^#!.*", "#!/opt/flaghoist/bin/python", command.read_text()))
    # Once for all boots, and outside: the disk is read-only to the machine, and an emulated processor is slow.
    run("/usr/bin/python3", "-m", "compileall", "-q", "-s", tree, "-p", "/opt", environment / "lib")
    shutil.copytree(ROOT / "systemd", tree / "systemd")
    shutil.copytree(ROOT / "docs" / "examples" / "fleet-repo", tree / "example")
    shutil.copytree(GUEST / guest, tree, dirs_exist_ok=True)
    image(folder / "payload", tree, "500M", "payload")
    shutil.rmtree(tree)
    return folder / "payload"


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command to its end. Raises `CannotBuildError` with the last thing that it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise CannotBuildError(f"{command[0]} cannot make a machine to boot: {said}")
