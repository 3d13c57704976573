"""What people's dashboards show: small JSON states of the fleet, of a role, of a release, and what is wrong.

They are counted by the database in one pass over the devices, never read device by device.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

from hub.deployment import counts
from hub.deployment.manifests import policy_of
from hub.presence import IN_SAFE_MODE, PRESENCE, PRESENCES
from hub.recovery.alerts import quarantine_alerts
from hub.store import Tx
from topics.channels import BY_NAME
from topics.names import SEGMENTS
from topics.trust import ROOT_WARNING_MS

_COUNTS: Final = f"""
SELECT devices.role, devices.segment, {PRESENCE} AS presence, COALESCE(device_latest.health, 'unknown') AS health,
    COALESCE(device_latest.running, '') AS running,
    CASE WHEN {IN_SAFE_MODE} THEN 1 ELSE 0 END AS safe_mode, COUNT(*) AS devices
FROM devices LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN presence ON presence.device_key = devices.key
WHERE devices.revoked_at IS NULL
GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608  (our own constants)


def device_counts(tx: Tx, now: int) -> list[dict[str, Any]]:
    """Return how many `devices` there are by role, segment, presence, health, running release and safe mode.

    `now` in ms. Revoked devices are left out; `running` is "" for a device that runs none of ours.
    """
    return [dict(row) for row in tx.all(_COUNTS, {"now": now})]


def summaries(tx: Tx, fleet: str, *, now: int, observed_since: int) -> dict[str, dict[str, Any]]:
    """Return every summary by its topic; times in ms. None holds the time, so an unchanged state compares equal."""
    rows = device_counts(tx, now)
    found = {BY_NAME["summary-fleet"].topic(fleet): {"fleet": fleet, **_totals(rows)}}
    for role in sorted({row["role"] for row in rows} | _roles(tx)):
        found[BY_NAME["summary-role"].topic(fleet, role=role)] = _role(tx, role, rows)
    for release in tx.all(
        "SELECT * FROM releases WHERE state IN ('rolling', 'paused', 'halted') ORDER BY id"
    ):
        policy = policy_of(release)
        known = counts.known(tx, release, policy, now=now, observed_since=observed_since).all
        found[BY_NAME["summary-release"].topic(fleet, release=release["id"])] = {
            "release": release["id"],
            "role": release["role"],
            "version": release["version"],
            "state": release["state"],
            "segment": release["segment"],
            "share_percent": release["basis_points"] / 100,
            "reason": release["reason"],
            "segments": {
                name: {
                    "began": known[name].began,
                    "committed": known[name].committed,
                    "failed": known[name].failed,
                    "rolled_back": known[name].rolled_back,
                    "lost": known[name].lost,
                    "drifted": known[name].drifted,
                    "safe_mode": known[name].safe_mode,
                    "in_progress": known[name].in_progress,
                }
                for name in SEGMENTS
                if name in known
            },
        }
    found[BY_NAME["summary-alerts"].topic(fleet)] = {"alerts": _alerts(tx, rows, now)}
    return found


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    presence: Counter[str] = Counter(dict.fromkeys(PRESENCES, 0))
    health: Counter[str] = Counter({"ok": 0, "degraded": 0, "failing": 0, "unknown": 0})
    safe_mode = 0
    for row in rows:
        presence[row["presence"]] += row["devices"]
        health[row["health"]] += row["devices"]
        safe_mode += row["devices"] if row["safe_mode"] else 0
    return {
        "devices": sum(presence.values()),
        "presence": dict(presence),
        "health": dict(health),
        "safe_mode": safe_mode,
    }


def _role(tx: Tx, role: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    own = [row for row in rows if row["role"] == role]
    running: dict[str, int] = defaultdict(int)
    for row in own:
        running[row["running"] or "none"] += row["devices"]
    offered = {
        row["segment"]: row for row in tx.all("SELECT * FROM segments WHERE role = :role", {"role": role})
    }
    return {
        "role": role,
        **_totals(own),
        "running": dict(sorted(running.items())),
        "segments": {
            name: {
                **_totals([row for row in own if row["segment"] == name]),
                "stable": offered[name]["stable_id"] if name in offered else None,
                "candidate": offered[name]["candidate_id"] if name in offered else None,
                "paused": bool(offered[name]["paused"]) if name in offered else False,
            }
            for name in SEGMENTS
        },
    }


def _roles(tx: Tx) -> set[str]:
    return {row["role"] for row in tx.all("SELECT DISTINCT role FROM segments")}


def _alerts(tx: Tx, rows: list[dict[str, Any]], now: int) -> list[dict[str, str]]:
    alerts = [
        {"kind": "rollout_halted", "subject": row["id"], "text": f"{row['id']} halted: {row['reason']}"}
        for row in tx.all("SELECT id, reason FROM releases WHERE state = 'halted' ORDER BY id")
    ]
    alerts += quarantine_alerts(tx, now)
    totals = _totals(rows)
    if totals["safe_mode"]:
        alerts.append(
            {"kind": "safe_mode", "subject": "", "text": f"{totals['safe_mode']} devices in safe mode"}
        )
    if totals["health"]["failing"]:
        text = f"{totals['health']['failing']} devices failing"
        alerts.append({"kind": "failing", "subject": "", "text": text})
    quarantined = tx.one("SELECT COALESCE(SUM(count), 0) AS count FROM quarantine_counts")
    if quarantined and quarantined["count"]:
        text = f"{quarantined['count']} messages in quarantine"
        alerts.append({"kind": "quarantine", "subject": "", "text": text})
    root = tx.one("SELECT version, expires_at FROM roots ORDER BY version DESC LIMIT 1")
    if root and root["expires_at"] - now < ROOT_WARNING_MS:
        days = max(0, (root["expires_at"] - now) // 86_400_000)
        text = f"root {root['version']} expires in {days} days"
        alerts.append({"kind": "root_expires", "subject": str(root["version"]), "text": text})
    return alerts
