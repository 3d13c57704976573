"""`flaghoist device timeline`: what happened to a device."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.deviceview import path_of
from hub.cli.options import device_argument, hub_options, json_option
from topics.messages import DURABLE_TYPES

KINDS: Final = ("status", *DURABLE_TYPES, "presence", "release", "audit")
PAGE: Final = 500
_TIME: Final = "TIME"


@click.command()
@device_argument
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Only entries of this kind. May be given several times.",
)
@click.option(
    "--from", "begin", metavar=_TIME, help="Only entries from this time on, like 2026-11-25T09:30:00Z."
)
@click.option("--to", "end", metavar=_TIME, help="Only entries before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="Entries, the newest ones.",
)
@json_option
@hub_options
def timeline(
    device_id: str,
    kinds: tuple[str, ...],
    begin: str | None,
    end: str | None,
    limit: int,
    as_json: bool,
    hub: Hub,
) -> None:
    """Show what happened to a device, the newest first."""
    query = {"kind": ",".join(kinds) or None, "from": begin, "to": end, "limit": min(limit, PAGE)}
    found: list[dict[str, Any]] = list(islice(hub.items(f"{path_of(device_id)}/timeline", **query), limit))
    if as_json:
        output.emit_json(found)
        return
    rows = [[output.seconds(item.get("at")), item.get("kind"), item.get("text")] for item in found]
    output.table(("at", "kind", "what"), rows)
