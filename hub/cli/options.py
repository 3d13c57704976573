"""Options that many commands share, and the connection they describe."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from hub.cli.api import Hub
from hub.cli.files import read_small
from hub.errors import SetupError
from topics import names
from topics.errors import TopicError


class NameType(click.ParamType[str]):
    """A name that `check` of `topics.names` lets through: anything else is wrong usage before the hub is asked."""

    def __init__(self, name: str, check: Callable[[str], str]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` as it is."""
        try:
            return self._check(value)
        except TopicError as error:
            self.fail(str(error), param, ctx)


class FileType(click.Path):
    """A path. An empty one, from a variable that was not set, is not the present folder."""

    def __init__(self) -> None:
        # Click's own question whether it can be read would answer 2 for what is this machine's fault (3).
        super().__init__(path_type=Path, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as a `Path`."""
        if value == "":
            self.fail("an empty text is not a path; write . for the present folder", param, ctx)
        return super().convert(value, param, ctx)


TOKEN_LIMIT: Final = 8 * 1024
"""Largest token in bytes; a server takes no longer header."""

RELEASE: Final = NameType("release", names.release_id)
DEVICE: Final = NameType("device", names.device_id)
ROLE: Final = NameType("role", names.role)
FLEET: Final = NameType("fleet", names.fleet)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
file_argument = FileType()
release_argument = click.argument("release_id", metavar="ID", type=RELEASE)
device_argument = click.argument("device_id", metavar="ID", type=DEVICE)
url_option = click.option(
    "--url", envvar="FLAGHOIST_URL", help="Address of the hub's API; default $FLAGHOIST_URL."
)
token_file_option = click.option(
    "--token-file",
    type=file_argument,
    help="File that holds the operator's token; default the token in $FLAGHOIST_TOKEN.",
)


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url` and `--token-file`, and pass the `Hub` they name as the keyword `hub`."""

    @url_option
    @token_file_option
    @wraps(command)
    def with_hub(*args: Any, url: str | None, token_file: Path | None, **options: Any) -> Any:
        return command(*args, hub=connect(url, token_file), **options)

    return with_hub


def connect(url: str | None, token_file: Path | None) -> Hub:
    """Return the hub that the options name, closed when the command ends; raises `click.UsageError`."""
    if not url:
        raise click.UsageError("no hub is named; set FLAGHOIST_URL or give --url")
    hub = Hub(url, _token(token_file))
    click.get_current_context().call_on_close(hub.close)
    return hub


def _token(path: Path | None) -> str:
    if path is not None:
        token = read_small(path, "a token file", limit=TOKEN_LIMIT).decode("ascii", "replace").strip()
        if not _is_token(token):
            raise SetupError(f"{path} does not hold a token; give the path of the hub's admin.token")
        return token
    token = os.environ.get("FLAGHOIST_TOKEN", "").strip()
    if not token:
        raise click.UsageError("no token is given; set FLAGHOIST_TOKEN or give --token-file")
    if not _is_token(token):
        raise click.UsageError(
            "the token is not one word of plain text; give the text of the hub's admin.token"
        )
    return token


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
