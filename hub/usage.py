"""How a command line ends when click ends it: one sentence on standard error, and an exit code.

Both `flaghoist` and `flaghoist-hub` say a usage error in the same way as any other: `PROG: sentence`, which click
by itself spreads over several lines. Help (`--help`) stays as click makes it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells count it: 128 and the number of SIGINT."""


def run(command: click.Command, prog: str) -> NoReturn:
    """Run `command` on the process's own arguments under the name `prog`, and end the process.

    The exit code is 0, what the command gave to `sys.exit` or `ctx.exit`, 2 for wrong usage, 130 for Ctrl-C. Other
    exceptions pass through.
    """
    sys.exit(outcome(command, prog, sys.argv[1:]))


def outcome(command: click.Command, prog: str, args: Sequence[str]) -> int:
    """Run `command` on `args` and return the exit code; other exceptions than click's pass through.

    When the reader of the output has gone (`| head`), click ends the process quietly with 1.
    """
    try:
        _check_text(args)
        code = command.main(args=list(args), prog_name=prog, standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else prog
        say(prog, f"{_words(error).rstrip('.')} (see `{path} --help`)")
        return error.exit_code
    except click.ClickException as error:
        say(prog, error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def say(prog: str, sentence: str) -> None:
    """Print `PROG: sentence` as one line on standard error."""
    print(f"{prog}: {clean(' '.join(sentence.split()))}", file=sys.stderr)  # noqa: T201


def clean(text: object) -> str:
    """Return `text` on one line and without control characters: names from devices must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def _words(error: click.UsageError) -> str:
    if not isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    # Click would print the whole help here, which nobody asked for.
    group = error.ctx.command
    commands = group.list_commands(error.ctx) if isinstance(group, click.Group) else []
    return f"a command is missing; give one of {', '.join(commands)}"


def _check_text(args: Sequence[str]) -> None:
    """Refuse arguments of undecodable bytes, which Python hands on as lone surrogates; raises `click.UsageError`."""
    for arg in args:
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"argument {arg!r} is not text; give names and paths in UTF-8") from None
