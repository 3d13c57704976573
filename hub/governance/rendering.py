"""The compliance report as tables for a spreadsheet and as a page to print. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from hub.governance.compliance import FINDINGS

Table = Literal["groups", "devices", "expiring", "exceptions", "rollouts"]
OUTCOMES: Final = ("committed", "failed", "rolled_back", "refused")
COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    "groups": ("role", "segment", "site", "devices", *FINDINGS),
    "devices": ("device_id", "role", "segment", "site", "agent", "findings"),
    "expiring": ("what", "name", "expires_at"),
    "exceptions": (
        "n",
        "at",
        "actor",
        "device_id",
        "release_id",
        "role",
        "policy",
        "kind",
        "detail",
        "reason",
    ),
    "rollouts": (
        "id",
        "role",
        "version",
        "state",
        "segment",
        "reason",
        "started_by",
        "started_at",
        "updated_at",
        *OUTCOMES,
    ),
}
NUMBERS: Final = frozenset({"devices", *FINDINGS, "n", *OUTCOMES})
_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Full-width ones too: a spreadsheet takes either. Blanks before them do not keep it from that."""

TIMES: Final = frozenset({"at", "expires_at", "started_at", "updated_at"})

_environment: Final = Environment(
    loader=PackageLoader("hub.governance", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


def rows(report: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    """Return one table of a report, its rows flat."""
    if table == "devices":
        return [{**item, "findings": " ".join(item["findings"])} for item in report["devices"]["items"]]
    if table == "exceptions":
        return [{**item, **item["policy"]} for item in report["exceptions"]]
    if table == "rollouts":
        return [{**dict.fromkeys(OUTCOMES, 0), **item, **item["devices"]} for item in report["rollouts"]]
    return list(report[table])


def as_csv(report: Mapping[str, Any], table: Table) -> str:
    """Return one table as CSV (RFC 4180) with a heading.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: reasons are written by people.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS[table], extrasaction="ignore", restval="")
    writer.writeheader()
    for row in rows(report, table):
        writer.writerow({key: _plain(value) for key, value in row.items()})
    return out.getvalue()


def as_page(report: Mapping[str, Any]) -> str:
    """Return the report as one HTML page that needs nothing else, for a screen or for paper."""
    tables = {name: rows(report, name) for name in COLUMNS}
    return _environment.get_template("compliance.html").render(
        report=report, tables=tables, columns=COLUMNS, findings=FINDINGS, numbers=NUMBERS, times=TIMES
    )


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.strip().startswith(_FORMULA) else value
