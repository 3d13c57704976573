"""`flaghoist ca`: the CA that devices know their broker by, and its replacement."""

from __future__ import annotations

from typing import Any

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import hub_options, json_option

_left = click.option(
    "--leave-behind",
    is_flag=True,
    help="Do it although devices do not know the new CA; HTTP is left to them.",
)


@click.group()
def ca() -> None:
    """See to the CA that devices know their broker by."""


@ca.command()
@json_option
@hub_options
def show(as_json: bool, hub: Hub) -> None:
    """Show which CAs devices believe, and how many devices do not know the newest."""
    _show(hub.read(hub.get("/trust/ca"), dict[str, Any]), as_json=as_json)


@ca.command()
@json_option
@hub_options
def announce(as_json: bool, hub: Hub) -> None:
    """Make a new CA, and tell devices of it."""
    _step(hub, "announce", leave_behind=False, as_json=as_json)


@ca.command()
@_left
@json_option
@hub_options
def switch(leave_behind: bool, as_json: bool, hub: Hub) -> None:
    """Let the broker show a certificate by the new CA."""
    _step(hub, "switch", leave_behind=leave_behind, as_json=as_json)


@ca.command()
@_left
@json_option
@hub_options
def retire(leave_behind: bool, as_json: bool, hub: Hub) -> None:
    """Believe the former CA no longer, as after a theft of its key; the broker starts again."""
    _step(hub, "retire", leave_behind=leave_behind, as_json=as_json)


def _step(hub: Hub, step: str, *, leave_behind: bool, as_json: bool) -> None:
    answer = hub.post("/trust/ca/steps", {"step": step, "leave_behind": leave_behind})
    _show(hub.read(answer, dict[str, Any]), as_json=as_json)


def _show(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.emit_json(item)
        return
    serving = item.get("serving", {}).get("sha256")
    rows = [
        [
            one.get("sha256"),
            output.seconds(one.get("not_after")),
            "yes" if one.get("sha256") == serving else "no",
        ]
        for one in item.get("trusted", [])
    ]
    output.table(["sha256", "ends", "shown by the broker"], rows)
    output.remark(f"{item.get('state')}; devices that do not know the newest yet: {item.get('waiting')}")
    if item.get("missing"):
        output.remark(f"among them {', '.join(item['missing'])}")
