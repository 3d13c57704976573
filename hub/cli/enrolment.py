"""`flaghoist device token`, `tokens`, `revoke-token`, `allow-reenrol`: who may enrol."""

from __future__ import annotations

from typing import Any, Final

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.deviceview import path_of, show_device
from hub.cli.options import ROLE, device_argument, hub_options, json_option
from topics.names import SEGMENTS

_TOKENS: Final = "/devices/enrolment-tokens"
_COLUMNS: Final = ("id", "role", "segment", "state", "uses_left", "uses", "expires_at", "created_by")


@click.command()
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
    answer = hub.read(hub.post(_TOKENS, body), dict[str, Any])
    if as_json:
        output.emit_json(answer)
        return
    output.emit(str(answer.get("token", "")))
    output.remark(f"for {uses} device{'s' if uses > 1 else ''}, until {answer.get('expires_at')}")


@click.command("tokens")
@json_option
@hub_options
def list_tokens(as_json: bool, hub: Hub) -> None:
    """List enrolment tokens, the newest first: how many uses are left, and until when."""
    found = list(hub.items(_TOKENS))
    if as_json:
        output.emit_json(found)
        return
    rows = [[output.seconds(item.get(column)) for column in _COLUMNS] for item in found]
    output.table([column.replace("_", " ") for column in _COLUMNS], rows)


@click.command("revoke-token")
@click.argument("token_id", metavar="TOKEN")
@json_option
@hub_options
def revoke_token(token_id: str, as_json: bool, hub: Hub) -> None:
    """Let nobody enrol with a token from now on; TOKEN is its id, as `tokens` lists it."""
    hub.delete(f"{_TOKENS}/{token_id}")
    if as_json:
        output.emit_json({"id": token_id, "revoked": True})
        return
    output.emit(f"{token_id} revoked")


@click.command("allow-reenrol")
@device_argument
@click.option("--withdraw", is_flag=True, help="Take the permission back.")
@json_option
@hub_options
def allow_reenrol(device_id: str, withdraw: bool, as_json: bool, hub: Hub) -> None:
    """Let an id enrol once with another key, as after its disk was replaced.

    It takes a token, too. Certificates of the former key are withdrawn as soon as it has.
    """
    # Whatever else is changed meanwhile.
    answer = hub.patch(path_of(device_id), {"rekey_allowed": not withdraw}, etag="*")
    show_device(hub.read(answer, dict[str, Any]), as_json=as_json)


def add_to(group: click.Group) -> None:
    """Add these commands to the `device` group."""
    for command in (token, list_tokens, revoke_token, allow_reenrol):
        group.add_command(command)
