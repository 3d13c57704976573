"""The `flaghoist-edge` command.

Exit codes: 0 done; 1 refused or failed; 2 usage; 3 this machine is not ready; 4 the hub or the broker cannot
be reached; 5 not trusted.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge.config import DEFAULT_HOOKS, DEFAULT_STATE, ENV_PREFIX, Paths
from edge.errors import EdgeError, NotReady
from edge.simulate import options


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # The update process is the agent's own: people are not shown its verb, in errors neither.
    parser = _own_parser() if arguments[:1] == ["update"] else _parser()
    chosen = parser.parse_args(arguments)
    try:
        # Each verb loads only its own modules: the agent that stays in memory carries none of the others.
        if chosen.verb == "simulate":
            from edge.simulate import command

            return command.run(chosen)
        paths = Paths(chosen.state.absolute(), chosen.hooks.absolute())
        match chosen.verb:
            case "enrol":
                return _enrol(paths, chosen)
            case "status":
                return _status(paths, chosen)
            case "drift" | "repair":
                return _drift(paths, chosen)
            case "diagnose":
                return _diagnose(paths, chosen)
            case "update":
                from edge.updating import child

                return child.run(paths, tell=chosen.tell, parent=chosen.parent)
            case "once" if chosen.mirror:
                from edge import mirror

                # By the environment, so that the update process knows it too.
                os.environ[f"{ENV_PREFIX}MIRROR"] = chosen.mirror
                print(mirror.run(paths))
                return 0
            case verb:
                from edge import resident

                return resident.run(paths, arguments, once=verb == "once")
    except EdgeError as error:
        print(f"flaghoist-edge: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"flaghoist-edge: the system refused{where}: {error.strerror or error}", file=sys.stderr)
        return NotReady.exit_code
    except UnicodeError:
        print("flaghoist-edge: an argument is not text; give names and paths in UTF-8", file=sys.stderr)
        return NotReady.exit_code
    except KeyboardInterrupt:
        return 130


def _enrol(paths: Paths, chosen: argparse.Namespace) -> int:
    from edge.identity import enrol
    from edge.machine.clock import SystemClock

    token = chosen.token or os.environ.get("FLAGHOIST_ENROL_TOKEN", "")
    if not token:
        chosen.misused("a token is needed: give --token T, or set FLAGHOIST_ENROL_TOKEN")
    wanted = enrol.Wanted(chosen.hub, token, chosen.device_id, chosen.hardware, chosen.serial)
    done = enrol.enrol(paths, wanted, SystemClock())
    device = done.device
    print(
        f"enrolled {device.device_id} in fleet {device.fleet}; start it with: flaghoist-edge run --state {paths.root}"
    )
    if done.again:
        print(
            f"it was enrolled before: role {done.role} and segment {done.segment} stay as they are, whatever the token"
            f" names; an operator changes them with: flaghoist device set {device.device_id}"
        )
    return 0


def _status(paths: Paths, chosen: argparse.Namespace) -> int:
    import json

    from edge import status

    values = status.gather(paths)
    print(json.dumps(values, indent=2) if chosen.json else status.text(values))
    return 0


def _drift(paths: Paths, chosen: argparse.Namespace) -> int:
    import json

    import msgspec

    from edge.drift import command as driftcommand
    from edge.drift import files as drift

    release, items = driftcommand.check(paths) if chosen.verb == "drift" else driftcommand.repair(paths)
    if chosen.json:
        print(json.dumps({"release": release, "items": msgspec.to_builtins(items)}, indent=2))
    else:
        print(drift.text(release, items))
    return 1 if items else 0


def _diagnose(paths: Paths, chosen: argparse.Namespace) -> int:
    from edge.diagnose import command

    said, code = command.run(paths, as_json=chosen.json)
    print(said)
    return code


def _parser() -> argparse.ArgumentParser:
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
    status = _verb(verbs, "status", "show what runs here, without a network")
    status.add_argument("--json", action="store_true", help="as JSON")
    diagnose = _verb(verbs, "diagnose", "check clock, disk, trust, release and the way to the broker")
    diagnose.add_argument("--json", action="store_true", help="as JSON")
    drift = _verb(verbs, "drift", "compare the running release, byte by byte, with what was signed")
    drift.add_argument("--json", action="store_true", help="as JSON")
    repair = _verb(verbs, "repair", "put the running release's files back as they were signed")
    repair.add_argument("--json", action="store_true", help="as JSON")
    options.add(verbs)
    return parser


def _own_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flaghoist-edge", add_help=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    update = _verb(verbs, "update", "carry an update on; started by the agent")
    update.add_argument("--tell", type=int, default=None)
    update.add_argument("--parent", type=int, default=None)
    return parser


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


if __name__ == "__main__":
    raise SystemExit(main())
