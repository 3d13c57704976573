"""`leave-safe-mode`: start the release again that safe mode stopped."""

from __future__ import annotations

import argparse

from edge.byhand import orders
from edge.config import Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Leave safe mode and say what runs. Raises `EdgeError`."""
    print(orders.leave_safe_mode(paths))
    return 0
