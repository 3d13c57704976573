"""`flaghoist recovery`: devices in trouble, and bringing them back."""

from __future__ import annotations

from typing import Any, Final

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import RELEASE, ROLE, device_argument, hub_options, json_option
from hub.cli.promotions import exception_option
from topics.names import SEGMENTS

LISTED: Final = ("device_id", "role", "segment", "rule", "since", "by", "reason")
COMMAND: Final = ("id", "kind", "state", "created_at", "created_by", "expires_at", "detail")
RULES: Final = ("operator", "safe_mode", "failures", "drift", "restarts")

_why = click.option("--reason", default="", help="Why; it stands in the audit.")
_must_why = click.option("--reason", required=True, help="Why; it stands in the audit.")


@click.group()
def recovery() -> None:
    """Hold devices back, look at what is wrong with them, and bring them back."""


@recovery.command("list")
@click.option("--role", type=ROLE, help="Only devices of this role.")
@click.option("--segment", type=click.Choice(SEGMENTS), help="Only devices of this segment.")
@click.option("--rule", type=click.Choice(RULES), help="Only devices that this rule holds back.")
@json_option
@hub_options
def list_held(role: str | None, segment: str | None, rule: str | None, as_json: bool, hub: Hub) -> None:
    """List the devices in quarantine: by which rule, since when, and why."""
    found = list(hub.items("/recovery", role=role, segment=segment, rule=rule))
    if as_json:
        output.emit_json(found)
        return
    output.table(
        [name.replace("_", " ") for name in LISTED],
        [[output.seconds(item.get(name)) for name in LISTED] for item in found],
    )


@recovery.command()
@device_argument
@json_option
@hub_options
def status(device_id: str, as_json: bool, hub: Hub) -> None:
    """Show a device's quarantine, stays in safe mode, diagnostics and commands."""
    _show(hub.read(hub.get(_path(device_id)), dict[str, Any]), as_json=as_json)


@recovery.command()
@device_argument
@_why
@json_option
@hub_options
def enter(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Order a device into safe mode: a minimal stack, and nothing new is started."""
    _post(hub, device_id, "enter", reason, as_json=as_json)


@recovery.command()
@device_argument
@_why
@json_option
@hub_options
def leave(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """End a device's stay in safe mode, whoever began it. A quarantine stays."""
    _post(hub, device_id, "leave", reason, as_json=as_json)


@recovery.command()
@device_argument
@_must_why
@json_option
@hub_options
def hold(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Hold a device back: its updates pause, and rollouts do not count on it, until somebody lets it go."""
    _post(hub, device_id, "quarantine", reason, as_json=as_json)


@recovery.command()
@device_argument
@_must_why
@json_option
@hub_options
def release(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Let a device go from quarantine, whatever held it back."""
    _post(hub, device_id, "release", reason, as_json=as_json)


@recovery.command()
@device_argument
@click.option(
    "--release", "release_id", type=RELEASE, help="Release to install; default the one it is offered."
)
@click.option("--force", is_flag=True, help="Pass over diagnostics that do not pass; needs --reason.")
@_why
@exception_option
@json_option
@hub_options
def redeploy(
    device_id: str,
    release_id: str | None,
    force: bool,
    reason: str,
    policy_exception: str,
    as_json: bool,
    hub: Hub,
) -> None:
    """Have a device install a release again and try it, although it failed there.

    A device in trouble needs diagnostics that pass. A release that it is not offered becomes its version lock.
    """
    if force and not reason:
        raise click.UsageError("--force passes over what the device says of itself; say why with --reason")
    body: dict[str, Any] = {"force": force, "reason": reason}
    if policy_exception:
        body["policy_exception"] = policy_exception
    if release_id is not None:
        body["releaseId"] = release_id
    _command(hub, f"{_path(device_id)}/redeploy", body, as_json=as_json)


@recovery.command()
@device_argument
@_why
@json_option
@hub_options
def collect(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Ask a device for its diagnostics; `status` shows them when they have come."""
    _command(hub, f"{_path(device_id)}/collect-diagnostics", {"reason": reason}, as_json=as_json)


@recovery.command()
@device_argument
@_why
@json_option
@hub_options
def repair(device_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Have a device put right what differs from its release."""
    _command(hub, f"{_path(device_id)}/repair", {"reason": reason}, as_json=as_json)


@recovery.command()
@device_argument
@click.argument("command_id", metavar="COMMAND")
@json_option
@hub_options
def cancel(device_id: str, command_id: str, as_json: bool, hub: Hub) -> None:
    """Take a pending command back; `status` shows the ids."""
    hub.delete(f"/devices/{device_id}/commands/{command_id}")
    if as_json:
        output.emit_json({"device_id": device_id, "command": command_id, "cancelled": True})
        return
    output.emit(f"{command_id} cancelled")


def _path(device_id: str) -> str:
    return f"/recovery/{device_id}"


def _post(hub: Hub, device_id: str, verb: str, reason: str, *, as_json: bool) -> None:
    answer = hub.post(f"{_path(device_id)}/{verb}", {"reason": reason})
    _show(hub.read(answer, dict[str, Any]), as_json=as_json)


def _command(hub: Hub, path: str, body: dict[str, Any], *, as_json: bool) -> None:
    answer = hub.read(hub.post(path, body), dict[str, Any])
    if as_json:
        output.emit_json(answer)
        return
    output.emit(
        f"{answer.get('id')} {answer.get('kind')} queued until {output.seconds(answer.get('expires_at'))}"
    )
    if answer.get("locked"):
        output.remark(f"the device is locked to {answer.get('release')} from now on")


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.emit_json(found)
        return
    held, stays = found.get("quarantine") or {}, found.get("stays") or [{}]
    again = found.get("redeploy") or {}
    told = found.get("diagnostics") or {}
    output.fields(
        [
            ("device", found.get("device_id")),
            ("role", f"{found.get('role')}/{found.get('segment')}"),
            ("running", found.get("running")),
            ("quarantine", f"{held.get('rule')}: {held.get('reason')}" if held else None),
            ("since", output.seconds(held.get("since"))),
            ("safe mode", stays[0].get("reason") if found.get("in_safe_mode") else None),
            ("diagnostics", output.seconds(told.get("at"))),
            ("redeploy", "allowed" if again.get("allowed") else f"refused: {again.get('detail')}"),
        ]
    )
    failing = [check for check in told.get("checks", []) if check.get("verdict") in ("fail", "warn")]
    if failing:
        names = ("verdict", "name", "detail", "remedy")
        output.table(names, [[check.get(name) for name in names] for check in failing])
    if found.get("commands"):
        rows = [[output.seconds(command.get(name)) for name in COMMAND] for command in found["commands"]]
        output.table([name.replace("_", " ") for name in COMMAND], rows)
