"""Tables of migration m008, shares of a segment; what they are for is said there."""

from __future__ import annotations

from typing import Final


def _change(row: str, change: int) -> str:
    return (
        "BEGIN INSERT INTO share_changes (role, segment, device_id, change) "  # noqa: S608  (our own constants)
        f"VALUES ({row}.role, {row}.segment, {row}.device_id, {change}); END"
    )


def _is_counted(row: str) -> str:
    """Return the SQL of whether the device counts, in a segment of which a share is counted."""
    return (
        f"{row}.revoked_at IS NULL AND EXISTS "  # noqa: S608
        f"(SELECT 1 FROM shares WHERE role = {row}.role AND segment = {row}.segment)"
    )


SHARES: Final = f"""
CREATE TABLE steps (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, basis_points INTEGER NOT NULL, started_at INTEGER NOT NULL,
    waits_from INTEGER NOT NULL, started_by TEXT NOT NULL, start_reason TEXT NOT NULL, finished_at INTEGER,
    reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (release_id, segment, basis_points)
) WITHOUT ROWID;

INSERT INTO steps (release_id, segment, basis_points, started_at, waits_from, started_by, start_reason,
        finished_at, reason)
    SELECT stages.release_id, stages.segment,
        CASE WHEN stages.full_at IS NULL THEN releases.basis_points ELSE 10000 END,
        COALESCE(stages.full_at, stages.started_at), COALESCE(stages.full_at, stages.started_at), stages.started_by,
        stages.start_reason, stages.finished_at, stages.reason
    FROM stages JOIN releases ON releases.id = stages.release_id;

CREATE TABLE shares (
    role TEXT NOT NULL, segment TEXT NOT NULL, release_id TEXT NOT NULL, basis_points INTEGER NOT NULL,
    counted_to TEXT NOT NULL DEFAULT '', devices INTEGER NOT NULL DEFAULT 0, is_counted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (role, segment)
) WITHOUT ROWID;

CREATE TABLE share_changes (
    id INTEGER PRIMARY KEY, role TEXT NOT NULL, segment TEXT NOT NULL, device_id TEXT NOT NULL, change INTEGER NOT NULL
);

CREATE TRIGGER share_came AFTER INSERT ON devices WHEN {_is_counted("NEW")} {_change("NEW", 1)};

CREATE TRIGGER share_went AFTER DELETE ON devices WHEN {_is_counted("OLD")} {_change("OLD", -1)};

CREATE TRIGGER share_moved_out AFTER UPDATE OF role, segment, revoked_at ON devices WHEN {_is_counted("OLD")}
{_change("OLD", -1)};

CREATE TRIGGER share_moved_in AFTER UPDATE OF role, segment, revoked_at ON devices WHEN {_is_counted("NEW")}
{_change("NEW", 1)};
"""  # noqa: S608
