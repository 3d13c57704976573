"""Secrets of a fleet, and the logs that they must not stand in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

SHORTEST: Final = 16
"""Anything shorter would be found by chance."""


def secrets_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (whose, text) of every token and private key below a folder, in each form it might be written in."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        if path.name == "admin.token":
            yield path.name, path.read_text().strip()
        elif path.suffix == ".key" or path.name == "key.pem":
            text = path.read_text()
            if "PRIVATE KEY" in text:
                body = "".join(line for line in text.splitlines() if not line.startswith("-"))
                seed = base64.b64decode(body)[-32:]
            else:
                seed = bytes.fromhex(json.loads(text)["secret_key"])
            yield path.name, seed.hex()
            # The seed fills the end of the text, whatever stands before it.
            yield path.name, base64.b64encode(seed).decode()[:-4]


def logs_of(folder: Path) -> Iterator[Path]:
    """Yield every log that a hub or an agent wrote; those of broker and services are in them."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".log", ".ndjson"):
            yield path


def found(folder: Path, more: Iterable[str] = ()) -> list[str]:
    """Return what of the secrets below `folder`, and of `more`, stands in its logs: in which log, and whose it is."""
    secrets = [*secrets_of(folder), *[("a token", text) for text in more]]
    leaks = []
    for log in logs_of(folder):
        text = log.read_text(errors="replace")
        leaks += [
            f"{log.name} holds {whose}" for whose, one in secrets if len(one) >= SHORTEST and one in text
        ]
    return sorted({*leaks})
