"""Judges all files of a role at once; what it finds is the same for `release build` and `POST /artifacts/validate`.

Pure; rules:

1. `bundle.json` is required, parses, names the role, and asks only for what the folder has.
2. Beside it stand `compose.yaml` and the folders `env/`, `validate/` and `files/`; anything else has no place.
3. Paths that a device can hold: see `topics.bundle.path`; no two that differ only by case.
4. No pointer of Git LFS in a file's place.
5. `env/*.env.tmpl` are templates that a device can fill in (docs/bundle.md); `validate/*` have a shebang and
   the executable bit.
6. `compose.yaml` is what `hub.artifacts.lint.compose` wants.
7. What looks like a secret is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from hub.artifacts.lint import compose, texts
from hub.artifacts.lint.findings import Finding
from hub.artifacts.lint.source import TEXT_LIMIT, Read, SourceFile
from topics import bundle
from topics.bundle import BundleInfo
from topics.errors import DecodeError

_IMAGES: Final = {"rauc": ".raucb", "swupdate": ".swu"}
"""What the images of systems are called."""
_LFS: Final = b"version https://git-lfs.github.com/spec/"


class Judgement(msgspec.Struct, frozen=True):
    """What was found, and `bundle.json` where it can be read."""

    findings: list[Finding]
    info: BundleInfo | None


def judge(files: list[SourceFile], read: Read, *, folder: str = "", role: str | None = None) -> Judgement:
    """Judge the files of a bundle; `folder` (with its slash) stands before their names in what is told."""
    found = list(_places(files, folder))
    by_path = {file.path: file for file in files}
    info = _info(by_path, read, role, folder, found)
    if info is not None:
        found += _hook(info, by_path, folder)
    contents = _Contents(read, folder, found)
    declared = None if info is None else info.variables
    templates = {
        file.path: text
        for file in files
        if file.path.startswith("env/") and (text := contents.text(file)) is not None
    }
    known = {name for text in templates.values() for name in texts.names_set(text)} | set(declared or ())
    for file in sorted(files, key=lambda file: file.path):
        found += texts.secret_name(file.path, folder + file.path)
        if file.path == bundle.COMPOSE:
            text = contents.text(file)
            found += (
                []
                if text is None
                else compose.check(
                    text,
                    folder + file.path,
                    allow_unpinned=info is not None and info.allow_unpinned_images,
                    paths=by_path.keys(),
                    variables=known,
                )
            )
        elif file.path in templates:
            found += texts.template(templates[file.path], folder + file.path, declared)
        elif file.path.startswith("validate/"):
            data = contents.data(file)
            found += [] if data is None else texts.script(data, file.mode, folder + file.path)
        found += contents.looked_into(file)
    unused = set(declared or ()) - {name for text in templates.values() for name in texts.names_used(text)}
    found += [_unused(name, folder) for name in sorted(unused)]
    return Judgement(found, info)


class _Contents:
    """Contents by file, each read once at most and only while it is needed."""

    def __init__(self, read: Read, folder: str, found: list[Finding]) -> None:
        self._read, self._folder, self._found = read, folder, found
        self._last: tuple[str, bytes] = ("", b"")

    def data(self, file: SourceFile) -> bytes | None:
        """Return the file's bytes, None with a finding for one that is too large."""
        if file.size > TEXT_LIMIT:
            self._found.append(
                Finding(
                    file=self._folder + file.path,
                    rule="too_large",
                    detail=f"is larger than {TEXT_LIMIT} bytes",
                    remedy="put data below files/",
                )
            )
            return None
        if self._last[0] != file.path:
            self._last = (file.path, self._read(file))
        return self._last[1]

    def text(self, file: SourceFile) -> str | None:
        """Return the file's text, None with a finding for one that is too large or not UTF-8."""
        data = self.data(file)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            self._found.append(
                Finding(
                    file=self._folder + file.path,
                    rule="encoding",
                    detail="is not UTF-8 text",
                    remedy="save it as UTF-8",
                )
            )
            return None

    def looked_into(self, file: SourceFile) -> Iterator[Finding]:
        """Yield what is wrong with a file of any kind."""
        data = self.data(file) if file.size <= TEXT_LIMIT else None
        if data is None:
            return
        if data.startswith(_LFS):
            yield Finding(
                file=self._folder + file.path,
                rule="lfs_pointer",
                detail="is a Git LFS pointer, not the file",
                remedy="commit the file itself",
            )
        if b"\0" not in data:
            settings = file.path == bundle.COMPOSE or file.path.startswith("env/")
            yield from texts.secrets(
                data.decode(errors="replace"), self._folder + file.path, settings=settings
            )


def _places(files: list[SourceFile], folder: str) -> Iterator[Finding]:
    folded: dict[str, str] = {}
    for file in files:
        where = folder + file.path
        yield from _place(file.path, where)
        twin = folded.setdefault(bundle.fold(file.path), file.path)
        if twin != file.path:
            yield Finding(
                file=where,
                rule="case",
                detail=f"and {twin} differ only by case",
                remedy="rename one of them",
            )
    if len(files) > bundle.MAX_FILES:
        yield Finding(
            file=folder.rstrip("/") or bundle.BUNDLE_JSON,
            rule="too_many_files",
            detail=f"has {len(files)} files, a bundle holds {bundle.MAX_FILES}",
            remedy="pack some together",
        )


def _place(path: str, where: str) -> Iterator[Finding]:
    try:
        bundle.path(path)
        path.encode()
    except (DecodeError, UnicodeEncodeError):
        yield Finding(
            file=repr(where),
            rule="path",
            detail="cannot be a path in a bundle",
            remedy="use printable, normalised names, 512 characters at most",
        )
        return
    top, _, rest = path.partition("/")
    good = (
        path in (bundle.BUNDLE_JSON, bundle.COMPOSE)
        or (top == "files" and rest)
        or (top == "env" and rest.endswith(".env.tmpl") and "/" not in rest)
        or (top == "validate" and rest and "/" not in rest)
    )
    if not good:
        yield Finding(
            file=where,
            rule="place",
            detail="has no place in a bundle",
            remedy="put it below files/ (env/ holds *.env.tmpl, validate/ scripts)",
        )


def _info(
    by_path: dict[str, SourceFile], read: Read, role: str | None, folder: str, found: list[Finding]
) -> BundleInfo | None:
    where = folder + bundle.BUNDLE_JSON
    file = by_path.get(bundle.BUNDLE_JSON)
    if file is None:
        found.append(
            Finding(file=where, rule="bundle_json", detail="is missing", remedy="it says how the role runs")
        )
        return None
    try:
        info = bundle.parse_info(read(file) if file.size <= bundle.BUNDLE_JSON_LIMIT else b" " * file.size)
    except DecodeError as error:
        found.append(
            Finding(
                file=where,
                rule="bundle_json",
                detail=f"is not right ({error.detail})",
                remedy="docs/bundle.md lists its fields",
            )
        )
        return None
    if role is not None and info.role != role:
        found.append(
            Finding(
                file=where,
                rule="role",
                detail=f"is of role {info.role!r}",
                remedy=f"make it {role!r}, or build --role {info.role}",
            )
        )
    return info


def _hook(info: BundleInfo, by_path: dict[str, SourceFile], folder: str) -> Iterator[Finding]:
    if info.hook == "compose" and bundle.COMPOSE not in by_path:
        yield Finding(
            file=folder + bundle.COMPOSE,
            rule="hook",
            detail="is missing",
            remedy=f"the hook {info.hook!r} needs it",
        )
    if problem := _carried(info.hook, list(by_path)):
        yield Finding(
            file=folder + bundle.BUNDLE_JSON,
            rule="hook",
            detail=f"names the hook {info.hook!r}, and {problem}",
            remedy="docs/hooks.md says what that hook runs",
        )
    if info.hook != "exec":
        return
    where = folder + bundle.BUNDLE_JSON
    if info.exec is None:
        yield Finding(
            file=where, rule="hook", detail='has no "exec"', remedy="the hook 'exec' needs its command"
        )
        return
    program = info.exec.command[0]
    # A bare name is found on the device's PATH, an absolute path on its disk; only the rest is ours.
    if "/" in program and not program.startswith("/"):
        file = by_path.get(program.removeprefix("./"))
        if file is None or file.mode != 0o755:
            yield Finding(
                file=where,
                rule="hook",
                detail=f"runs {program!r}, which is {'missing' if file is None else 'not executable'}",
                remedy="add it with git update-index --chmod=+x",
            )


def _carried(hook: str, paths: list[str]) -> str:
    """Return what a hook of ours misses among the files that it runs, "" when nothing."""
    if hook == "systemd" and not any(path.startswith("files/systemd/") for path in paths):
        return "files/systemd/ has no unit"
    if suffix := _IMAGES.get(hook):
        number = sum(path.startswith("files/") and path.endswith(suffix) for path in paths)
        if number != 1:
            return f"files/ has {number} images *{suffix} where it needs one"
    return ""


def _unused(name: str, folder: str) -> Finding:
    return Finding(
        file=folder + bundle.BUNDLE_JSON,
        rule="unused_variable",
        severity="warning",
        detail=f"lists {name} in variables, which no env template uses",
        remedy="take it out, or use it",
    )
