"""`flaghoist device`: the devices that the hub knows, and tokens for new ones."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import hub_options, json_option
from topics import names
from topics.errors import TopicError
from topics.names import SEGMENTS

SHOWN = (
    "device_id",
    "role",
    "segment",
    "presence",
    "health",
    "running",
    "running_version",
    "state",
    "last_seen",
)
FIRST_IN_LIST = ("device", "role", "segment", "presence", "health", "running", "state", "last seen")


@click.group()
def device() -> None:
    """List devices and make enrolment tokens."""


@device.command("list")
@click.option("--role", help="Only devices of this role.")
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
@click.argument("device_id", metavar="ID")
@json_option
@hub_options
def show(device_id: str, as_json: bool, hub: Hub) -> None:
    """Show one device, with the hub's answer to whether it is eligible."""
    item = hub.read(hub.get(f"/devices/{quote(device_id, safe='')}"), dict[str, Any])
    if as_json:
        output.emit_json(item)
        return
    first = [(key, item[key]) for key in SHOWN if key in item]
    output.fields(first + [(key, _flat(value)) for key, value in item.items() if key not in SHOWN])


@device.command()
@click.option("--role", required=True, help="Role of the devices that will use the token.")
@click.option("--segment", required=True, type=click.Choice(SEGMENTS), help="Their segment.")
@click.option(
    "--uses", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Devices that may use it."
)
@click.option(
    "--expires-in", type=click.IntRange(60, 365 * 86_400), default=86_400, show_default=True, help="Seconds."
)
@json_option
@hub_options
def token(role: str, segment: str, uses: int, expires_in: int, as_json: bool, hub: Hub) -> None:
    """Make an enrolment token and print it; it is a secret and is shown only this once."""
    try:
        names.role(role)
    except TopicError as error:
        raise click.UsageError(str(error)) from None
    body = {"role": role, "segment": segment, "uses": uses, "expires_in": expires_in}
    answer = hub.read(hub.post("/devices/enrolment-tokens", body), dict[str, Any])
    if as_json:
        output.emit_json(answer)
        return
    output.emit(str(answer.get("token", "")))
    output.remark(f"for {uses} device{'s' if uses > 1 else ''}, until {answer.get('expires_at')}")


def _flat(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items() if inner not in (None, ""))
    if isinstance(value, list):
        return ", ".join(str(_flat(inner)) for inner in value)
    return value
