"""An enrolled device with a release and no broker in reach, for whoever asks what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from edge.diagnose import command
from edge.diagnose.finding import Finding
from edge.identity import identity
from edge.machine.clock import SystemClock
from hub.identity.ca import Authorities, open_authorities
from tests.edge.world import DEVICE, FLEET, NOW, Box, Source, build
from topics.trust import sha256


class Patient(Box):
    """A device with an identity and a release, and no broker in reach."""

    def __init__(self, root: Path, source: Source) -> None:
        super().__init__(root, source)
        self.authorities: Authorities = open_authorities(root / "ca", FLEET, now=NOW // 1000)
        self.certify(NOW // 1000)
        self.online()
        self.offer(build(7))

    def certify(self, now: int) -> None:
        authority = self.authorities.device
        identity.write(
            self.paths,
            self.device,
            seed=bytes(self.key),
            certificate_pem=authority.issue_device(bytes(self.key.verify_key), DEVICE, now=now),
            ca_pem=authority.pem,
            unique=identity.unique(),
        )

    def ask(self) -> list[Finding]:
        return command.gather(self.paths, SystemClock())


def everything(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and content, or target, of everything below a folder."""
    found = {}
    for path in root.rglob("*"):
        kind = "folder" if path.is_dir() else sha256(path.read_bytes()) if path.is_file() else "other"
        content = str(path.readlink()) if path.is_symlink() else kind
        found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found
