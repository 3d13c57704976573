"""`flaghoist`: the one place that puts the commands together and turns errors into a sentence and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

import click

from hub import usage
from hub.cli import errors
from hub.cli.apikeys import api_key
from hub.cli.audit import audit
from hub.cli.authority import ca
from hub.cli.devices import device
from hub.cli.governance import approve, compliance, policy
from hub.cli.keyring import keys
from hub.cli.pruning import prune
from hub.cli.recovery import recovery
from hub.cli.releases import release
from hub.cli.rollouts import rollout
from hub.cli.rootchain import add_to as add_root_commands
from hub.cli.rootkeys import add_to as add_root_key_commands
from hub.cli.roots import root
from hub.errors import HubError
from topics.errors import ContractError

PROG: Final = "flaghoist"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("flaghoist"), prog_name=PROG)
def cli() -> None:
    """Build, sign, publish and watch the releases of a fleet.

    FLAGHOIST_URL names the hub and FLAGHOIST_TOKEN holds the operator's token.
    """


add_root_commands(root)
add_root_key_commands(root)
release.add_command(prune)
release.add_command(approve)
for command in (keys, root, ca, release, rollout, device, recovery, policy, compliance, audit, api_key):
    cli.add_command(command)


def run(args: Sequence[str]) -> int:
    """Run the command line `args` and return its exit code. Prints, never raises."""
    try:
        return usage.outcome(cli, PROG, args)
    except (HubError, ContractError) as error:
        return _fail(error, str(error))
    except OSError as error:
        # What no command expected: a working folder that is gone, a path of a thousand letters.
        where = f" {error.filename}" if error.filename else ""
        return _fail(
            error,
            f"the system refused{where} ({error.strerror or error}); check the path, its owner and mode",
        )
    except Exception as error:
        if os.environ.get("FLAGHOIST_DEBUG"):
            raise
        return _fail(
            error,
            f"stopped by a fault of its own ({type(error).__name__}: {error}); "
            "run it again with FLAGHOIST_DEBUG=1 and report what that prints",
        )


def _fail(error: Exception, sentence: str) -> int:
    usage.say(PROG, sentence)
    return errors.exit_code(error)


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character shows its code; no result is lost over it.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))
