"""What a `compose.yaml` may say, read line by line. Pure.

Two rules against mistakes (what is malicious, a release's signers have to see): each `image` key is followed on
its line by a name with a digest, and nothing that decides which code runs (`image`, `command`, `entrypoint`,
`volumes`) holds a variable, which a device could fill in as it likes. Without a YAML parser, since the rules then
hold for whatever parser reads the file later; in doubt a line is refused.
"""

from __future__ import annotations

import re
from typing import Final

from hub.cli.errors import Refused

_NAMES: Final = "image|command|entrypoint|volumes"
_KEY: Final = re.compile(
    rf"""(?:^|(?<=[\s{{,]))(?:["'](?P<quoted>{_NAMES})["']\s*:|(?P<plain>{_NAMES})\s*:(?=\s|$))(?=(?P<value>.*))"""
)
_PINNED: Final = re.compile(r"""^["']?[a-z0-9][^\s"'${}]*@sha256:[0-9a-f]{64}["']?\s*(?:[,}\s#].*)?\Z""")
_VARIABLE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$(?!\$)")


def check(text: str, where: str, *, allow_unpinned: bool) -> None:
    """Refuse a compose file that could run something else than what was reviewed; raises `Refused`."""
    inside: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = len(line) - len(stripped)
        # A list may stand at its key's own depth: `volumes:` above `- data:/data`.
        if inside and (indent > inside[0] or (indent == inside[0] and stripped.startswith("- "))):
            _refuse_variable(line, inside[1], f"{where}:{number}")
        else:
            inside = None
        for found in _KEY.finditer(line):
            key, value = found["quoted"] or found["plain"], found["value"]
            _refuse_variable(value, key, f"{where}:{number}")
            if key == "image" and not allow_unpinned and not _PINNED.match(value.strip()):
                raise Refused(
                    f"{where}:{number} names an image without a digest; write NAME:TAG@sha256:… "
                    "(docker buildx imagetools inspect NAME:TAG shows it), or set allow_unpinned_images"
                )
            inside = inside or (indent, key)


def _refuse_variable(text: str, key: str, where: str) -> None:
    if _VARIABLE.search(text):
        raise Refused(
            f"{where} has a variable in {key!r}; write the value out, or pass it to the container in its environment"
        )
