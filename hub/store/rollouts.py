"""Tables of migration m004, by which rollouts are judged; what they are for is said there."""

from __future__ import annotations

from typing import Final


def _detail(row: str) -> str:
    """Return the SQL of why a device refused, or what went wrong after its success. `row` is a prefix like `NEW.`."""
    return (
        f"CASE WHEN {row}state <> 'refused' THEN {row}aftermath WHEN {row}check_name <> '' THEN {row}check_name "
        f"ELSE substr({row}reason, 1, 64) END"
    )


_COUNT_NEW: Final = f"""
    INSERT INTO rollout_counts (release_id, segment, epoch, state, cause, detail, devices)
    VALUES (NEW.release_id, NEW.segment, NEW.epoch, NEW.state, NEW.cause, {_detail("NEW.")}, 1)
    ON CONFLICT (release_id, segment, epoch, state, cause, detail)
    DO UPDATE SET devices = rollout_counts.devices + 1;
"""  # noqa: S608  (our own constants)

_FORGET_OLD: Final = f"""
    UPDATE rollout_counts SET devices = devices - 1 WHERE release_id = OLD.release_id AND segment = OLD.segment
    AND epoch = OLD.epoch AND state = OLD.state AND cause = OLD.cause AND detail = {_detail("OLD.")};
"""  # noqa: S608

_DEVICE_IN: Final = """
    INSERT INTO segment_sizes (role, segment, devices) VALUES (NEW.role, NEW.segment, 1)
    ON CONFLICT (role, segment) DO UPDATE SET devices = segment_sizes.devices + 1;
"""

_DEVICE_OUT: Final = """
    UPDATE segment_sizes SET devices = devices - 1 WHERE role = OLD.role AND segment = OLD.segment;
"""

ROLLOUTS: Final = f"""
ALTER TABLE releases ADD COLUMN stopped_at INTEGER;

ALTER TABLE releases ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

ALTER TABLE stages ADD COLUMN started_by TEXT NOT NULL DEFAULT '';

ALTER TABLE stages ADD COLUMN start_reason TEXT NOT NULL DEFAULT '';

CREATE TABLE schedules (
    release_id TEXT PRIMARY KEY, segment TEXT NOT NULL, basis_points INTEGER NOT NULL, not_before INTEGER NOT NULL,
    actor TEXT NOT NULL, reason TEXT NOT NULL, created_at INTEGER NOT NULL
);

ALTER TABLE segments ADD COLUMN waypoints TEXT NOT NULL DEFAULT '[]';

CREATE TABLE ways (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, step_id TEXT NOT NULL, epoch INTEGER NOT NULL,
    judged_epoch INTEGER NOT NULL, PRIMARY KEY (release_id, segment, step_id)
) WITHOUT ROWID;

CREATE TABLE idempotency (id TEXT PRIMARY KEY, asks BLOB NOT NULL, claimed_at INTEGER NOT NULL, answer BLOB);

CREATE INDEX idempotency_by_age ON idempotency (claimed_at);

ALTER TABLE attempts ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

ALTER TABLE attempts ADD COLUMN aftermath TEXT NOT NULL DEFAULT '';

ALTER TABLE attempts ADD COLUMN aftermath_spool TEXT NOT NULL DEFAULT '';

ALTER TABLE attempts ADD COLUMN aftermath_n INTEGER NOT NULL DEFAULT 0;

ALTER TABLE attempts ADD COLUMN timed INTEGER NOT NULL DEFAULT -1;

CREATE TABLE phase_times (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL,
    devices INTEGER NOT NULL, PRIMARY KEY (release_id, segment, phase, step)
) WITHOUT ROWID;

CREATE INDEX attempts_open ON attempts (release_id, updated_at)
    WHERE state NOT IN ('committed', 'failed', 'rolled_back', 'refused');

CREATE TABLE rollout_counts (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
    detail TEXT NOT NULL, devices INTEGER NOT NULL, PRIMARY KEY (release_id, segment, epoch, state, cause, detail)
) WITHOUT ROWID;

INSERT INTO rollout_counts (release_id, segment, epoch, state, cause, detail, devices)
    SELECT release_id, segment, epoch, state, cause, {_detail("")}, COUNT(*) FROM attempts GROUP BY 1, 2, 3, 4, 5, 6;

CREATE TRIGGER attempts_counted AFTER INSERT ON attempts BEGIN {_COUNT_NEW.strip()} END;

CREATE TRIGGER attempts_moved AFTER UPDATE OF segment, epoch, state, cause, check_name, reason, aftermath ON attempts
BEGIN {_FORGET_OLD.strip()} {_COUNT_NEW.strip()} END;

CREATE TABLE segment_sizes (
    role TEXT NOT NULL, segment TEXT NOT NULL, devices INTEGER NOT NULL, PRIMARY KEY (role, segment)
) WITHOUT ROWID;

INSERT INTO segment_sizes (role, segment, devices)
    SELECT role, segment, COUNT(*) FROM devices WHERE revoked_at IS NULL GROUP BY role, segment;

CREATE TRIGGER devices_came AFTER INSERT ON devices WHEN NEW.revoked_at IS NULL BEGIN {_DEVICE_IN.strip()} END;

CREATE TRIGGER devices_went AFTER DELETE ON devices WHEN OLD.revoked_at IS NULL BEGIN {_DEVICE_OUT.strip()} END;

CREATE TRIGGER devices_moved_out AFTER UPDATE OF role, segment, revoked_at ON devices WHEN OLD.revoked_at IS NULL
BEGIN {_DEVICE_OUT.strip()} END;

CREATE TRIGGER devices_moved_in AFTER UPDATE OF role, segment, revoked_at ON devices WHEN NEW.revoked_at IS NULL
BEGIN {_DEVICE_IN.strip()} END;
"""  # noqa: S608
