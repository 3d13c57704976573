"""How long RAUC and SWUpdate take to verify the same archive, wrapped and signed as each of them wants it.

Both from Debian's packages (rauc, squashfs-tools, swupdate, cpio, openssl); what is not installed is left out. Each is
seen to refuse a wrapping with one byte changed before its time counts as that of a verification.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

RAUC_MANIFEST = """[update]
compatible=bench
version=1
[bundle]
format=plain
[image.rootfs]
filename=bundle.img
"""
SW_DESCRIPTION = """software = {{ version = "1"; hardware-compatibility: [ "1.0" ]; files: (
  {{ filename = "bundle.img"; path = "/nowhere"; sha256 = "{sha256}"; }} ); }}
"""


def prepare(folder: Path, archive: Path, sha256: str) -> dict[str, Callable[[], float]]:
    """Return, by updater, what verifies its wrapping of `archive` once and returns the seconds it took."""
    folder.mkdir()
    ready: dict[str, Callable[[], float]] = {}
    if not shutil.which("openssl"):
        return ready
    _run(
        *(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ),
        *("-subj", "/CN=bench", "-days", "30", "-addext", "extendedKeyUsage=emailProtection,codeSigning"),
        cwd=folder,
    )
    if shutil.which("rauc") and shutil.which("mksquashfs"):
        ready["rauc"] = _rauc(folder, archive)
    if shutil.which("swupdate") and shutil.which("cpio"):
        ready["swupdate"] = _swupdate(folder, archive, sha256)
    return ready


def _rauc(folder: Path, archive: Path) -> Callable[[], float]:
    content = folder / "rauc"
    content.mkdir()
    shutil.copy(archive, content / "bundle.img")
    (content / "manifest.raucm").write_text(RAUC_MANIFEST)
    _run("rauc", "--cert", "cert.pem", "--key", "key.pem", "bundle", "rauc", "bench.raucb", cwd=folder)

    def verify() -> float:
        return _run("rauc", "info", "--keyring", "cert.pem", "bench.raucb", cwd=folder)

    _see_it_refuse(folder / "bench.raucb", verify)
    return verify


def _swupdate(folder: Path, archive: Path, sha256: str) -> Callable[[], float]:
    content = folder / "swupdate"
    content.mkdir()
    shutil.copy(archive, content / "bundle.img")
    (content / "sw-description").write_text(SW_DESCRIPTION.format(sha256=sha256))
    _run(
        *("openssl", "cms", "-sign", "-in", "sw-description", "-out", "sw-description.sig", "-binary"),
        *("-signer", "../cert.pem", "-inkey", "../key.pem", "-outform", "DER", "-nosmimecap"),
        cwd=content,
    )
    with (folder / "bench.swu").open("wb") as file:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "crc"],
            cwd=content,
            input=b"sw-description\nsw-description.sig\nbundle.img\n",
            stdout=file,
            check=True,
        )

    def verify() -> float:
        return _until_judged(folder)

    _see_it_refuse(folder / "bench.swu", verify)
    return verify


def _until_judged(folder: Path) -> float:
    """Return the seconds until SWUpdate says that the image is valid; raises `RuntimeError` when it says otherwise.

    What comes after that is waiting, and its exit code may be 0 all the same (2022.12).
    """
    began = time.perf_counter()
    command = ["swupdate", "-c", "-v", "-H", "bench:1.0", "-k", "cert.pem", "-i", "bench.swu"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as program:
        # Once it has judged it may wait for itself for ever, its child with it; nor may it hang before that.
        deadline = threading.Timer(120, os.killpg, (program.pid, signal.SIGKILL))
        deadline.start()
        try:
            assert program.stdout is not None
            said = next(
                (line for line in program.stdout if b"Valid image" in line or b"Image invalid" in line), b""
            )
            judged = time.perf_counter() - began
        finally:
            deadline.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
    if b"Valid image" not in said:
        raise RuntimeError("swupdate does not call the image valid")
    return judged


def _see_it_refuse(wrapping: Path, verify: Callable[[], float]) -> None:
    """Raise `RuntimeError` unless a changed byte in the middle of the content is noticed."""
    with wrapping.open("r+b") as file:
        middle = wrapping.stat().st_size // 2
        _flip(file, middle)
        try:
            verify()
        except RuntimeError:
            _flip(file, middle)
        else:
            raise RuntimeError(f"{wrapping.name} was changed, and nothing noticed")


def _flip(file: BinaryIO, at: int) -> None:
    file.seek(at)
    byte = file.read(1)[0]
    file.seek(at)
    file.write(bytes([byte ^ 1]))
    file.flush()


def _run(*command: str, cwd: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return time.perf_counter() - began
