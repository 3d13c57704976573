"""`install FILE`: a release from a stick."""

from __future__ import annotations

import argparse

from edge.byhand import orders
from edge.config import Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Install and say what runs. Raises `EdgeError`."""
    print(orders.install(paths, chosen.file, release_id=chosen.release, older=chosen.older))
    return 0
