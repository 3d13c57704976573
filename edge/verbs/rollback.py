"""`rollback`: back to the release that ran before."""

from __future__ import annotations

import argparse

from edge.byhand import orders
from edge.config import Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Go back and say what runs. Raises `EdgeError`."""
    print(orders.rollback(paths))
    return 0
