"""`flaghoist`: the one place that puts the commands together and turns errors into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from hub.cli import errors
from hub.cli.devices import device
from hub.cli.keyring import keys
from hub.cli.output import clean
from hub.cli.releases import release
from hub.cli.rollouts import rollout
from hub.cli.rootchain import add_to as add_root_commands
from hub.cli.roots import root
from hub.errors import HubError
from topics.errors import ContractError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("flaghoist"), prog_name="flaghoist")
def cli() -> None:
    """Build, sign, publish and watch the releases of a fleet.

    FLAGHOIST_URL names the hub and FLAGHOIST_TOKEN holds the operator's token.
    """


add_root_commands(root)
for command in (keys, root, release, rollout, device):
    cli.add_command(command)


def run(args: Sequence[str]) -> int:
    """Run the command line `args` and return its exit code. Prints, never raises.

    When the reader of the output has gone (`| head`), click ends the process quietly with 1.
    """
    try:
        code = cli.main(args=list(args), prog_name="flaghoist", standalone_mode=False)
        return code if isinstance(code, int) else errors.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return errors.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "flaghoist"
        return _fail(error, f"{error.format_message().rstrip('.')} (see `{path} --help`)")
    except (HubError, ContractError) as error:
        return _fail(error, str(error))
    except (click.Abort, KeyboardInterrupt):
        return errors.INTERRUPTED
    except Exception as error:
        if os.environ.get("FLAGHOIST_DEBUG"):
            raise
        return _fail(
            error,
            f"stopped by a fault of its own ({type(error).__name__}: {error}); "
            "run it again with FLAGHOIST_DEBUG=1 and report what that prints",
        )


def _fail(error: Exception, sentence: str) -> int:
    print(f"flaghoist: {clean(' '.join(sentence.split()))}", file=sys.stderr)
    return errors.exit_code(error)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
