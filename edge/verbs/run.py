"""`run`: the agent, until it is told to stop."""

from __future__ import annotations

import argparse

from edge import resident
from edge.config import Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Run the agent. Raises `EdgeError`."""
    return resident.run(paths, chosen.arguments, once=False)
