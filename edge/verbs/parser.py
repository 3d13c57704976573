"""The command line of `flaghoist-edge`: every command with its options, and nothing that carries them out."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from edge.config import DEFAULT_HOOKS, DEFAULT_STATE
from edge.simulate import options


def build() -> argparse.ArgumentParser:
    """Return the parser of what people type."""
    parser = argparse.ArgumentParser(prog="flaghoist-edge", description="Keeps this device on its release.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    enrol = _verb(verbs, "enrol", "make this device known to a hub")
    enrol.add_argument("--hub", required=True, metavar="URL", help="the hub, like http://hub.example:8080")
    enrol.add_argument("--token", metavar="T", help="enrolment token; else $FLAGHOIST_ENROL_TOKEN")
    enrol.add_argument("--device-id", required=True, metavar="ID", help="name of this device in the fleet")
    enrol.add_argument("--hardware", default="", metavar="H", help="hardware name that releases may require")
    enrol.add_argument("--serial", default="", metavar="S", help="serial number, for the hub's records")
    enrol.set_defaults(misused=enrol.error)
    _verb(verbs, "run", "stay connected and keep the release running")
    once = _verb(verbs, "once", "connect, act, report, say when to wake next, exit")
    once.add_argument("--mirror", metavar="URL", help="read a copy of what the hub publishes instead")
    _json(_verb(verbs, "status", "show what runs here, without a network"))
    diagnose = _verb(verbs, "diagnose", "check clock, disk, trust, release and the way to the broker")
    shape = diagnose.add_mutually_exclusive_group()
    shape.add_argument(
        "--watch", type=_seconds, nargs="?", const=5.0, metavar="S", help="again every S seconds (5)"
    )
    shape.add_argument("--bundle", type=Path, metavar="FILE", help="write an archive for support")
    _json(diagnose)
    _json(_verb(verbs, "drift", "compare the running release, byte by byte, with what was signed"))
    _json(_verb(verbs, "repair", "put the running release's files back as they were signed"))
    confirm = _verb(verbs, "confirm-boot", "say that this boot is good, once the release runs")
    confirm.add_argument(
        "--seconds", type=float, default=600.0, metavar="S", help="how long to wait for that"
    )
    confirm.add_argument(
        "--no-agent", action="store_true", help="on a device that sleeps: no agent has to run"
    )
    install = _verb(verbs, "install", "install a release from a stick, without a network")
    install.add_argument(
        "file", type=Path, metavar="FILE", help="an exported release, or a folder of exports"
    )
    install.add_argument("--release", metavar="ID", help="which of a folder's releases")
    install.add_argument("--older", action="store_true", help="also when a newer release runs here")
    _verb(verbs, "rollback", "go back to the release that ran before")
    _verb(verbs, "leave-safe-mode", "start the release again that safe mode stopped")
    options.add(verbs)
    return parser


def build_own() -> argparse.ArgumentParser:
    """Return the parser of what the agent starts itself by: people are not shown it, in errors neither."""
    parser = argparse.ArgumentParser(prog="flaghoist-edge", add_help=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    update = _verb(verbs, "update", "carry an update on; started by the agent")
    update.add_argument("--tell", type=int, default=None)
    update.add_argument("--parent", type=int, default=None)
    _verb(verbs, "self-check", "say whether this build of the agent runs here; asked by the one before it")
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= (seconds := float(text)) <= 86_400:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; give one from 0.1 to 86400")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=about, description=about)
    parser.add_argument(
        "--state",
        type=Path,
        default=DEFAULT_STATE,
        metavar="DIR",
        help=f"state directory (default {DEFAULT_STATE})",
    )
    parser.add_argument(
        "--hooks",
        type=Path,
        default=DEFAULT_HOOKS,
        metavar="DIR",
        help="folder of hooks (default: those installed)",
    )
    return parser
