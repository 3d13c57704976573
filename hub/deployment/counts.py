"""What is known of a release in a segment, read from the attempts that ingest keeps."""

from __future__ import annotations

from hub.deployment.rules import Counts
from hub.store import Row, Tx
from topics.eligibility import BUCKETS, takes_candidate

# A device counts where it began, so that moving or deleting it in mid-rollout changes no denominator.
_COUNTS = """
SELECT attempts.segment AS segment,
    SUM(CASE WHEN attempts.state = 'committed' THEN 1 ELSE 0 END) AS committed,
    SUM(CASE WHEN attempts.state = 'failed' AND attempts.cause = 'own' THEN 1 ELSE 0 END) AS failed,
    SUM(CASE WHEN attempts.state = 'rolled_back' AND attempts.cause = 'own' THEN 1 ELSE 0 END) AS rolled_back,
    SUM(CASE WHEN attempts.state IN ('committed', 'failed', 'rolled_back', 'refused') THEN 0
             WHEN attempts.updated_at >= :silent_before OR COALESCE(device_latest.received_at, 0) >= :silent_before
             THEN 0 ELSE 1 END) AS silent,
    SUM(CASE WHEN attempts.state = 'refused'
             OR (attempts.state IN ('failed', 'rolled_back') AND attempts.cause <> 'own')
             THEN 0 ELSE 1 END) AS began
FROM attempts LEFT JOIN device_latest ON device_latest.device_key = attempts.device_key
WHERE attempts.release_id = :release AND attempts.updated_at >= :judged_from
GROUP BY attempts.segment
"""


def counts_by_segment(
    tx: Tx, release_id: str, *, now: int, observed_since: int, timeout_seconds: int, judged_from: int = 0
) -> dict[str, Counts]:
    """Return the counts of a release by the segment in which each device began.

    Silence is counted from `observed_since` at the earliest: while ingest was away nobody could be heard.
    `judged_from` leaves out what an operator has already looked at and resumed past.
    """
    silent_before = now - timeout_seconds * 1000
    if observed_since >= silent_before:
        silent_before = -1
    rows = tx.all(
        _COUNTS, {"release": release_id, "silent_before": silent_before, "judged_from": judged_from}
    )
    return {
        row["segment"]: Counts(
            began=row["began"],
            committed=row["committed"],
            failed=row["failed"],
            rolled_back=row["rolled_back"],
            lost=row["silent"],
        )
        for row in rows
    }


def refusals_by_segment(tx: Tx, release_id: str) -> dict[str, dict[str, int]]:
    """Return, by segment, how many devices refused the release for which reason."""
    rows = tx.all(
        "SELECT segment, CASE WHEN check_name <> '' THEN check_name ELSE reason END AS why, COUNT(*) AS devices "
        "FROM attempts WHERE release_id = :release AND state = 'refused' GROUP BY 1, 2",
        {"release": release_id},
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["segment"], {})[row["why"]] = row["devices"]
    return found


def expected(tx: Tx, release_id: str, role: str, segment: str, share: int) -> int:
    """Return how many registered devices of the segment the share takes in; exact, by bucket."""
    where = "FROM devices WHERE role = :role AND segment = :segment AND revoked_at IS NULL"
    params = {"role": role, "segment": segment}
    if share >= BUCKETS:
        row = tx.one(f"SELECT COUNT(*) AS devices {where}", params)
        return int(row["devices"]) if row else 0
    rows = tx.all(f"SELECT device_id {where}", params)
    return sum(takes_candidate(release_id, row["device_id"], share) for row in rows)


def waiting(tx: Tx, release: Row, segment: str) -> int:
    """Return how many devices of a segment are online, should take the release, and have not ended with it."""
    row = tx.one(
        "SELECT COUNT(*) AS devices FROM devices "
        "JOIN presence ON presence.device_key = devices.key AND presence.state = 'online' "
        "LEFT JOIN device_latest ON device_latest.device_key = devices.key "
        "LEFT JOIN attempts ON attempts.device_key = devices.key AND attempts.release_id = :release "
        "WHERE devices.role = :role AND devices.segment = :segment AND devices.revoked_at IS NULL "
        "AND devices.version_lock IS NULL AND devices.maintenance = 0 AND devices.safe_mode <> 'on' "
        "AND COALESCE(device_latest.running, '') <> :release "
        "AND COALESCE(attempts.state, '') NOT IN ('committed', 'failed', 'rolled_back', 'refused')",
        {"release": release["id"], "role": release["role"], "segment": segment},
    )
    return int(row["devices"]) if row else 0
