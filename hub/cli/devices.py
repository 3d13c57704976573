"""`flaghoist device`: the devices that the hub knows, tokens for new ones, and changes."""

from __future__ import annotations

from typing import Any

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.devicechanges import add_to
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


@device.command()
@click.option("--role", required=True, type=ROLE, help="Role of the devices that will use the token.")
@click.option("--segment", required=True, type=click.Choice(SEGMENTS), help="Their segment.")
@click.option(
    "--uses", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Devices that may use it."
)
@click.option(
    "--expires-in",
    type=click.IntRange(60, 90 * 86_400),
    default=86_400,
    show_default=True,
    help="Seconds that the token is valid: a minute to 90 days.",
)
@json_option
@hub_options
def token(role: str, segment: str, uses: int, expires_in: int, as_json: bool, hub: Hub) -> None:
    """Make an enrolment token and print it; it is a secret and is shown only this once."""
    body = {"role": role, "segment": segment, "uses": uses, "expires_in": expires_in}
    answer = hub.read(hub.post("/devices/enrolment-tokens", body), dict[str, Any])
    if as_json:
        output.emit_json(answer)
        return
    output.emit(str(answer.get("token", "")))
    output.remark(f"for {uses} device{'s' if uses > 1 else ''}, until {answer.get('expires_at')}")


device.add_command(timeline)
add_to(device)
