"""`status`: what runs here, from the state directory alone."""

from __future__ import annotations

import argparse
import json

from edge import status
from edge.config import Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Show the status. Raises `EdgeError`."""
    values = status.gather(paths)
    print(json.dumps(values, indent=2) if chosen.json else status.text(values))
    return 0
