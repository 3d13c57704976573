"""What a `compose.yaml` has to be so that a device can run it from its bundle. Pure; rules:

1. It is text, YAML, and what the compose specification allows (`hub.artifacts.lint.specification`).
2. No variable decides which code runs, and images have a digest (`hub.artifacts.lint.lines`).
3. Services run images. `build` needs sources and a registry's trust that a device has neither of.
4. Files that it names by a relative path are in the bundle.
5. Paths of the device itself are told, since another device may not have them: warnings.
6. A variable without a default that no env template sets is told, since it would be empty.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from hub.artifacts.lint import lines, specification
from hub.artifacts.lint.findings import Finding
from hub.artifacts.lint.yamldoc import Document, Path, YamlError

_NAME: Final = re.compile(
    r"(?<!\$)(?:\$\$)*\$(?:\{([A-Za-z_][A-Za-z0-9_]*)([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))"
)
OURS: Final = "FLAGHOIST_"
"""Variables of this prefix come from the agent."""


def check(
    text: str, where: str, *, allow_unpinned: bool, paths: Collection[str], variables: Collection[str]
) -> list[Finding]:
    """Return all findings; `paths` are the bundle's files, `variables` what env templates and the role set."""
    found = lines.check(text, where, allow_unpinned=allow_unpinned)
    try:
        document = Document(text)
    except YamlError as error:
        return [*found, _not_yaml(error, where)]
    specified = list(specification.check(document, where))
    found += specified
    found += _undefined_variables(text, where, variables, {finding.line for finding in found})
    if not any(finding.rule == "compose_specification" for finding in specified):
        found += _services(document, where, paths)
    return found


def _not_yaml(error: YamlError, where: str) -> Finding:
    return Finding(
        file=where,
        line=error.line,
        rule="yaml",
        detail=f"is not YAML ({error.detail})",
        remedy="mend it there or just before",
    )


def _undefined_variables(
    text: str, where: str, variables: Collection[str], told: Collection[int | None]
) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or number in told:
            continue
        for match in _NAME.finditer(line):
            name, rest = match[1] or match[3], match[2] or ""
            if (
                name not in variables
                and not name.startswith(OURS)
                and not rest.startswith((":-", "-", ":?", "?"))
            ):
                yield Finding(
                    file=where,
                    line=number,
                    rule="undefined_variable",
                    severity="warning",
                    detail=f"uses {name}, which no env template sets",
                    remedy=f"add it to an env template, or give a default (${{{name}:-…}})",
                )


def _services(document: Document, where: str, paths: Collection[str]) -> Iterator[Finding]:
    top = document.value
    for name, service in (top.get("services") or {}).items():
        place: Path = ("services", name)
        if "build" in service:
            yield Finding(
                file=where,
                line=document.line((*place, "build")),
                rule="build",
                detail=f"builds the image of {name!r} on the device",
                remedy="build it in CI, push it, and name it by its digest",
            )
        elif not service.get("image") and "provider" not in service:
            yield Finding(
                file=where,
                line=document.line(place),
                rule="image_missing",
                detail=f"gives {name!r} no image",
                remedy="name one by its digest",
            )
        for at, path in _paths(service, place):
            yield from _path(document, where, at, path, paths)
    for kind in ("secrets", "configs"):
        for name, entry in (top.get(kind) or {}).items():
            if isinstance(entry, dict) and isinstance(entry.get("file"), str):
                yield from _path(document, where, (kind, name, "file"), entry["file"], paths)
    for number, entry in enumerate(top.get("include") or []):
        if isinstance(entry, str):
            yield from _path(document, where, ("include", number), entry, paths)


def _paths(service: dict[str, Any], place: Path) -> Iterator[tuple[Path, str]]:
    """Yield the host paths that a service names, with where."""
    for number, volume in enumerate(service.get("volumes") or []):
        at = (*place, "volumes", number)
        if isinstance(volume, dict):
            if volume.get("type") == "bind":
                yield at, str(volume.get("source", ""))
        elif ":" in str(volume) and not specification.named_volume(volume):
            yield at, str(volume).partition(":")[0]
    files = service.get("env_file") or []
    for number, entry in enumerate(files if isinstance(files, list) else [files]):
        at = (*place, "env_file", number) if isinstance(files, list) else (*place, "env_file")
        if not (isinstance(entry, dict) and entry.get("required") is False):
            yield at, str(entry.get("path", "") if isinstance(entry, dict) else entry)
    extends = service.get("extends")
    if isinstance(extends, dict) and extends.get("file"):
        yield (*place, "extends", "file"), str(extends["file"])


def _path(document: Document, where: str, at: Path, path: str, paths: Collection[str]) -> Iterator[Finding]:
    if not path or lines.has_variable(path):
        return
    if path.startswith(("/", "~")):
        yield Finding(
            file=where,
            line=document.line(at),
            rule="host_path",
            severity="warning",
            detail=f"uses {path!r} of the device itself",
            remedy="make sure that every device of the role has it, or use a named volume or a file of the bundle",
        )
        return
    inside = "/".join(level for level in path.split("/") if level not in ("", "."))
    if ".." in inside.split("/") or not any(one == inside or one.startswith(f"{inside}/") for one in paths):
        yield Finding(
            file=where,
            line=document.line(at),
            rule="not_in_bundle",
            detail=f"names {path!r}, which the bundle does not hold",
            remedy="put it below files/ and write ./files/…, or use a named volume",
        )
