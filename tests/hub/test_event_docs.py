"""docs/reference/events.md names every kind of event that the hub writes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_kind_of_event_is_documented_and_none_is_made_up() -> None:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "hub").rglob("*.py")))
    written = set(
        re.findall(
            r"\"((?:root|ca|token|api_key|device|release|manifests|policy|recovery|command|chaos)\.[a-z_]+)\"",
            source,
        )
    )
    written -= {"release.dsse", "release.msgpack", "policy.json"}  # files
    written |= {f"release.{state}" for state in ("paused", "halted")}  # written as f"release.{state}"
    page = (ROOT / "docs" / "reference" / "events.md").read_text()
    table = page.split("## Summaries")[0]
    documented = set(
        re.findall(
            r"`((?:root|ca|token|api_key|device|release|manifests|policy|recovery|command|chaos)\.[a-z_]+)`",
            table,
        )
    )
    assert documented == written
