"""`update`: the agent's own command, which carries an update to its end."""

from __future__ import annotations

import argparse

from edge.config import Paths
from edge.updating import child


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Be the update process. Raises `EdgeError`."""
    return child.run(paths, tell=chosen.tell, parent=chosen.parent)
