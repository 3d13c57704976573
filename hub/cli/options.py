"""Options that many commands share, and the connection they describe."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from hub.cli.api import Hub
from hub.cli.files import read_small

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
file_argument = click.Path(path_type=Path)


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
    if path is None:
        token = os.environ.get("FLAGHOIST_TOKEN", "").strip()
    else:
        token = read_small(path, "a token file").decode("ascii", "replace").strip()
    if not token:
        raise click.UsageError("no token is given; set FLAGHOIST_TOKEN or give --token-file")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError(
            "the token is not one word of plain text; give the text of the hub's admin.token"
        )
    return token
