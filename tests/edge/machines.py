"""Machines with two copies of their system, for the hooks that write images: fakes, and the real installers.

Boots are made up: a machine that restarts gets a new boot id, which a copy of the hooks reads, and comes up with the
slot that its bootloader was told, or with the one that a test says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.edge.world import wait_until

HOOKS = Path(__file__).parents[2] / "firmware_hooks"
OLD, NEW = "kiosk-7-a", "kiosk-8-b"
LATER, RESTART = 75, 76


class Machine(ABC):
    """Two slots, A running, and releases whose hook is called as the agent calls it."""

    hook: str
    suffix: str
    slots: ClassVar[dict[str, str]]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fake, self.run, self.hooks = root / "fake", root / "state" / "run", root / "hooks"
        for folder in (self.fake, self.run, self.hooks):
            folder.mkdir(parents=True)
        for name in ("slots.py", self.hook):
            shutil.copy(HOOKS / name, self.hooks / name)
        shared = self.hooks / "slots.py"
        text = shared.read_text()
        assert text.count('Path("/proc/sys/kernel/random/boot_id")') == 1
        shared.write_text(text.replace("/proc/sys/kernel/random/boot_id", str(self.fake / "boot_id")))
        self.boots = 0
        self.running = "A"
        try:
            self.prepare()
            self.switch_on("A")
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def prepare(self) -> None:
        """Make programs and slots."""

    @abstractmethod
    def told(self) -> str:
        """Return the slot that the bootloader was told to boot."""

    @abstractmethod
    def good(self) -> str:
        """Return the slot that the bootloader holds for good."""

    @abstractmethod
    def come_up(self) -> None:
        """Boot `self.running`."""

    def image(self, data: bytes, path: Path) -> None:
        """Make an image of a system that consists of `data`."""
        path.write_bytes(data)

    def holds(self, slot: str) -> bytes:
        """Return what stands in a slot."""
        return (self.fake / f"slot-{slot}").read_bytes().rstrip(b"\0")

    def variables(self) -> dict[str, str]:
        """Return what device.env holds."""
        return {}

    def spoil(self) -> None:
        """Let nothing be written whole from here on."""
        (self.fake / "fail").write_text("no space left")

    def mend(self) -> None:
        """Take that back."""
        (self.fake / "fail").unlink()

    def close(self) -> None:  # noqa: B027  (nothing of a fake runs)
        """End what runs."""

    def release(self, name: str, data: bytes) -> Path:
        """Put a release on the device whose system is `data`."""
        folder = self.root / "state" / "releases" / name
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self.image(data, folder / "files" / f"system{self.suffix}")
        return folder

    def switch_on(self, into: str | None = None) -> None:
        """Boot what the bootloader was told, or `into`."""
        self.boots += 1
        (self.fake / "boot_id").write_text(f"boot-{self.boots}\n")
        self.running = into or self.told()
        self.come_up()

    def call(self, verb: str, release: str = NEW, **more: str) -> tuple[int, str]:
        """Return exit code and last line of a verb."""
        environment = {
            "PATH": f"{self.fake}:{os.environ['PATH']}:/usr/sbin",
            "FAKE": str(self.fake),
            "FLAGHOIST_RELEASE_ID": release,
            "FLAGHOIST_RELEASE_DIR": str(self.root / "state" / "releases" / release),
            "FLAGHOIST_RUN_DIR": str(self.run),
            **self.variables(),
            **more,
        }
        done = subprocess.run(
            [sys.executable, "-SE", self.hooks / self.hook, verb],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stderr.strip().rpartition("\n")[2]

    def said(self, name: str) -> str:
        """Return what the fakes wrote down."""
        return (self.fake / name).read_text().strip()

    def program(self, name: str, text: str) -> None:
        path = self.fake / name
        path.write_text(text)
        path.chmod(0o755)

    def calls(self, word: str) -> list[str]:
        """Return the calls of the fake programs that have a word in them."""
        path = self.fake / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if word in line]


FAKE_RAUC = r"""#!/bin/sh
cd "$FAKE"
echo "rauc $*" >> calls
[ ! -e away ] || { echo "Error retrieving slot status via D-Bus: error creating proxy: Could not connect" >&2; exit 1; }
name() { [ "$1" = A ] && echo rootfs.0 || echo rootfs.1; }
letter() { [ "$1" = rootfs.0 ] && echo A || echo B; }
running=$(cat running)
slot() {
  state=inactive
  [ "$1" != "$running" ] || state=booted
  known='"bundle":{"compatible":null}'
  if [ -s "sum-$1" ]; then
    how=update
    [ "$(cat whole)" != "$1" ] || how=ok
    known="$known,\"checksum\":{\"sha256\":\"$(cat "sum-$1")\",\"size\":1},\"status\":\"$how\""
  fi
  printf '{"%s":{"class":"rootfs","device":"/dev/%s","type":"raw","bootname":"%s","state":"%s","parent":null,' \
    "$(name "$1")" "$1" "$1" "$state"
  printf '"mountpoint":null,"boot_status":"good","slot_status":{%s}}}' "$known"
}
sum() { sha256sum "$1" | cut -d" " -f1; }
case "$1 $2" in
  "status --detailed")
    printf '{"compatible":"board","variant":"","booted":"%s","boot_primary":"%s","slots":[%s,%s]}\n' \
      "$running" "$(cat primary)" "$(slot A)" "$(slot B)" ;;
  "info "*)
    printf '{"images":[{"rootfs":{"filename":"system.img","checksum":"%s"}}]}\n' "$(sum "$3")" ;;
  "install "*)
    other=A
    [ "$running" != A ] || other=B
    cp "$2" "slot-$other"
    sum "$2" > "sum-$other"
    : > whole
    [ ! -e fail ] || { echo "LastError: $(cat fail)"; echo "Installing \`$2\` failed" >&2; exit 1; }
    echo "$other" > whole ;;
  "status mark-active") letter "$3" > primary ;;
  "status mark-good") [ "$(letter "$3")" = "$running" ] && letter "$3" > good ;;
esac
"""


class FakeRauc(Machine):
    """A `rauc` that keeps account, and answers as RAUC 1.8 did."""

    hook, suffix = "rauc", ".raucb"
    slots: ClassVar = {"A": "rootfs.0", "B": "rootfs.1"}

    def prepare(self) -> None:
        self.program("rauc", FAKE_RAUC)
        for name, text in (("primary", "A"), ("slot-A", "factory"), ("slot-B", "factory")):
            (self.fake / name).write_text(text)

    def told(self) -> str:
        return self.said("primary")

    def come_up(self) -> None:
        (self.fake / "running").write_text(self.running)

    def good(self) -> str:
        return self.said("good")


FAKE_SWUPDATE = """#!/bin/sh
echo "swupdate $*" >> "$FAKE/calls"
if [ "$1" = -g ]; then cat "$FAKE/root"; exit; fi
slot=${2#stable,copy}
cp "$4" "$FAKE/slot-$slot"
[ ! -e "$FAKE/fail" ] || {
  echo "[ERROR] : SWUPDATE failed [0] ERROR : $(cat "$FAKE/fail")" >&2
  echo "[ERROR] : SWUPDATE failed [1] Image invalid or corrupted. Not installing ..." >&2
  echo "[ERROR] : SWUPDATE failed [0] ERROR : SWUpdate *failed* !" >&2
  exit 1
}
"""
SET_VARIABLE = """#!/bin/sh
echo "fw_setenv $*" >> "$FAKE/calls"
echo "$2" > "$FAKE/env-$1"
"""


class FakeSwupdate(Machine):
    """A `swupdate` that copies, and U-Boot's variables as files."""

    hook, suffix = "swupdate", ".swu"
    slots: ClassVar = {"A": "A", "B": "B"}

    def prepare(self) -> None:
        self.program("swupdate", FAKE_SWUPDATE)
        self.program("fw_setenv", SET_VARIABLE)
        for slot in "AB":
            (self.fake / f"slot-{slot}").write_bytes(b"factory")
        (self.fake / "env-slot").write_text("A\n")

    def variables(self) -> dict[str, str]:
        return {"SWUPDATE_SLOTS": f"A={self.fake}/slot-A B={self.fake}/slot-B"}

    def told(self) -> str:
        return self.said("env-slot")

    def come_up(self) -> None:
        (self.fake / "root").write_text(f"{self.fake}/slot-{self.running}\n")

    def good(self) -> str:
        assert (self.said("env-upgrade_available"), self.said("env-bootcount")) == ("0", "0")
        return self.said("env-slot")


CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /O=Test/CN=test"
)
BOOTLOADER = """#!/bin/sh
cd "$FAKE"
case "$1" in
  get-primary) cat primary ;;
  set-primary) echo "$2" > primary ;;
  get-state) cat "state-$2" 2>/dev/null || echo good ;;
  set-state) echo "$3" > "state-$2"; [ "$3" = bad ] || echo "$2" > good ;;
esac
"""
SYSTEM = """[system]
compatible=board
bootloader=custom
statusfile={fake}/central.raucs
bundle-formats=plain
mountprefix={fake}/mnt
activate-installed=false

[keyring]
path={fake}/cert.pem

[handlers]
bootloader-custom-backend={fake}/bootloader

[slot.rootfs.0]
device={fake}/slot-A
type=raw
bootname=A

[slot.rootfs.1]
device={fake}/slot-B
type=raw
bootname=B
"""
BUS = """<busconfig>
  <type>session</type>
  <listen>unix:path={fake}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
  </policy>
</busconfig>
"""


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a service, if there is one."""
    if process is not None:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


class RealSlots(Machine):
    """Slots that a real installer writes: it fails when one of them is gone."""

    def spoil(self) -> None:
        (self.fake / "slot-B").rename(self.fake / "away")

    def mend(self) -> None:
        (self.fake / "away").rename(self.fake / "slot-B")


class RealRauc(RealSlots, FakeRauc):
    """RAUC and its service on a D-Bus of its own, slots that are files, and a bootloader that is a script."""

    bus: subprocess.Popen[bytes] | None = None
    service: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        (self.fake / "primary").write_text("A")
        for slot in "AB":
            (self.fake / f"slot-{slot}").write_bytes(b"factory".ljust(65536, b"\0"))
        self.program("bootloader", BOOTLOADER)
        (self.fake / "system.conf").write_text(SYSTEM.format(fake=self.fake))
        (self.fake / "bus.conf").write_text(BUS.format(fake=self.fake))
        subprocess.run(CERTIFICATE.split(), cwd=self.fake, check=True, capture_output=True)
        self.bus = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.fake}/bus.conf", "--nofork", "--print-address"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.bus.stdout is not None and self.bus.stdout.readline()

    def variables(self) -> dict[str, str]:
        return {
            "RAUC_CONF": f"{self.fake}/system.conf",
            "DBUS_STARTER_BUS_TYPE": "session",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.fake}/bus",
        }

    def image(self, data: bytes, path: Path) -> None:
        content = path.parent / "content"
        content.mkdir()
        (content / "rootfs.img").write_bytes(data.ljust(4096, b"\0"))
        (content / "manifest.raucm").write_text(
            "[update]\ncompatible=board\nversion=1\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=rootfs.img\n"
        )
        path.unlink(missing_ok=True)
        command = ["rauc", f"--cert={self.fake}/cert.pem", f"--key={self.fake}/key.pem", "bundle"]
        subprocess.run([*command, content, path], check=True, capture_output=True)
        shutil.rmtree(content)

    def holds(self, slot: str) -> bytes:
        return (self.fake / f"slot-{slot}").read_bytes()[:4096].rstrip(b"\0")

    def come_up(self) -> None:
        end(self.service)
        environment = os.environ | self.variables() | {"FAKE": str(self.fake)}
        command = ["rauc", f"--conf={self.fake}/system.conf", f"--override-boot-slot={self.running}"]
        with (self.fake / "service.log").open("ab") as log:
            self.service = subprocess.Popen([*command, "service"], env=environment, stderr=log)
        asked = [*command[:2], "status"]
        wait_until(
            lambda: not subprocess.run(asked, env=environment, capture_output=True, check=False).returncode,
            what="RAUC's service",
        )

    def close(self) -> None:
        end(self.service)
        end(self.bus)


ROOT_DEVICE = """#!/bin/sh
if [ "$1" = -g ]; then cat "$FAKE/root"; else exec /usr/bin/swupdate "$@"; fi
"""
DESCRIPTION = """software =
{{
    version = "1";
    hardware-compatibility: [ "1.0" ];
    stable = {{
        copyA: {{ images: ( {{ filename = "system"; device = "{fake}/slot-A"; type = "raw"; sha256 = "{sum}"; }} ); }};
        copyB: {{ images: ( {{ filename = "system"; device = "{fake}/slot-B"; type = "raw"; sha256 = "{sum}"; }} ); }};
    }};
}}
"""
PARTS = ("sw-description", "sw-description.sig", "system")


class RealSwupdate(RealSlots, FakeSwupdate):
    """SWUpdate with signed images and copies that are files; only what its -g says, and U-Boot, are made up."""

    def prepare(self) -> None:
        super().prepare()
        self.program("swupdate", ROOT_DEVICE)
        purpose = ["-addext", "extendedKeyUsage=emailProtection", "-addext", "keyUsage=digitalSignature"]
        subprocess.run([*CERTIFICATE.split(), *purpose], cwd=self.fake, check=True, capture_output=True)

    def variables(self) -> dict[str, str]:
        install = f"swupdate -k {self.fake}/cert.pem -H board:1.0 -e stable,copy{{slot}} -i {{image}}"
        # Where it has its sockets: two machines at once would share them in /tmp.
        return {**super().variables(), "SWUPDATE_INSTALL": install, "TMPDIR": str(self.fake)}

    def image(self, data: bytes, path: Path) -> None:
        where = path.parent / "content"
        where.mkdir()
        (where / "system").write_bytes(data)
        described = DESCRIPTION.format(fake=self.fake, sum=hashlib.sha256(data).hexdigest())
        (where / "sw-description").write_text(described)
        keys = f"-signer {self.fake}/cert.pem -inkey {self.fake}/key.pem"
        sign = f"openssl cms -sign -binary -nosmimecap -outform DER {keys} -in sw-description -out sw-description.sig"
        subprocess.run(sign.split(), cwd=where, check=True, capture_output=True)
        with path.open("wb") as file:
            names = "\n".join(PARTS).encode()
            subprocess.run(
                ["cpio", "-o", "-H", "crc"], cwd=where, input=names, stdout=file, check=True, stderr=-3
            )
        shutil.rmtree(where)


class RealSwupdateService(RealSwupdate):
    """SWUpdate as a service, which is asked by `swupdate-client`."""

    service: subprocess.Popen[bytes] | None = None

    def variables(self) -> dict[str, str]:
        return {**super().variables(), "SWUPDATE_INSTALL": "swupdate-client -e stable,copy{slot} {image}"}

    def come_up(self) -> None:
        super().come_up()
        end(self.service)
        accepted = ["-q", "stable,copyA", "-q", "stable,copyB"]
        command = ["/usr/bin/swupdate", "-k", f"{self.fake}/cert.pem", "-H", "board:1.0", *accepted]
        sockets = [self.fake / name for name in ("sockinstctrl", "swupdateprog")]
        for path in sockets:
            path.unlink(missing_ok=True)
        with (self.fake / "service.log").open("ab") as log:
            self.service = subprocess.Popen(
                command, env=os.environ | {"TMPDIR": str(self.fake)}, stdout=log, stderr=log
            )
        wait_until(lambda: all(path.exists() for path in sockets), what="SWUpdate's service")

    def close(self) -> None:
        end(self.service)
