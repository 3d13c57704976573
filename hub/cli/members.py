"""Which files of a role's folder go into a bundle. Pure; rules:

1. `rollout.json` and `README.md` are for people and the hub, and stay out.
2. Regular files only: no symbolic link, no submodule.

What the files have to look like is `hub.artifacts.lint.role`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hub.artifacts.lint.findings import Finding
from hub.artifacts.lint.source import SourceFile
from hub.cli.gitrepo import Entry

POLICY: Final = "rollout.json"
LEFT_OUT: Final = (POLICY, "README.md")

_MODES: Final = {"100644": 0o644, "100664": 0o644, "100755": 0o755}
_WHY_NOT: Final = {
    "120000": ("is a symbolic link", "commit the file it points to in its place"),
    "160000": ("is a submodule", "commit its files in its place"),
}


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle and the blob it comes from."""

    entry: Entry
    mode: int

    @property
    def path(self) -> str:
        """Path inside the bundle."""
        return self.entry.path

    @property
    def source(self) -> SourceFile:
        """The file as the rules see it."""
        return SourceFile(self.entry.path, self.mode, self.entry.size)


def choose(entries: Iterable[Entry], folder: str) -> tuple[list[Member], list[Finding]]:
    """Return the bundle's files, sorted by path, and what is no regular file."""
    members, found = [], []
    for entry in entries:
        if entry.mode not in _MODES:
            why, way_out = _WHY_NOT.get(
                entry.mode, (f"has the unknown git mode {entry.mode}", "commit a file")
            )
            found.append(Finding(file=f"{folder}/{entry.path}", rule="file_kind", detail=why, remedy=way_out))
        elif entry.path not in LEFT_OUT:
            members.append(Member(entry, _MODES[entry.mode]))
    return sorted(members, key=lambda member: member.path), found
