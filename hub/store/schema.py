"""Tables, migration by migration. Times are milliseconds since the Unix epoch unless a name says otherwise.

Devices have an integer key inside, because text keys in telemetry tables cost three times the space. A key is
never given twice (AUTOINCREMENT), or a new device would inherit what a deleted one reported.
"""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database, Migrations

from hub.store.recovery import RECOVERY
from hub.store.rollouts import ROLLOUTS
from hub.store.sessions import SESSIONS
from hub.store.shares import SHARES

MIGRATIONS: Final = Migrations("flaghoist")

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE roots (
    version INTEGER PRIMARY KEY, envelope BLOB NOT NULL, sha256 TEXT NOT NULL,
    expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
);

CREATE TABLE operators (
    token_sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, created_at INTEGER NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, role TEXT NOT NULL, segment TEXT NOT NULL,
    uses_left INTEGER NOT NULL, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL, created_by TEXT NOT NULL
);

CREATE TABLE devices (
    key INTEGER PRIMARY KEY AUTOINCREMENT, device_id TEXT NOT NULL UNIQUE, public_key BLOB NOT NULL,
    role TEXT NOT NULL, segment TEXT NOT NULL, branch TEXT NOT NULL DEFAULT 'main', site TEXT NOT NULL DEFAULT '',
    hardware TEXT NOT NULL DEFAULT '', serial TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL DEFAULT '',
    geolocation TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '{}',
    update_interval INTEGER NOT NULL, event_stream_url TEXT NOT NULL DEFAULT '', version_lock TEXT,
    maintenance INTEGER NOT NULL DEFAULT 0, safe_mode TEXT NOT NULL DEFAULT 'auto',
    commands TEXT NOT NULL DEFAULT '[]', token_id TEXT NOT NULL DEFAULT '', certificate_pem TEXT NOT NULL DEFAULT '',
    certificate_not_after INTEGER NOT NULL DEFAULT 0, rekey_allowed INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 1, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, revoked_at INTEGER
);
CREATE INDEX devices_by_segment ON devices (role, segment, device_id);

CREATE TABLE device_latest (
    device_key INTEGER PRIMARY KEY, boot INTEGER NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL,
    at INTEGER NOT NULL, received_at INTEGER NOT NULL, health TEXT NOT NULL, running TEXT,
    running_sequence INTEGER NOT NULL, agent_version TEXT NOT NULL, body BLOB NOT NULL
);

CREATE TABLE presence (
    device_key INTEGER PRIMARY KEY, boot INTEGER NOT NULL, session INTEGER NOT NULL, state TEXT NOT NULL,
    at INTEGER NOT NULL, next_wake INTEGER NOT NULL, received_at INTEGER NOT NULL
);

CREATE TABLE reports (
    device_key INTEGER NOT NULL, spool TEXT NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL, release_id TEXT,
    at INTEGER NOT NULL, received_at INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (device_key, spool, n)
);
CREATE INDEX reports_by_time ON reports (device_key, received_at);

CREATE TABLE spools (
    device_key INTEGER NOT NULL, spool TEXT NOT NULL, contiguous INTEGER NOT NULL, PRIMARY KEY (device_key, spool)
);

CREATE TABLE attempts (
    release_id TEXT NOT NULL, device_key INTEGER NOT NULL, attempt INTEGER NOT NULL, segment TEXT NOT NULL,
    state TEXT NOT NULL, cause TEXT NOT NULL, reason TEXT NOT NULL, check_name TEXT NOT NULL, from_id TEXT,
    began_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, PRIMARY KEY (release_id, device_key)
);
CREATE INDEX attempts_by_segment ON attempts (release_id, segment, state, cause);

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    first_bytes BLOB NOT NULL, size INTEGER NOT NULL, received_at INTEGER NOT NULL
);
CREATE TABLE quarantine_counts (reason TEXT PRIMARY KEY, count INTEGER NOT NULL);

CREATE TABLE releases (
    id TEXT PRIMARY KEY, role TEXT NOT NULL, sequence INTEGER NOT NULL, commit_id TEXT NOT NULL,
    version TEXT NOT NULL, floor INTEGER NOT NULL, envelope BLOB NOT NULL, policy TEXT NOT NULL,
    state TEXT NOT NULL, segment TEXT, basis_points INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    previous_id TEXT, judged_from INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (role, sequence)
);
CREATE INDEX releases_by_state ON releases (state);

CREATE TABLE stages (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, started_at INTEGER NOT NULL, full_at INTEGER,
    finished_at INTEGER, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (release_id, segment)
);

CREATE TABLE segments (
    role TEXT NOT NULL, segment TEXT NOT NULL, stable_id TEXT, candidate_id TEXT,
    basis_points INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0,
    rollback_from INTEGER NOT NULL DEFAULT 0, event TEXT NOT NULL DEFAULT 'refresh', PRIMARY KEY (role, segment)
);

CREATE TABLE retained (
    topic TEXT PRIMARY KEY, revision INTEGER NOT NULL, issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX retained_by_revision ON retained (revision);
CREATE INDEX retained_by_expiry ON retained (expires_at);

CREATE TABLE artifacts (
    release_id TEXT PRIMARY KEY, role TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    checksums BLOB NOT NULL, created_at INTEGER NOT NULL
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY, n INTEGER UNIQUE, at INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL,
    device_id TEXT, release_id TEXT, role TEXT, reason TEXT NOT NULL DEFAULT '', body TEXT NOT NULL,
    request_id TEXT NOT NULL DEFAULT '', hash TEXT
);
CREATE INDEX events_by_device ON events (device_id, n);
CREATE INDEX events_by_release ON events (release_id, n);
CREATE INDEX events_unsealed ON events (id) WHERE n IS NULL;
"""


@MIGRATIONS()
def m001_first(db: Database) -> None:
    """Everything the first release needs."""
    for statement in _FIRST.split(";\n"):
        if statement.strip():
            db.execute(statement)


_ROLLUPS: Final = """
ALTER TABLE device_latest ADD COLUMN rollup BLOB;

CREATE TABLE rollups_5m (
    start INTEGER NOT NULL, device_key INTEGER NOT NULL, count INTEGER NOT NULL, health INTEGER NOT NULL,
    probed INTEGER NOT NULL, warm INTEGER NOT NULL, cpu_sum REAL NOT NULL, cpu_max REAL NOT NULL,
    memory_sum REAL NOT NULL, memory_max REAL NOT NULL, disk_sum REAL NOT NULL, disk_max REAL NOT NULL,
    degree_sum REAL NOT NULL, degree_max REAL NOT NULL, PRIMARY KEY (start, device_key)
) WITHOUT ROWID;

CREATE TABLE rollups_1h (
    day INTEGER NOT NULL, device_key INTEGER NOT NULL, hours BLOB NOT NULL, PRIMARY KEY (day, device_key)
) WITHOUT ROWID;

CREATE TABLE rollups_1d (
    day INTEGER NOT NULL, device_key INTEGER NOT NULL, slot BLOB NOT NULL, PRIMARY KEY (day, device_key)
) WITHOUT ROWID;

CREATE TABLE devices_version (n INTEGER NOT NULL);

INSERT INTO devices_version (n) VALUES (0);

CREATE TRIGGER devices_changed AFTER UPDATE OF key, device_id, segment, revoked_at ON devices BEGIN
    UPDATE devices_version SET n = n + 1; END;

CREATE TRIGGER devices_deleted AFTER DELETE ON devices BEGIN
    UPDATE devices_version SET n = n + 1; END;
"""


@MIGRATIONS()
def m002_rollups(db: Database) -> None:
    """Rollups of heartbeats by start (s) and day (days since the epoch), so that a retention deletes one stretch.

    `devices_version` tells ingest, which remembers devices between batches, that it must look again.
    """
    _run(db, _ROLLUPS)


_TIMELINE: Final = """
ALTER TABLE spools ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;

ALTER TABLE presence ADD COLUMN silent INTEGER NOT NULL DEFAULT 0;

CREATE INDEX presence_silent ON presence (device_key) WHERE silent = 1;

CREATE TABLE presence_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device_key INTEGER NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL, boot INTEGER NOT NULL, session INTEGER NOT NULL, next_wake INTEGER NOT NULL,
    last_at INTEGER NOT NULL, times INTEGER NOT NULL
);

CREATE INDEX presence_log_by_device ON presence_log (device_key);

CREATE INDEX events_by_role ON events (role, at) WHERE device_id IS NULL;
"""


@MIGRATIONS()
def m003_timeline(db: Database) -> None:
    """What a device's timeline is read from, and what its thinning has to remember.

    `spools.pruned` is the highest n whose report was deleted for its age: all up to it have been taken in.
    `presence.silent` is 1 from the missed heartbeats on until something is heard. `presence_log.id` is never given
    twice, since the events about presence are written up to an id.
    """
    _run(db, _TIMELINE)


@MIGRATIONS()
def m004_rollouts(db: Database) -> None:
    """What rollouts are decided on, counted as it comes in, so that judging one costs the same for any fleet.

    `rollout_counts` has the attempts by their state; `detail` is why a device refused, or what went wrong after its
    success. `epoch` counts how often a release was resumed after a halt: what came before was looked at.
    `aftermath_spool` and `aftermath_n` are of the last report that an attempt was changed by; `timed` is the attempt
    whose success is counted in `phase_times`, by step of time.
    `segments.waypoints` are the ids of the releases that its manifest has as steps; `ways` says from which epoch of a
    step on attempts at it belong to the rollout of another release. `schedules` are promotions that wait for their
    time; `stopped_at` is since when a rollout stands still. `idempotency` has the sealed answers to posts with a key.
    """
    _run(db, ROLLOUTS)


_REVOKED: Final = """
CREATE TABLE revoked_certificates (
    n INTEGER PRIMARY KEY AUTOINCREMENT, serial TEXT NOT NULL UNIQUE, device_id TEXT NOT NULL,
    not_after INTEGER NOT NULL, revoked_at INTEGER NOT NULL
);
"""


@MIGRATIONS()
def m005_revoked_certificates(db: Database) -> None:
    """Withdrawn device certificates. They outlive their device: a deleted one must not come in again."""
    _run(db, _REVOKED)


_API_KEYS: Final = """
ALTER TABLE operators ADD COLUMN id TEXT NOT NULL DEFAULT '';

ALTER TABLE operators ADD COLUMN created_by TEXT NOT NULL DEFAULT '';

ALTER TABLE operators ADD COLUMN expires_at INTEGER;

UPDATE operators SET id = 'admin', created_by = 'rule:start';

CREATE UNIQUE INDEX operators_by_id ON operators (id);
"""


@MIGRATIONS()
def m006_api_keys(db: Database) -> None:
    """Keys with an end, that can be listed and revoked; until now there was the first admin's only."""
    _run(db, _API_KEYS)


_CHECKPOINTS: Final = """
CREATE TABLE checkpoints (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, envelope BLOB NOT NULL);
"""


@MIGRATIONS()
def m007_checkpoints(db: Database) -> None:
    """Signed states of the event log, by the number of the event that each ends with."""
    _run(db, _CHECKPOINTS)


@MIGRATIONS()
def m008_shares(db: Database) -> None:
    """Shares of a segment: when each was begun and why, and how many devices the present one takes in.

    A step's `waits_from` is `started_at`, moved on by the time in which the rollout stood still. `shares` has what was
    counted of a large segment, up to the device id `counted_to`, and of the whole once `is_counted`; `share_changes`
    are devices that came (1) or went (-1) since, which are taken into it.
    """
    _run(db, SHARES)


@MIGRATIONS()
def m009_recovery(db: Database) -> None:
    """Who is held back and why, commands, and what recovery has still to look at.

    `devices.quarantine_rule` is the rule that holds a device back, "" for none. `held_counts` has the attempts of such
    devices, which `rollout_counts` has as well: what they have not ended is awaited no longer. `commands` are all of
    them, the pending ones go into the desired state, which had its own list until now. `recovery_inbox` names what was
    reported and not looked at yet; `drifting` since when a device reports a drift, `restarting` how often its service
    was restarted since `base_at`; `storms` when a role last had so many in quarantine that it was told.
    """
    _run(db, RECOVERY)


_POLICIES: Final = """
CREATE TABLE policies (
    id TEXT PRIMARY KEY, role TEXT, kind TEXT NOT NULL, body TEXT NOT NULL, created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
);

CREATE TABLE approvals (
    release_id TEXT NOT NULL, segment TEXT NOT NULL, approved_by TEXT NOT NULL, approved_at INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (release_id, segment, approved_by)
) WITHOUT ROWID;

CREATE TABLE compliance_days (day INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""


@MIGRATIONS()
def m012_governance(db: Database) -> None:
    """Fleet policies as JSON, who approved what, and one compliance report a day (days since the epoch)."""
    _run(db, _POLICIES)


_EVENTS: Final = """
DROP INDEX events_by_device;

DROP INDEX events_by_release;

DROP INDEX events_by_role;

CREATE INDEX events_by_device ON events (device_id, n) WHERE device_id IS NOT NULL;

CREATE INDEX events_by_release ON events (release_id, n) WHERE release_id IS NOT NULL;

CREATE INDEX events_by_role ON events (role, at) WHERE role IS NOT NULL AND device_id IS NULL;
"""


@MIGRATIONS()
def m013_events(db: Database) -> None:
    """Events enter only the indexes that could find them: each further one is a page more in the action's commit."""
    _run(db, _EVENTS)


_CERTIFICATES: Final = """
CREATE TABLE former_certificates (serial TEXT PRIMARY KEY, device_key INTEGER NOT NULL, not_after INTEGER NOT NULL);

CREATE INDEX former_certificates_by_device ON former_certificates (device_key);

CREATE TABLE odd_starts (
    device_key INTEGER PRIMARY KEY, boot INTEGER NOT NULL, first TEXT NOT NULL, other TEXT NOT NULL,
    seq INTEGER NOT NULL
);

ALTER TABLE devices ADD COLUMN ca_confirmed TEXT NOT NULL DEFAULT '';

ALTER TABLE tokens ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;

ALTER TABLE tokens ADD COLUMN revoked_at INTEGER;

ALTER TABLE tokens ADD COLUMN ca_sha256 TEXT NOT NULL DEFAULT '';

UPDATE tokens SET uses = uses_left;
"""


@MIGRATIONS()
def m014_certificates(db: Database) -> None:
    """Certificates that were renewed and have not expired yet, so that a revocation is of all of a device's.

    `devices.ca_confirmed` is the newest CA that the device said it knows, "" for none but the one it was enrolled with.
    `odd_starts` are starts of agents that came under one number: what else was heard under it, and the seq up to which
    the first had been heard by then. `tokens.uses` is how many a token was made for; `ca_sha256` the CA that it names,
    "" for the first.
    """
    _run(db, _CERTIFICATES)


@MIGRATIONS()
def m015_sessions(db: Database) -> None:
    """People who log in, and the sessions of their browsers.

    `people.actor` is a person by issuer and subject, `name` what they were last called. A session is kept by the hash
    of its text; `login_sha256` is of what only its login had, so that none is finished twice; `terms` is of the options
    by which roles are given; `id_token` is sealed by the session's text, and opens nothing itself;
    `ended_at` is null until somebody ends it.
    """
    _run(db, SESSIONS)


_STANDING: Final = """
ALTER TABLE device_latest ADD COLUMN safe_mode INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER events_numbered_stay BEFORE UPDATE ON events WHEN OLD.n IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an event that has its number is not changed'); END;

CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'an event is not deleted'); END;
"""


@MIGRATIONS()
def m016_standing(db: Database) -> None:
    """What a device says of its own safe mode; and the database itself keeps events from being changed or deleted.

    Who can write to the file can take such a trigger away; then the chain of hashes tells.
    """
    _run(db, _STANDING)


def _run(db: Database, script: str) -> None:
    for statement in script.split(";\n\n"):
        if statement.strip():
            db.execute(statement)
