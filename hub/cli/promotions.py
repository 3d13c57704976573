"""`flaghoist release list`, `show`, `promote`, `pause`, `resume`, `rollback`: what the hub does with a release."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import ROLE, hub_options, json_option, release_argument
from hub.times import parse_rfc3339, rfc3339
from topics.names import SEGMENTS

exception_option = click.option(
    "--policy-exception",
    default="",
    metavar="WHY",
    help="Pass over the fleet's policies, as an admin, and say why.",
)


@click.command("list")
@click.option("--role", type=ROLE, help="Only the releases of this role.")
@json_option
@hub_options
def list_releases(role: str | None, as_json: bool, hub: Hub) -> None:
    """List releases, with where each stands."""
    found = list(hub.items("/releases", role=role))
    if as_json:
        output.emit_json(found)
        return
    output.table(
        ("release", "version", "state", "segment", "share", "updated"),
        [
            (
                item.get("id"),
                item.get("version"),
                item.get("state"),
                item.get("segment"),
                share(item),
                output.seconds(item.get("updated_at")),
            )
            for item in found
        ],
    )


@click.command()
@release_argument
@json_option
@hub_options
def show(release_id: str, as_json: bool, hub: Hub) -> None:
    """Show one release."""
    show_release(hub.read(hub.get(path_of(release_id)), dict[str, Any]), as_json=as_json)


@click.command()
@release_argument
@click.option(
    "--segment", required=True, type=click.Choice(SEGMENTS), help="Segment to offer the release to."
)
@click.option(
    "--percentage",
    type=float,
    help="Share of the segment that takes it; default the policy's next step, which is all of it without steps.",
)
@click.option("--not-before", metavar="TIME", help="Wait until then, like 2026-11-26T02:00:00+01:00.")
@click.option("--override", is_flag=True, help="Pass over the gate of the segment before; needs --reason.")
@click.option("--reason", default="", help="Why, for the audit and for whoever asks later.")
@exception_option
@click.option("--dry-run", is_flag=True, help="Change nothing; say who would move and what would refuse.")
@json_option
@hub_options
def promote(
    release_id: str,
    segment: str,
    percentage: float | None,
    not_before: str | None,
    override: bool,
    reason: str,
    policy_exception: str,
    dry_run: bool,
    as_json: bool,
    hub: Hub,
) -> None:
    """Offer a release to a share of a segment: canary, then early, then general."""
    # NaN passes every comparison, so it has to be asked for.
    if percentage is not None and not (math.isfinite(percentage) and 0 < percentage <= 100):
        raise click.UsageError(
            f"--percentage {percentage:g} is not a share; give a number above 0, up to 100"
        )
    if override and not reason.strip():
        raise click.UsageError("--override needs to say why; give --reason")
    given = {
        "targetSegment": segment,
        "rolloutPercentage": percentage,
        "not_before": not_before and _time(not_before),
        "override": override,
        "reason": reason,
        "policy_exception": policy_exception,
    }
    body = {name: value for name, value in given.items() if value}
    if dry_run:
        found = hub.read(hub.post(f"{path_of(release_id)}/promote?dry_run=true", body), dict[str, Any])
        _show_preview(found, as_json=as_json)
        # As with the promotion itself, a refusal is exit code 1.
        click.get_current_context().exit(1 if found.get("refused_by") else 0)
    answer = hub.post(f"{path_of(release_id)}/promote", body)
    show_release(hub.read(answer, dict[str, Any]), as_json=as_json)


def _time(text: str) -> str:
    try:
        return str(rfc3339(parse_rfc3339(text)))
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"--not-before {text!r} is not a time with its zone; it looks like 2026-11-26T02:00:00+01:00"
        ) from None


def _show_preview(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.emit_json(found)
        return
    refused = found.get("refused_by")
    output.table(
        ("reason", "devices"), [(reason, count) for reason, count in found.get("by_reason", {}).items()]
    )
    movers, more = found.get("would_move", []), found.get("more", 0)
    listed = " ".join(movers) + (f" and {more} more" if more else "")
    output.emit(f"would move: {listed or 'nobody'}")
    if refused:
        output.emit(f"refused now: {found.get('detail')} (rule {refused})")


@click.command()
@release_argument
@click.option("--reason", default="", help="Why, for the audit and for whoever asks later.")
@json_option
@hub_options
def pause(release_id: str, reason: str, as_json: bool, hub: Hub) -> None:
    """Stop offering a release; devices that have begun the swap finish it."""
    answer = hub.post(f"{path_of(release_id)}/pause", {"reason": reason})
    show_release(hub.read(answer, dict[str, Any]), as_json=as_json)


def _order(verb: str, help_text: str) -> click.Command:
    """Return a command that policies may refuse."""

    @click.command(verb, help=help_text)
    @release_argument
    @click.option("--reason", default="", help="Why, for the audit and for whoever asks later.")
    @exception_option
    @json_option
    @hub_options
    def order(release_id: str, reason: str, policy_exception: str, as_json: bool, hub: Hub) -> None:
        body = {"reason": reason} | ({"policy_exception": policy_exception} if policy_exception else {})
        show_release(
            hub.read(hub.post(f"{path_of(release_id)}/{verb}", body), dict[str, Any]), as_json=as_json
        )

    return order


resume = _order("resume", "Offer a paused release again.")
rollback = _order(
    "rollback",
    "Take a release back: devices that took it return to the role's stable release before it. "
    "Where there is none, as with a role's first release, they keep what they run.",
)


def add_to(group: click.Group) -> None:
    """Add these commands to the `release` group."""
    for command in (list_releases, show, promote, pause, resume, rollback):
        group.add_command(command)


def show_release(item: dict[str, Any], *, as_json: bool) -> None:
    """Print one release as the hub answered it."""
    if as_json:
        output.emit_json(item)
        return
    names: tuple[tuple[str, Callable[[dict[str, Any]], object]], ...] = (
        ("release", lambda it: it.get("id")),
        ("role", lambda it: it.get("role")),
        ("version", lambda it: it.get("version")),
        ("commit", lambda it: it.get("commit")),
        ("state", lambda it: it.get("state")),
        ("segment", lambda it: it.get("segment")),
        ("share", share),
        ("reason", lambda it: it.get("reason")),
        ("scheduled", _scheduled),
        ("updated", lambda it: it.get("updated_at")),
    )
    output.fields([(name, text) for name, value in names if (text := value(item)) or name != "scheduled"])
    for stage in item.get("stages", []):
        output.emit(_stage(stage, str(stage.get("segment"))))
        steps = stage.get("steps", [])
        for step in steps if len(steps) > 1 else []:
            output.emit(_stage(step, f"  {step.get('basis_points', 0) / 100:g}%"))


def _scheduled(item: dict[str, Any]) -> str:
    due = item.get("scheduled")
    if not due:
        return ""
    share_text = f"{due.get('basis_points', 0) / 100:g}%"
    return f"{share_text} of {due.get('segment')} not before {output.seconds(due.get('not_before'))}"


def _stage(stage: dict[str, Any], name: str) -> str:
    """Return one line on a stage or a step: when it began, by whom and why, and when and why it ended."""
    why = f" ({stage['start_reason']})" if stage.get("start_reason") else ""
    by = f" by {stage['started_by']}" if stage.get("started_by") else ""
    text = f"{name}: from {output.seconds(stage.get('started_at'))}{by}{why}"
    if stage.get("finished_at"):
        text += f", to {output.seconds(stage['finished_at'])} ({stage.get('finish_reason')})"
    return text


def share(item: dict[str, Any]) -> str:
    """Return a release's share of its segment as people write it."""
    return f"{item.get('basis_points', 0) / 100:g}%" if item.get("segment") else ""


def path_of(release_id: str) -> str:
    """Return the API path of a release."""
    return f"/releases/{release_id}"
