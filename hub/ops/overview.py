"""The whole fleet in a few numbers, counted by the database in one pass. Reading only."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from hub.ops.conditions import CONDITIONS, FLAGS, TABLES, condition
from hub.presence import PRESENCES
from hub.store import Row, Tx
from hub.times import rfc3339
from topics.names import SEGMENTS

FINDINGS: Final = ("silent", "drifted", "safe_mode", "quarantined", "failing")
"""What is counted beside presence; a device may have several."""
_COUNTS: Final = f"""
SELECT role, segment, presence, health, running, left_us, drifted, safe_mode, quarantined, COUNT(*) AS devices
FROM (SELECT devices.role AS role, devices.segment AS segment, {FLAGS} FROM {TABLES}
    WHERE devices.revoked_at IS NULL) AS flagged
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""  # noqa: S608  (our own constants)
_RELEASES: Final = """
SELECT id, role, version, sequence, state, segment, basis_points, reason FROM releases
WHERE state IN ('rolling', 'paused', 'halted') OR id IN (SELECT stable_id FROM segments)
    OR id IN (SELECT candidate_id FROM segments)
ORDER BY role, sequence DESC
"""


def overview(tx: Tx, fleet: str, now: int) -> dict[str, Any]:
    """Return counts by role and segment, and the releases that stand or are under way; `now` in ms."""
    found: dict[tuple[str, str], _Group] = {}
    for row in tx.all("SELECT role, segment, stable_id, candidate_id, paused FROM segments"):
        found[row["role"], row["segment"]] = _Group(row)
    for row in tx.all(_COUNTS, {"now": now}):
        found.setdefault((row["role"], row["segment"]), _Group(None)).add(row)
    order = sorted(found, key=lambda key: (key[0], SEGMENTS.index(key[1])))
    return {
        "fleet": fleet,
        "at": rfc3339(now),
        "groups": [{"role": key[0], "segment": key[1], **found[key].view()} for key in order],
        "releases": [dict(row) for row in tx.all(_RELEASES)],
    }


class _Group:
    """What is counted of one role and segment, beside what it is offered."""

    def __init__(self, offered: Row | None) -> None:
        self._offered = offered
        self._counts: dict[str, Counter[str]] = {
            "presence": Counter(dict.fromkeys(PRESENCES, 0)),
            "findings": Counter(dict.fromkeys(FINDINGS, 0)),
            "conditions": Counter(dict.fromkeys(CONDITIONS, 0)),
            "running": Counter(),
        }

    def add(self, row: Row) -> None:
        """Count the devices of one row of `_COUNTS`."""
        devices = row["devices"]
        flags = {name: bool(row[name]) for name in ("left_us", "drifted", "safe_mode", "quarantined")}
        name = condition(presence=row["presence"], health=row["health"], **flags)
        self._counts["presence"][row["presence"]] += devices
        self._counts["conditions"][name] += devices
        self._counts["running"][row["running"] or "none"] += devices
        findings = {
            "silent": row["presence"] == "offline" and not flags["left_us"],
            "failing": row["health"] == "failing",
            **{name: flags[name] for name in ("drifted", "safe_mode", "quarantined")},
        }
        for finding, holds in findings.items():
            self._counts["findings"][finding] += devices if holds else 0

    def view(self) -> dict[str, Any]:
        """Return the group as the API shows it."""
        offered = self._offered
        return {
            "devices": self._counts["presence"].total(),
            **{name: dict(counts) for name, counts in self._counts.items()},
            "stable": offered["stable_id"] if offered else None,
            "candidate": offered["candidate_id"] if offered else None,
            "paused": bool(offered["paused"]) if offered else False,
        }
