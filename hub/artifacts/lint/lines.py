"""What a `compose.yaml` may say, read line by line. Pure.

Two rules against mistakes (what is malicious, a release's signers have to see): each `image` key is followed on
its line by a name with a digest, and nothing that decides which code runs (`image`, `command`, `entrypoint`,
`volumes`) holds a variable, which a device could fill in as it likes. Without a YAML parser, since the rules then
hold for whatever parser reads the file later; in doubt a line is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hub.artifacts.lint.findings import Finding

_NAMES: Final = "image|command|entrypoint|volumes"
_KEY: Final = re.compile(
    rf"""(?:^|(?<=[\s{{,]))(?:["'](?P<quoted>{_NAMES})["']\s*:|(?P<plain>{_NAMES})\s*:(?=\s|$))(?=(?P<value>.*))"""
)
_PINNED: Final = re.compile(r"""^["']?[a-z0-9][^\s"'${}]*@sha256:[0-9a-f]{64}["']?\s*(?:[,}\s#].*)?\Z""")
_VARIABLE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$(?!\$)")


def check(text: str, where: str, *, allow_unpinned: bool) -> list[Finding]:
    """Return what lets a compose file run something else than what was reviewed; one finding a line and rule."""
    return list(
        {(finding.line, finding.rule): finding for finding in _all(text, where, allow_unpinned)}.values()
    )


def _all(text: str, where: str, allow_unpinned: bool) -> Iterator[Finding]:
    inside: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = len(line) - len(stripped)
        # A list may stand at its key's own depth: `volumes:` above `- data:/data`.
        if inside and (indent > inside[0] or (indent == inside[0] and stripped.startswith("- "))):
            yield from _variable(line, inside[1], where, number)
        else:
            inside = None
        for found in _KEY.finditer(line):
            key, value = found["quoted"] or found["plain"], found["value"]
            variable = list(_variable(value, key, where, number))
            yield from variable
            if key == "image" and not variable and not allow_unpinned and not _PINNED.match(value.strip()):
                yield Finding(
                    file=where,
                    line=number,
                    rule="image_digest",
                    detail="names an image without a digest",
                    remedy="write NAME:TAG@sha256:… (docker buildx imagetools inspect NAME:TAG shows it), "
                    "or set allow_unpinned_images",
                )
            inside = inside or (indent, key)


def has_variable(text: str) -> bool:
    """Return whether compose would put a variable's value into `text`; `$$` is a dollar."""
    return _VARIABLE.search(text) is not None


def _variable(text: str, key: str, where: str, number: int) -> Iterator[Finding]:
    if has_variable(text):
        yield Finding(
            file=where,
            line=number,
            rule="variable_decides_code",
            detail=f"has a variable in {key!r}",
            remedy="write the value out, or pass it to the container in its environment",
        )
