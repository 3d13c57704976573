"""`flaghoist device set`, `revoke`, `delete`: what operators change of a device."""

from __future__ import annotations

from typing import Any, Final

import click

from hub.cli import output
from hub.cli.api import Hub, HubRefused
from hub.cli.deviceview import path_of, show_device
from hub.cli.options import RELEASE, ROLE, device_argument, hub_options, json_option
from topics.names import SEGMENTS

PRECONDITION_FAILED: Final = 412


@click.command("set")
@device_argument
@click.option("--role", type=ROLE, help="Role from now on.")
@click.option("--segment", type=click.Choice(SEGMENTS), help="Segment from now on.")
@click.option(
    "--lock", type=RELEASE, help="Release of its role that the device has to run, whatever is offered."
)
@click.option("--unlock", is_flag=True, help="Take a lock away.")
@click.option(
    "--maintenance/--no-maintenance", default=None, help="Whether the device starts nothing new for now."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="K=V",
    help="Tag to set; K= takes the tag K away. Others stay. May be given several times.",
)
@click.option("--interval", type=click.IntRange(5, 7 * 86_400), help="Seconds between heartbeats.")
@click.option("--allow-rekey", is_flag=True, help="Let the id register once with another key.")
@json_option
@hub_options
def set_device(
    device_id: str,
    role: str | None,
    segment: str | None,
    lock: str | None,
    unlock: bool,
    maintenance: bool | None,
    tags: tuple[str, ...],
    interval: int | None,
    allow_rekey: bool,
    as_json: bool,
    hub: Hub,
) -> None:
    """Change a device: only what is given; the rest stays."""
    if lock and unlock:
        raise click.UsageError("--lock and --unlock contradict each other; give one of them")
    changes: dict[str, Any] = {
        "role": role,
        "segment": segment,
        "version_lock": lock,
        "maintenance": maintenance,
        "update_interval": interval,
        "rekey_allowed": allow_rekey or None,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if unlock:
        changes["version_lock"] = None
    edits = dict(_tag(text) for text in tags)
    if not changes and not edits:
        raise click.UsageError("nothing is to be changed; give an option like --segment")
    try:
        item = _change(hub, device_id, changes, edits)
    except HubRefused as refused:
        if refused.status != PRECONDITION_FAILED:
            raise
        # Somebody else was quicker; what is asked for here does not depend on what they did.
        item = _change(hub, device_id, changes, edits)
    show_device(item, as_json=as_json)


@click.command()
@device_argument
@json_option
@hub_options
def revoke(device_id: str, as_json: bool, hub: Hub) -> None:
    """Withdraw a device's identity: its sessions end and its reports count no more.

    Its id stays taken until it is deleted.
    """
    show_device(hub.read(hub.post(f"{path_of(device_id)}/revoke", {}), dict[str, Any]), as_json=as_json)


@click.command()
@device_argument
@click.option("--yes", is_flag=True, help="It is meant: what is forgotten does not come back.")
@json_option
@hub_options
def delete(device_id: str, yes: bool, as_json: bool, hub: Hub) -> None:
    """Forget a device. Its id may register again; what it reported of rollouts stays counted."""
    if not yes:
        raise click.UsageError(f"deleting {device_id} cannot be undone; add --yes if it is meant")
    hub.delete(path_of(device_id))
    if as_json:
        output.emit_json({"device_id": device_id, "deleted": True})
        return
    output.emit(f"{device_id} deleted")


def add_to(group: click.Group) -> None:
    """Add these commands to the `device` group."""
    for command in (set_device, revoke, delete):
        group.add_command(command)


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--tag {text!r} is not K=V; it looks like site=harbour")
    return key, value


def _change(hub: Hub, device_id: str, changes: dict[str, Any], edits: dict[str, str]) -> dict[str, Any]:
    """Change the device as it is now; raises `HubRefused` with status 412 when it was changed meanwhile."""
    item, etag = hub.get_tagged(path_of(device_id), dict[str, Any])
    if edits:
        # The hub replaces all tags at once.
        merged = {**item.get("tags", {}), **edits}
        changes = {**changes, "tags": {key: value for key, value in merged.items() if merged[key]}}
    return hub.read(hub.patch(path_of(device_id), changes, etag=etag), dict[str, Any])
