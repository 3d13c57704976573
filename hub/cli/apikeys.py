"""`flaghoist api-key`: keys by which people and programs call the hub."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from hub.caller import RANKS
from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import hub_options, json_option

SHOWN = ("id", "name", "role", "created_at", "created_by", "expires_at")


@click.group("api-key")
def api_key() -> None:
    """Make, list and revoke keys for people, CI, dashboards and Prometheus."""


@api_key.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice(list(RANKS)), default="viewer", show_default=True, help="What the key may do."
)
@click.option(
    "--days", type=click.IntRange(1, 730), default=90, show_default=True, help="Days that the key is valid."
)
@json_option
@hub_options
def create(name: str, role: str, days: int, as_json: bool, hub: Hub) -> None:
    """Make a key for NAME and print it; it is a secret and is shown only this once.

    A key for Prometheus needs no more than `--role viewer`; a pipeline that publishes needs `release-manager`.
    """
    answer = hub.read(
        hub.post("/api-keys", {"name": name, "role": role, "expires_in": days * 86_400}), dict[str, Any]
    )
    if as_json:
        output.emit_json(answer)
        return
    output.emit(str(answer.get("key", "")))
    output.remark(f"{answer.get('id')} for {name}: {role}, until {output.seconds(answer.get('expires_at'))}")


@api_key.command("list")
@json_option
@hub_options
def list_keys(as_json: bool, hub: Hub) -> None:
    """List keys, without their texts."""
    found = list(hub.items("/api-keys"))
    if as_json:
        output.emit_json(found)
        return
    rows = [[output.seconds(item.get(key)) for key in SHOWN] for item in found]
    output.table([key.replace("_", " ") for key in SHOWN], rows)


@api_key.command()
@click.argument("key_id", metavar="ID")
@json_option
@hub_options
def revoke(key_id: str, as_json: bool, hub: Hub) -> None:
    """Refuse a key from now on. `list` shows the ids."""
    hub.delete(f"/api-keys/{quote(key_id, safe='')}")
    if as_json:
        output.emit_json({"id": key_id, "revoked": True})
        return
    output.emit(f"{key_id} revoked")
