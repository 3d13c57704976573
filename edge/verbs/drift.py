"""`drift`: how the running release differs from what was signed."""

from __future__ import annotations

import argparse
import json

import msgspec

from edge.config import Paths
from edge.drift import command, files
from topics.messages import DriftItem


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Compare; exit code 1 when something differs. Raises `EdgeError`."""
    return show(*command.check(paths), as_json=chosen.json)


def show(release: str, items: list[DriftItem], *, as_json: bool) -> int:
    """Print what differs, and return the exit code."""
    if as_json:
        print(json.dumps({"release": release, "items": msgspec.to_builtins(items)}, indent=2))
    else:
        print(files.text(release, items))
    return 1 if items else 0
