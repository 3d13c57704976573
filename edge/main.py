"""The `flaghoist-edge` command.

Exit codes: 0 done; 1 refused or failed; 2 usage; 3 this machine is not ready; 4 the hub or the broker cannot
be reached; 5 not trusted; 130 ended from the keyboard.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Final, NoReturn

from edge.config import Paths
from edge.errors import EdgeError, NotReady
from edge.selfupdate import launcher
from edge.verbs import parser

_OF_THE_DISK: Final = (errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # The agent's own commands, which people never see.
    own = arguments[:1] in (["update"], ["self-check"])
    chosen = (parser.build_own() if own else parser.build()).parse_args(arguments)
    chosen.arguments = arguments
    try:
        if chosen.verb == "simulate":
            from edge.simulate import command

            return command.run(chosen)
        paths = Paths(chosen.state.absolute(), chosen.hooks.absolute())
        if not own:
            launcher.enter(paths, chosen.verb, arguments)
        # Each command loads only its own modules: the agent that stays in memory carries none of the others.
        verb = importlib.import_module(f"edge.verbs.{chosen.verb.replace('-', '_')}")
        code: int = verb.run(paths, chosen)
        return code
    except EdgeError as error:
        print(f"flaghoist-edge: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        out = "; flaghoist-edge diagnose says how the disk is" if error.errno in _OF_THE_DISK else ""
        print(f"flaghoist-edge: the system refused{where}: {error.strerror or error}{out}", file=sys.stderr)
        return NotReady.exit_code
    except UnicodeError:
        print("flaghoist-edge: an argument is not text; give names and paths in UTF-8", file=sys.stderr)
        return NotReady.exit_code
    except KeyboardInterrupt:
        return 130


def program() -> NoReturn:
    """Be the command, as a process of its own.

    Ends without taking the interpreter apart, a sixth of what `once` costs: nothing waits to be written by then, since
    whatever matters is on disk before the power may fail.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as when it was closed before the start
                stream.flush()
        except OSError:
            code = code or EdgeError.exit_code
    os._exit(code)


if __name__ == "__main__":
    program()
