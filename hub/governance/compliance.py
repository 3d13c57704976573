"""The compliance report: one reading of the store, as plain values that JSON, CSV and a page are made of.

What is counted, per role, segment and site:

- `agents_below`: devices whose agent is older than the policies in force ask for, or has not been heard of.
- `drifted`: devices with a drift that nobody has put right.
- `safe_mode`: devices in safe mode, by their own accord or by order. `quarantined`: held back for any reason.
- `silent`: devices that were never heard of, or whose heartbeats stay out.
- `certificates_expiring`: devices whose certificate ends within `EXPIRY_WARNING_MS`, or has ended.

Revoked devices are left out. A release has no end of its own: what expires is the root that its signatures are judged
by, and the manifest that offers it; both are listed under `expiring`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from hub import events
from hub.policies.documents import Held, LeastAgent, from_store
from hub.presence import IN_SAFE_MODE
from hub.store import Row, Tx
from hub.times import rfc3339
from topics import codec, envelope
from topics.channels import parse
from topics.documents import Checkpoint
from topics.eligibility import version_at_least
from topics.errors import DecodeError, TrustError

DAY_MS: Final = 86_400_000
PERIOD_DAYS: Final = 30
EXPIRY_WARNING_MS: Final = 30 * DAY_MS
MANIFEST_WARNING_MS: Final = DAY_MS
LISTED: Final = 1_000
"""Devices, exceptions and rollouts that are named; the rest are counted."""
_SEAL: Final = 4 * 1024
"""Largest checkpoint in bytes."""

FINDINGS: Final = (
    "agents_below",
    "drifted",
    "safe_mode",
    "quarantined",
    "silent",
    "certificates_expiring",
)


def report(tx: Tx, fleet: str, *, now: int, days: int = PERIOD_DAYS) -> dict[str, Any]:
    """Return the whole report at `now` (ms); exceptions and rollouts are those of the last `days`."""
    least = least_agents(
        Held(row["id"], from_store(row["body"])) for row in tx.all("SELECT id, body FROM policies")
    )
    groups = _groups(tx, least, now)
    since = now - days * DAY_MS
    return {
        "fleet": fleet,
        "at": rfc3339(now),
        "days": days,
        "least_agents": {role or "*": version for role, version in sorted(least.items())},
        "totals": {name: sum(group[name] for group in groups) for name in ("devices", *FINDINGS)},
        "groups": groups,
        "devices": _devices(tx, least, now),
        "expiring": _expiring(tx, now),
        "exceptions": _exceptions(tx, since),
        "rollouts": _rollouts(tx, since),
        "chain": check_chain(tx),
    }


def least_agents(policies: Iterable[Held]) -> dict[str, str]:
    """Return the least agent version by role, "" for all roles; of several policies the strictest."""
    found: dict[str, str] = {}
    for held in policies:
        if isinstance(held.policy, LeastAgent):
            role = held.policy.role or ""
            if role not in found or version_at_least(held.policy.version, found[role]):
                found[role] = held.policy.version
    return found


def is_below(role: str, version: str, least: dict[str, str]) -> bool:
    """Whether an agent of `role` is older than the policies ask for; one that nobody can read always is."""
    return any(not version_at_least(version, least[name]) for name in ("", role) if name in least)


# Never heard of counts as silent: nobody can say that such a device runs what it should.
_FLAGS: Final = f"""
    CASE WHEN drifting.device_key IS NULL THEN 0 ELSE 1 END AS drifted,
    CASE WHEN {IN_SAFE_MODE} THEN 1 ELSE 0 END AS safe_mode,
    CASE WHEN devices.quarantine_rule <> '' THEN 1 ELSE 0 END AS quarantined,
    CASE WHEN presence.silent = 1 OR (presence.device_key IS NULL AND device_latest.device_key IS NULL)
        THEN 1 ELSE 0 END AS silent,
    CASE WHEN devices.certificate_not_after < :expiring THEN 1 ELSE 0 END AS certificates_expiring,
    COALESCE(device_latest.agent_version, '') AS agent
FROM devices LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN presence ON presence.device_key = devices.key
LEFT JOIN drifting ON drifting.device_key = devices.key
WHERE devices.revoked_at IS NULL
"""
_GROUPS: Final = f"""
SELECT role, segment, site, agent, COUNT(*) AS devices, SUM(drifted) AS drifted, SUM(safe_mode) AS safe_mode,
    SUM(quarantined) AS quarantined, SUM(silent) AS silent, SUM(certificates_expiring) AS certificates_expiring
FROM (SELECT devices.role AS role, devices.segment AS segment, devices.site AS site, {_FLAGS}) AS flagged
GROUP BY role, segment, site, agent ORDER BY role, segment, site, agent
"""  # noqa: S608  (our own constants)
_DEVICES: Final = f"""
SELECT * FROM (
    SELECT devices.device_id AS device_id, devices.role AS role, devices.segment AS segment, devices.site AS site,
    {_FLAGS}
) AS flagged
WHERE drifted + safe_mode + quarantined + silent + certificates_expiring > 0 OR :look_at_agents = 1
ORDER BY device_id
"""  # noqa: S608


def _moment(now: int) -> dict[str, int]:
    return {"now": now, "expiring": now + EXPIRY_WARNING_MS}


def _groups(tx: Tx, least: dict[str, str], now: int) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(
        lambda: dict.fromkeys(("devices", *FINDINGS), 0)
    )
    for row in tx.all(_GROUPS, _moment(now)):
        counts = found[(row["role"], row["segment"], row["site"])]
        for name in counts:
            if name == "agents_below":
                counts[name] += row["devices"] if is_below(row["role"], row["agent"], least) else 0
            else:
                counts[name] += row[name]
    return [
        {"role": role, "segment": segment, "site": site, **counts}
        for (role, segment, site), counts in found.items()
    ]


def _devices(tx: Tx, least: dict[str, str], now: int) -> dict[str, Any]:
    """Return the devices with findings by name, and how many more there are."""
    items: list[dict[str, Any]] = []
    more = 0
    for row in tx.all(_DEVICES, {**_moment(now), "look_at_agents": int(bool(least))}):
        flags = [name for name in FINDINGS if name != "agents_below" and row[name]]
        if is_below(row["role"], row["agent"], least):
            flags.insert(0, "agents_below")
        if not flags:
            continue
        if len(items) == LISTED:
            more += 1
            continue
        items.append(
            {
                **{key: row[key] for key in ("device_id", "role", "segment", "site", "agent")},
                "findings": flags,
            }
        )
    return {"items": items, "more": more}


def _expiring(tx: Tx, now: int) -> list[dict[str, Any]]:
    root = tx.one("SELECT version, expires_at FROM roots ORDER BY version DESC LIMIT 1")
    found = []
    if root is not None and root["expires_at"] < now + EXPIRY_WARNING_MS:
        found.append(
            {"what": "root", "name": str(root["version"]), "expires_at": rfc3339(root["expires_at"])}
        )
    rows = tx.all(
        "SELECT topic, expires_at FROM retained WHERE expires_at > 0 AND expires_at < :soon ORDER BY expires_at, topic "
        "LIMIT :limit",
        {"soon": now + MANIFEST_WARNING_MS, "limit": LISTED},
    )
    for row in rows:
        address = parse(row["topic"])
        name = f"{address.role}/{address.segment}" if address.role else row["topic"]
        found.append({"what": "manifest", "name": name, "expires_at": rfc3339(row["expires_at"])})
    return found


def _exceptions(tx: Tx, since: int) -> list[dict[str, Any]]:
    rows = tx.all(
        "SELECT * FROM events WHERE kind = 'policy.excepted' AND at >= :since AND n IS NOT NULL "
        "ORDER BY n DESC LIMIT :limit",
        {"since": since, "limit": LISTED},
    )
    return [
        {
            **{key: row[key] for key in ("n", "actor", "device_id", "release_id", "role", "reason")},
            "at": rfc3339(row["at"]),
            "policy": msgspec.json.decode(row["body"]),
        }
        for row in rows
    ]


_ROLLOUTS: Final = """
SELECT releases.id, releases.role, releases.version, releases.state, releases.segment, releases.reason,
    MIN(stages.started_at) AS started_at, MIN(stages.started_by) AS started_by, releases.updated_at
FROM releases JOIN stages ON stages.release_id = releases.id
WHERE releases.updated_at >= :since OR releases.state IN ('rolling', 'paused', 'halted')
GROUP BY releases.id, releases.role, releases.version, releases.state, releases.segment, releases.reason,
    releases.updated_at
ORDER BY started_at DESC, releases.id LIMIT :limit
"""
_OUTCOMES: Final = """
SELECT state, SUM(devices) AS devices FROM rollout_counts WHERE release_id = :id AND devices > 0 GROUP BY state
"""


def _rollouts(tx: Tx, since: int) -> list[dict[str, Any]]:
    return [_rollout(tx, row) for row in tx.all(_ROLLOUTS, {"since": since, "limit": LISTED})]


def _rollout(tx: Tx, row: Row) -> dict[str, Any]:
    outcomes = {one["state"]: one["devices"] for one in tx.all(_OUTCOMES, {"id": row["id"]})}
    return {
        **{key: row[key] for key in ("id", "role", "version", "state", "segment", "reason", "started_by")},
        "started_at": rfc3339(row["started_at"]),
        "updated_at": rfc3339(row["updated_at"]),
        "devices": outcomes,
    }


def check_chain(tx: Tx) -> dict[str, Any]:
    """Return whether every sealed event is what was sealed: how many there are, and the first that is not.

    Held against the hub's own checkpoints too, so that events deleted from the end are missed, and a history that was
    computed anew is noticed at the first of them.
    """
    n, previous = 0, events.GENESIS
    marks = {row["n"]: _sealed_hash(row["envelope"]) for row in tx.all("SELECT n, envelope FROM checkpoints")}
    while rows := events.after(tx, n, limit=1_000):
        for row in rows:
            if row["n"] != n + 1 or events.chain(previous, row["n"], row) != row["hash"]:
                return {"ok": False, "events": n, "first_bad": n + 1}
            if marks.get(row["n"], row["hash"]) != row["hash"]:
                return {"ok": False, "events": n, "first_bad": n + 1}
            n, previous = row["n"], row["hash"]
    if any(mark > n for mark in marks):
        return {"ok": False, "events": n, "first_bad": n + 1}
    return {"ok": True, "events": n, "head": previous}


def _sealed_hash(sealed: bytes) -> str:
    """Return the hash in a checkpoint of our own, "" for what is none: no event has it."""
    try:
        return codec.decode_signed(
            envelope.open_envelope(sealed, limit=_SEAL).payload, Checkpoint, limit=_SEAL
        ).hash
    except (TrustError, DecodeError):
        return ""
