"""`flaghoist device`: the devices that the hub knows, tokens for new ones, and changes."""

from __future__ import annotations

from typing import Any

import click

from hub.cli import devicechanges, enrolment, output
from hub.cli.api import Hub
from hub.cli.deviceview import SHOWN, path_of, show_device
from hub.cli.options import ROLE, device_argument, hub_options, json_option
from hub.cli.timeline import timeline
from topics.names import SEGMENTS

FIRST_IN_LIST = ("device", "role", "segment", "presence", "health", "running", "state", "last seen")


@click.group()
def device() -> None:
    """List and change devices, and make enrolment tokens."""


@device.command("list")
@click.option("--role", type=ROLE, help="Only devices of this role.")
@click.option("--segment", type=click.Choice(SEGMENTS), help="Only devices of this segment.")
@json_option
@hub_options
def list_devices(role: str | None, segment: str | None, as_json: bool, hub: Hub) -> None:
    """List devices, with what each runs."""
    found = list(hub.items("/devices", role=role, segment=segment))
    if as_json:
        output.emit_json(found)
        return
    keys = [key for key in SHOWN if key != "running_version"]
    output.table(FIRST_IN_LIST, [[output.seconds(item.get(key)) for key in keys] for item in found])


@device.command()
@device_argument
@json_option
@hub_options
def show(device_id: str, as_json: bool, hub: Hub) -> None:
    """Show one device, with the hub's answer to whether it is eligible."""
    show_device(hub.read(hub.get(path_of(device_id)), dict[str, Any]), as_json=as_json)


device.add_command(timeline)
devicechanges.add_to(device)
enrolment.add_to(device)
