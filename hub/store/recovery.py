"""Tables of migration m009, by which devices are held back and told what to do; what they are for is said there."""

from __future__ import annotations

from typing import Final


def _held(row: str, sign: str) -> str:
    """Return the SQL that counts one attempt of a quarantined device in or out. `row` is a prefix like `NEW.`."""
    return f"""
    INSERT INTO held_counts (release_id, segment, epoch, state, devices)
    VALUES ({row}release_id, {row}segment, {row}epoch, {row}state, {sign}1)
    ON CONFLICT (release_id, segment, epoch, state) DO UPDATE SET devices = held_counts.devices {sign} 1;
"""  # noqa: S608  (our own constants)


def _held_all(device: str, sign: str) -> str:
    """Return the SQL that counts all attempts of one device in or out."""
    return f"""
    INSERT INTO held_counts (release_id, segment, epoch, state, devices)
    SELECT release_id, segment, epoch, state, {sign}1 FROM attempts WHERE device_key = {device}.key
    ON CONFLICT (release_id, segment, epoch, state) DO UPDATE SET devices = held_counts.devices {sign} 1;
"""  # noqa: S608


def _is_held(row: str) -> str:
    return f"EXISTS (SELECT 1 FROM devices WHERE key = {row}.device_key AND quarantine_rule <> '')"  # noqa: S608


_TELLS: Final = (
    f"(NEW.state = 'rolled_back' AND NEW.cause = 'own') OR (NEW.state = 'committed' AND {_is_held('NEW')})"
)
"""Of attempts, what recovery looks at: an activation that failed, and the success of a device that is held back."""

RECOVERY: Final = f"""
ALTER TABLE devices DROP COLUMN commands;

ALTER TABLE devices ADD COLUMN quarantine_rule TEXT NOT NULL DEFAULT '';

ALTER TABLE devices ADD COLUMN quarantine_reason TEXT NOT NULL DEFAULT '';

ALTER TABLE devices ADD COLUMN quarantined_by TEXT NOT NULL DEFAULT '';

ALTER TABLE devices ADD COLUMN quarantined_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX devices_quarantined ON devices (role, segment, device_id) WHERE quarantine_rule <> '';

CREATE INDEX attempts_by_device ON attempts (device_key);

CREATE TABLE held_counts (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
    devices INTEGER NOT NULL, PRIMARY KEY (release_id, segment, epoch, state)
) WITHOUT ROWID;

CREATE TRIGGER attempts_held AFTER INSERT ON attempts WHEN {_is_held("NEW")}
BEGIN {_held("NEW.", "+").strip()} END;

CREATE TRIGGER attempts_held_moved AFTER UPDATE OF segment, epoch, state ON attempts WHEN {_is_held("NEW")}
BEGIN {_held("OLD.", "-").strip()} {_held("NEW.", "+").strip()} END;

CREATE TRIGGER devices_held AFTER UPDATE OF quarantine_rule ON devices
WHEN OLD.quarantine_rule = '' AND NEW.quarantine_rule <> '' BEGIN {_held_all("NEW", "+").strip()} END;

CREATE TRIGGER devices_let_go AFTER UPDATE OF quarantine_rule ON devices
WHEN OLD.quarantine_rule <> '' AND NEW.quarantine_rule = '' BEGIN {_held_all("NEW", "-").strip()} END;

CREATE TRIGGER devices_held_gone AFTER DELETE ON devices WHEN OLD.quarantine_rule <> ''
BEGIN {_held_all("OLD", "-").strip()} END;

CREATE TABLE commands (
    id TEXT PRIMARY KEY, device_key INTEGER NOT NULL, kind TEXT NOT NULL, release_id TEXT, args TEXT NOT NULL,
    created_at INTEGER NOT NULL, created_by TEXT NOT NULL, reason TEXT NOT NULL, expires_at INTEGER NOT NULL,
    state TEXT NOT NULL, ended_at INTEGER, detail TEXT NOT NULL DEFAULT ''
);

CREATE INDEX commands_by_device ON commands (device_key, created_at);

CREATE INDEX commands_pending ON commands (expires_at) WHERE state = 'pending';

CREATE TABLE recovery_inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device_key INTEGER NOT NULL, kind TEXT NOT NULL,
    spool TEXT NOT NULL, n INTEGER NOT NULL
);

CREATE TRIGGER reports_to_recovery AFTER INSERT ON reports WHEN NEW.kind IN ('recovery', 'command-result', 'drift')
BEGIN INSERT INTO recovery_inbox (device_key, kind, spool, n) VALUES (NEW.device_key, NEW.kind, NEW.spool, NEW.n); END;

CREATE TRIGGER attempts_to_recovery AFTER INSERT ON attempts WHEN {_TELLS}
BEGIN INSERT INTO recovery_inbox (device_key, kind, spool, n) VALUES (NEW.device_key, NEW.state, '', 0); END;

CREATE TRIGGER attempts_moved_to_recovery AFTER UPDATE OF state ON attempts WHEN {_TELLS}
BEGIN INSERT INTO recovery_inbox (device_key, kind, spool, n) VALUES (NEW.device_key, NEW.state, '', 0); END;

CREATE TABLE drifting (device_key INTEGER PRIMARY KEY, since INTEGER NOT NULL);

CREATE INDEX drifting_by_age ON drifting (since);

CREATE TABLE restarting (
    device_key INTEGER PRIMARY KEY, base INTEGER NOT NULL, base_at INTEGER NOT NULL, restarts INTEGER NOT NULL
);

CREATE TRIGGER restarts_to_recovery AFTER UPDATE OF restarts ON restarting WHEN NEW.restarts > OLD.restarts
BEGIN INSERT INTO recovery_inbox (device_key, kind, spool, n) VALUES (NEW.device_key, 'restarts', '', 0); END;

CREATE TABLE storms (role TEXT PRIMARY KEY, at INTEGER NOT NULL, devices INTEGER NOT NULL)
"""  # noqa: S608
