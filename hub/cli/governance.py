"""`flaghoist policy` and `flaghoist compliance`: what is demanded of the fleet, and whether it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import quote

import click
import msgspec

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.files import read_small
from hub.cli.options import file_argument, hub_options, json_option, release_argument
from hub.cli.promotions import path_of
from hub.policies.documents import Kind
from topics.names import SEGMENTS

LIMIT: Final = 64 * 1024
"""Largest policy file in bytes."""
COMMON: Final = ("id", "kind", "role", "note", "created_at", "created_by")
TABLES: Final = ("groups", "devices", "expiring", "exceptions", "rollouts")


@click.group()
def policy() -> None:
    """Set what no release may do, whatever it would pass by itself."""


@policy.command("list")
@json_option
@hub_options
def list_policies(as_json: bool, hub: Hub) -> None:
    """List the policies in force."""
    found = list(hub.items("/policies"))
    if as_json:
        output.emit_json(found)
        return
    rows = [
        (item.get("id"), item.get("kind"), item.get("role") or "all", _settings(item), item.get("note"))
        for item in found
    ]
    output.table(("policy", "kind", "role", "settings", "note"), rows)


@policy.command()
@click.argument("file", type=file_argument)
@json_option
@hub_options
def add(file: Path, as_json: bool, hub: Hub) -> None:
    """Put the policy in FILE (JSON) in force, like {"kind": "approvals", "segments": ["general"], "people": 1}.

    The kinds are least_agent_version, freeze, rollback_window, allowed_segments, approvals, site_share,
    required_validations and drift_age.
    """
    try:
        body = msgspec.json.decode(read_small(file, "a policy", limit=LIMIT), type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise click.UsageError(f"{file} is not a JSON object ({error}); see --help for an example") from None
    if body.get("kind") not in get_args(Kind):
        raise click.UsageError(
            f"{file} names no kind of policy; its kind is one of {', '.join(get_args(Kind))}"
        )
    made = hub.read(hub.post("/policies", body), dict[str, Any])
    if as_json:
        output.emit_json(made)
        return
    output.emit(f"{made.get('id')} {made.get('kind')} is in force for {made.get('role') or 'all roles'}")


@policy.command()
@click.argument("policy_id", metavar="ID")
@click.option("--reason", default="", help="Why, for the audit.")
@json_option
@hub_options
def remove(policy_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Take a policy out of force. `list` shows the ids."""
    hub.delete(f"/policies/{quote(policy_id, safe='')}?reason={quote(reason, safe='')}")
    if as_json:
        output.emit_json({"id": policy_id, "removed": True})
        return
    output.emit(f"{policy_id} removed")


@click.command()
@release_argument
@click.option(
    "--segment", required=True, type=click.Choice(SEGMENTS), help="Segment that the release is approved for."
)
@click.option("--reason", default="", help="Why, for the audit and for whoever asks later.")
@json_option
@hub_options
def approve(release_id: str, segment: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Vouch for a release in a segment, where a policy asks for a second person."""
    body = {"targetSegment": segment, "reason": reason}
    found = hub.read(hub.post(f"{path_of(release_id)}/approvals", body), dict[str, Any])
    if as_json:
        output.emit_json(found)
        return
    output.table(
        ("segment", "approved by", "at", "reason"),
        [
            (item.get("segment"), item.get("by"), output.seconds(item.get("at")), item.get("reason"))
            for item in found.get("items", [])
        ],
    )


@click.group()
def compliance() -> None:
    """Show whether the fleet is as it should be."""


@compliance.command()
@click.option("--days", type=click.IntRange(1, 800), default=30, show_default=True, help="Days to look back.")
@click.option(
    "--format", "kind", type=click.Choice(["text", "json", "csv", "html"]), default="text", show_default=True
)
@click.option(
    "--table", type=click.Choice(TABLES), default="groups", show_default=True, help="Table of the CSV."
)
@hub_options
def report(days: int, kind: str, table: str, hub: Hub) -> None:
    """Report on agents, drift, safe mode, silence, certificates, exceptions, rollouts and the audit chain."""
    asked = "json" if kind == "text" else kind
    data = hub.get("/compliance/report", days=days, format=asked, table=table)
    if kind == "text":
        _show(hub.read(data, dict[str, Any]))
    else:
        output.emit_file(data)


@compliance.command()
@click.option("--days", type=click.IntRange(1, 800), default=30, show_default=True, help="Days to look back.")
@json_option
@hub_options
def history(days: int, as_json: bool, hub: Hub) -> None:
    """Show what the report counted on each day."""
    found = list(hub.items("/compliance/history", days=days))
    if as_json:
        output.emit_json(found)
        return
    names = list(found[0]["totals"]) if found else ["devices"]
    rows = [(str(item["at"])[:10], *(item["totals"].get(name) for name in names)) for item in found]
    output.table(("day", *(name.replace("_", " ") for name in names)), rows)


def _settings(item: dict[str, Any]) -> str:
    shown = {key: value for key, value in item.items() if key not in COMMON and value is not None}
    return " ".join(f"{key}={_plain(value)}" for key, value in shown.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, dict):
        return f"{value.get('start')}-{value.get('end')} {value.get('zone')}"
    return str(value)


def _show(found: dict[str, Any]) -> None:
    names = list(found["totals"])
    rows = [
        (*(group[key] or "-" for key in ("role", "segment", "site")), *(group[name] for name in names))
        for group in found["groups"]
    ]
    total = ("all", "", "", *(found["totals"][name] for name in names))
    output.table(("role", "segment", "site", *(name.replace("_", " ") for name in names)), [*rows, total])
    chain = found["chain"]
    output.emit(
        f"audit chain: {chain['events']} events, whole"
        if chain["ok"]
        else f"audit chain: broken at event {chain['first_bad']}"
    )
    output.emit(f"exceptions from policies in {found['days']} days: {len(found['exceptions'])}")
    for item in found["expiring"]:
        output.emit(f"{item['what']} {item['name']} expires {output.seconds(item['expires_at'])}")
