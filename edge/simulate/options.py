"""The options of `flaghoist-edge simulate`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

ABOUT: Final = "run a fleet of simulated devices against a hub, to rehearse a rollout"
MOST: Final = 100_000
_PERCENT: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?%")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb with its options."""
    parser = verbs.add_parser("simulate", help=ABOUT, description=ABOUT)
    parser.set_defaults(misused=parser.error)
    option = parser.add_argument
    option("--devices", type=_whole(1, MOST), required=True, metavar="N", help="how many devices")
    option("--hub", default="", metavar="URL", help="the hub at which devices that are new enrol")
    option(
        "--token",
        action="append",
        default=[],
        metavar="T",
        help="enrolment token with uses enough, else $FLAGHOIST_ENROL_TOKEN; several share the devices out evenly",
    )
    option("--prefix", default="sim-", metavar="P", help="what device ids begin with (default sim-)")
    option("--hardware", default="simulated", metavar="H", help="hardware name that releases may require")
    option(
        "--fail", type=_share, default=0.0, metavar="P%", help="share on which a release fails in probation"
    )
    option("--slow", type=_share, default=0.0, metavar="P%", help="share that takes ten times as long")
    option(
        "--offline", type=_share, default=0.0, metavar="P%", help="share that goes dark while it activates"
    )
    option(
        "--offline-seconds",
        type=_seconds,
        default=None,
        metavar="S",
        help="how long those stay dark (default: to the end)",
    )
    option(
        "--seconds-per-step",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="how long each of the four steps of an update takes on average (default 1)",
    )
    option(
        "--seed",
        type=_whole(0, 2**63),
        default=1,
        metavar="N",
        help="the same seed ends the same way (default 1)",
    )
    option("--fetch", action="store_true", help="really download bundles and check their hashes")
    option(
        "--threshold",
        type=_percent,
        default="10%",
        metavar="P%",
        help="max_ratio of the policy (default 10%%)",
    )
    option(
        "--min-reports", type=_whole(1, 10**6), default=3, metavar="N", help="min_reports of it (default 3)"
    )
    option("--state", type=Path, default=None, metavar="DIR", help="keep devices there, for another run")
    option(
        "--for",
        type=_seconds,
        default=None,
        dest="seconds",
        metavar="S",
        help="end after that (default: a signal)",
    )
    option("--json", action="store_true", help="as JSON")


def _percent(text: str) -> str:
    """Return `text` when it is a percentage: without its sign, 0.5 could mean a half or half a percent."""
    if _PERCENT.fullmatch(text) is None or float(text.removesuffix("%")) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage; write it like 3%")
    return text


def _share(text: str) -> float:
    return float(_percent(text).removesuffix("%")) / 100


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 30 * 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse
