"""`once`: the agent until it has done what is to be done, from its broker or from a mirror."""

from __future__ import annotations

import argparse
import os

from edge.config import ENV_PREFIX, Paths


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Run the agent once. Raises `EdgeError`."""
    if not chosen.mirror:
        from edge import resident

        return resident.run(paths, chosen.arguments, once=True)
    from edge import mirror

    # By the environment, so that the update process knows it too.
    os.environ[f"{ENV_PREFIX}MIRROR"] = chosen.mirror
    print(mirror.run(paths, chosen.arguments))
    return 0
