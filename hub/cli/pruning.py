"""`flaghoist release prune`: have the hub remove bundles that nothing can need, or say which it would."""

from __future__ import annotations

from typing import Any

import click

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.options import hub_options, json_option


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say which bundles would go, and why the others stay.")
@json_option
@hub_options
def prune(dry_run: bool, as_json: bool, hub: Hub) -> None:
    """Remove the bundles that no manifest, lock, device, rollout or rollback can need."""
    query = "?dry_run=true" if dry_run else ""
    answer = hub.read(hub.post(f"/artifacts/retention{query}", None), dict[str, Any])
    if as_json:
        output.emit_json(answer)
        return
    gone = "would go" if dry_run else "removed"
    rows = [(release, gone, "nothing needs it") for release in answer["removed"]]
    rows += [(release, "kept", reason) for release, reason in sorted(answer["kept"].items())]
    output.table(("release", "bundle", "why"), rows)
    output.remark(f"what {answer['rollbacks']} rollbacks in a row need is kept")
