"""The hook's own view of the running release: each service that is not as the release declares it.

Its `probe` is asked with FLAGHOIST_ITEMS naming a file, to which it adds a line of JSON for each difference:
`{"name": "web", "expected": "running", "found": "exited (1)"}`. A hook that knows nothing of this adds none; then its
reason stands for all.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import msgspec

from edge.updating.hooks import Hooks, Place
from topics.messages import DriftItem

MAX_BYTES: Final = 64 * 1024
_SHOWN: Final = 128
_UNREADABLE: Final = "?"
"""Name under which a line is shown that is no difference."""


class _Told(msgspec.Struct):
    name: str
    expected: str = ""
    found: str = ""


def look(hooks: Hooks, place: Place, scratch: Path) -> list[DriftItem]:
    """Return what the hook says of its services. One that cannot be asked, on a full disk, is told of as well."""
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            told = Path(folder) / "items"
            result = hooks.call("probe", place, items=told)
            items = parse(hooks.masked(_read(told)))
    except OSError as error:
        return [item(place.hook, "running", f"cannot be asked: {error.strerror}")]
    if items or result.ok or result.later:
        return items
    return [item(place.hook, "running", result.reason)]


def parse(text: str) -> list[DriftItem]:
    """Return the differences in the lines of a hook. Pure. A line that is not one is shown as it is: the hook meant
    something by it."""
    items = []
    for line in filter(str.strip, text.splitlines()):
        try:
            told = msgspec.json.decode(line, type=_Told)
        except (msgspec.MsgspecError, UnicodeError):
            told = _Told(_UNREADABLE, "", line)
        items.append(item(told.name, told.expected, told.found))
    return items


def item(name: str, expected: str, found: str) -> DriftItem:
    """Return one difference of a service, cut to what a report may hold."""
    return DriftItem(path=_text(name), what="service", expected=_text(expected), found=_text(found))


def _text(text: str) -> str:
    return text.replace("\0", "")[:_SHOWN]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
