"""What dashboards are told of devices that are held back."""

from __future__ import annotations

from collections import defaultdict

from hub.recovery.rules import HOUR_MS
from hub.store import Tx


def quarantine_alerts(tx: Tx, now: int) -> list[dict[str, str]]:
    """Return an alert for each role with devices in quarantine, and for each that had a storm in the last hour.

    `now` in ms.
    """
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in tx.all(
        "SELECT role, quarantine_rule AS rule, COUNT(*) AS devices FROM devices "
        "WHERE quarantine_rule <> '' AND revoked_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ):
        counts[row["role"]][row["rule"]] = row["devices"]
    alerts = []
    for role, by_rule in counts.items():
        parts = ", ".join(f"{devices} by {rule}" for rule, devices in by_rule.items())
        text = f"{sum(by_rule.values())} devices of {role} in quarantine: {parts}"
        alerts.append({"kind": "device_quarantined", "subject": role, "text": text})
    for row in tx.all("SELECT * FROM storms WHERE at > :since ORDER BY role", {"since": now - HOUR_MS}):
        text = f"{row['devices']} devices of {row['role']} were quarantined within an hour"
        alerts.append({"kind": "quarantine_storm", "subject": row["role"], "text": text})
    return alerts
