"""Which files of a role's folder go into a bundle, and what each of them must look like. Pure; rules:

1. `bundle.json` is required, parses, names the role, and asks only for what the folder has.
2. Beside it stand `compose.yaml` and the folders `env/`, `validate/` and `files/`. `rollout.json` and
   `README.md` are for people and the hub, and stay out; anything else is refused, since it would be
   left out in silence.
3. Regular files only: no symbolic link, no submodule, and no pointer of Git LFS in a file's place.
4. Paths that a device can hold: see `topics.bundle.path`; no two that differ only by case.
5. `env/*.env.tmpl` are templates that a device can fill in (docs/bundle.md); `validate/*` have a shebang and
   the executable bit.
6. Images in `compose.yaml` carry a digest, unless `bundle.json` opts out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from hub.cli import composefile
from hub.cli.errors import Refused
from hub.cli.gitrepo import Entry
from topics import bundle
from topics.bundle import BundleInfo
from topics.errors import DecodeError

POLICY: Final = "rollout.json"
LEFT_OUT: Final = (POLICY, "README.md")
TEXT_LIMIT: Final = 256 * 1024
"""Largest compose file, template or policy in bytes."""

_MODES: Final = {"100644": 0o644, "100664": 0o644, "100755": 0o755}
_WHY_NOT: Final = {
    "120000": "is a symbolic link; commit the file it points to in its place",
    "160000": "is a submodule; commit its files in its place",
}
_LFS: Final = b"version https://git-lfs.github.com/spec/"
# Comments are filled in like the rest, so a stray dollar in one would refuse the release on every device.
_TEMPLATE_LINE: Final = re.compile(
    r"^(?:\s*#|[A-Za-z_][A-Za-z0-9_]*=)(?:[^$]|\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\})*\Z"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle and the blob it comes from."""

    entry: Entry
    mode: int

    @property
    def path(self) -> str:
        """Path inside the bundle."""
        return self.entry.path


def choose(entries: Iterable[Entry], folder: str) -> list[Member]:
    """Return the bundle's files, sorted by path (rules 2 to 4); raises `Refused`."""
    members, folded = [], dict[str, str]()
    for entry in entries:
        where = f"{folder}/{entry.path}"
        if entry.mode not in _MODES:
            raise Refused(f"{where} {_WHY_NOT.get(entry.mode, f'has the unknown git mode {entry.mode}')}")
        if entry.path in LEFT_OUT:
            continue
        _check_place(where, entry.path)
        twin = folded.setdefault(bundle.fold(entry.path), entry.path)
        if twin != entry.path:
            raise Refused(f"{where} and {twin} differ only by case; rename one of them")
        members.append(Member(entry, _MODES[entry.mode]))
    if len(members) > bundle.MAX_FILES:
        raise Refused(
            f"{folder} has {len(members)} files, a bundle holds {bundle.MAX_FILES}; pack some together"
        )
    return sorted(members, key=lambda member: member.path)


def check(members: list[Member], role: str, folder: str, read: Callable[[Entry], bytes]) -> BundleInfo:
    """Return the parsed `bundle.json` of a bundle that keeps rules 1, 3, 5 and 6; raises `Refused`.

    `read` returns the content of an entry.
    """
    by_path = {member.path: member for member in members}
    if bundle.BUNDLE_JSON not in by_path:
        raise Refused(f"{folder}/{bundle.BUNDLE_JSON} is missing; it says how the role runs")
    info = _info(read(by_path[bundle.BUNDLE_JSON].entry), role, f"{folder}/{bundle.BUNDLE_JSON}")
    _check_hook(info, by_path, folder)
    for member in members:
        where = f"{folder}/{member.path}"
        # An LFS pointer has about 130 bytes; longer files need not be read for it.
        if member.entry.size < 1024 and read(member.entry).startswith(_LFS):
            raise Refused(f"{where} is a Git LFS pointer, not the file; commit the file itself")
        if member.path == bundle.COMPOSE:
            composefile.check(_text(member, where, read), where, allow_unpinned=info.allow_unpinned_images)
        elif member.path.startswith("env/"):
            check_template(_text(member, where, read), where)
        elif member.path.startswith("validate/"):
            _check_script(member, where, read)
    return info


def check_template(text: str, where: str) -> None:
    """Refuse an env template with a line that a device could not fill in; see docs/bundle.md."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not _TEMPLATE_LINE.match(line):
            raise Refused(
                f"{where}:{number} is not NAME=value; write ${{NAME}} for what the device fills in, $$ for a dollar"
            )


def _check_place(where: str, path: str) -> None:
    try:
        bundle.path(path)
        path.encode()
    except (DecodeError, UnicodeEncodeError):
        raise Refused(
            f"{where!r} cannot be a path in a bundle; use printable, normalised names, 512 characters at most"
        ) from None
    top, _, rest = path.partition("/")
    good = (
        path in (bundle.BUNDLE_JSON, bundle.COMPOSE)
        or (top == "files" and rest)
        or (top == "env" and rest.endswith(".env.tmpl") and "/" not in rest)
        or (top == "validate" and rest and "/" not in rest)
    )
    if not good:
        raise Refused(
            f"{where} has no place in a bundle; put it below files/ (env/ holds *.env.tmpl, validate/ scripts)"
        )


def _info(data: bytes, role: str, where: str) -> BundleInfo:
    try:
        info = bundle.parse_info(data)
    except DecodeError as error:
        raise Refused(f"{where} is not right ({error.detail}); docs/bundle.md lists its fields") from None
    if info.role != role:
        raise Refused(f"{where} is of role {info.role!r}; make it {role!r}, or build --role {info.role}")
    return info


def _check_hook(info: BundleInfo, by_path: dict[str, Member], folder: str) -> None:
    if info.hook == "compose" and bundle.COMPOSE not in by_path:
        raise Refused(f"{folder}/{bundle.COMPOSE} is missing; the hook {info.hook!r} needs it")
    if info.hook != "exec":
        return
    if info.exec is None:
        raise Refused(f"{folder}/{bundle.BUNDLE_JSON} has no \"exec\"; the hook 'exec' needs its command")
    program = info.exec.command[0]
    # A bare name is found on the device's PATH, an absolute path on its disk; only the rest is ours.
    if "/" in program and not program.startswith("/"):
        member = by_path.get(program.removeprefix("./"))
        if member is None or member.mode != 0o755:
            raise Refused(
                f"{folder}/{bundle.BUNDLE_JSON} runs {program!r}, "
                f"which is {'missing' if member is None else 'not executable'}; add it with git update-index --chmod=+x"
            )


def _check_script(member: Member, where: str, read: Callable[[Entry], bytes]) -> None:
    if member.mode != 0o755:
        raise Refused(f"{where} is not executable; run git update-index --chmod=+x {where} and commit")
    if not read(member.entry).startswith(b"#!/"):
        raise Refused(f"{where} has no shebang; begin it with a line like #!/bin/sh")


def _text(member: Member, where: str, read: Callable[[Entry], bytes]) -> str:
    if member.entry.size > TEXT_LIMIT:
        raise Refused(f"{where} is larger than {TEXT_LIMIT} bytes; put data below files/")
    try:
        return read(member.entry).decode()
    except UnicodeDecodeError:
        raise Refused(f"{where} is not UTF-8 text; save it as UTF-8") from None
