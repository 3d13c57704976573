"""The options that every benchmark of several parts takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple


class Chosen(NamedTuple):
    """What to run, whether with little, and whether the last line is JSON."""

    parts: list[str]
    small: bool
    json: bool


def chosen(description: str, parts: Sequence[str]) -> Chosen:
    """Read the command line; ends the process for wrong usage."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one object of the figures at the end")
    parser.add_argument(
        "--small", action="store_true", help="run everything with little, to see that it runs"
    )
    parser.add_argument("--only", default=",".join(parts), help="some of %(default)s", metavar="PARTS")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if set(wanted) - set(parts):
        parser.error(f"--only takes some of {','.join(parts)}")
    return Chosen(wanted, given.small, given.json)
