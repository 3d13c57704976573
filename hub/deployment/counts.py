"""What is known of a release in a segment, from counts that are kept as reports come in.

Reading them costs the same for a thousand devices and for a million: a row for each outcome, and the attempts that
have been without an end for longer than the time-out.
"""

from __future__ import annotations

from typing import Final

import msgspec

from hub.deployment.policy import Policy
from hub.deployment.rules import Counts
from hub.store import Row, Tx

_OPEN: Final = "state NOT IN ('committed', 'failed', 'rolled_back', 'refused')"
_HEARD: Final = (
    "CASE WHEN device_latest.received_at > attempts.updated_at THEN device_latest.received_at "
    "ELSE attempts.updated_at END"
)

# Nothing more is awaited of a device in quarantine; what it has ended stays, or a bad release would hide its failures.
COUNTED: Final = f"""
SELECT segment, epoch, state, cause, detail, devices FROM rollout_counts WHERE release_id = :release AND devices > 0
UNION ALL
SELECT segment, epoch, state, '', '', -devices FROM held_counts
WHERE release_id = :release AND devices > 0 AND {_OPEN}
"""  # noqa: S608  (our own constants)

# Only what has had no end for the time-out is looked at; who is heard of by heartbeats is not lost.
SILENT: Final = f"""
SELECT release_id, segment, epoch, COUNT(*) AS devices,
    SUM(CASE WHEN heard >= :judged_from THEN 1 ELSE 0 END) AS fresh FROM (
    SELECT attempts.release_id AS release_id, attempts.segment AS segment, attempts.epoch AS epoch, {_HEARD} AS heard
    FROM attempts LEFT JOIN device_latest ON device_latest.device_key = attempts.device_key
    LEFT JOIN devices ON devices.key = attempts.device_key
    WHERE COALESCE(devices.quarantine_rule, '') = ''
    AND attempts.release_id = :release AND attempts.{_OPEN} AND attempts.updated_at < :silent_before
) AS waited WHERE heard < :silent_before GROUP BY 1, 2, 3
"""  # noqa: S608  (our own constants)

_AWAITED: Final = """
SELECT devices.device_id FROM devices
JOIN presence ON presence.device_key = devices.key AND presence.state = 'online'
LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN attempts ON attempts.device_key = devices.key AND attempts.release_id = :release
WHERE devices.role = :role AND devices.segment = :segment AND devices.revoked_at IS NULL
AND devices.version_lock IS NULL AND devices.maintenance = 0 AND devices.safe_mode <> 'on'
AND devices.quarantine_rule = '' AND COALESCE(device_latest.running, '') <> :release
AND COALESCE(attempts.state, '') NOT IN ('committed', 'failed', 'rolled_back', 'refused')
"""


class Known(msgspec.Struct, frozen=True):
    """Counts by the segment in which each device began, so that one moved or deleted changes no denominator.

    `judged` leaves out failures that an operator has looked at and resumed past; it is what rules decide on.
    """

    all: dict[str, Counts]
    judged: dict[str, Counts]
    refused: dict[str, dict[str, int]]


def known(tx: Tx, release: Row, policy: Policy, *, now: int, observed_since: int) -> Known:
    """Return what is known of a release; times in ms.

    Silence is counted from `observed_since` at the earliest: while ingest was away nobody could be heard.
    """
    silent_before = now - policy.failure.update_timeout_seconds * 1000
    if observed_since >= silent_before:
        silent_before = -1
    asked = {"silent_before": silent_before, "judged_from": release["judged_from"]}
    counted, silent = _rows(tx, release["id"], asked)
    rows = [(row, row["epoch"] >= release["epoch"]) for row in counted]
    for step in tx.all("SELECT * FROM ways WHERE release_id = :id", {"id": release["id"]}):
        # On the way to the release: a step that was taken well says nothing of it yet.
        taken, waited = _rows(tx, step["step_id"], asked)
        rows += [
            (row, row["epoch"] >= step["judged_epoch"])
            for row in taken
            if _is_step(row, step) and _outcome(row) != "committed"
        ]
        silent += [row for row in waited if _is_step(row, step)]
    found = Known({}, {}, {})
    for segment in sorted({row["segment"] for row, _ in rows}):
        here = [(row, is_new) for row, is_new in rows if row["segment"] == segment]
        lost = sum(row["devices"] for row in silent if row["segment"] == segment)
        fresh = sum(row["fresh"] for row in silent if row["segment"] == segment)
        found.all[segment] = _counts([(row, True) for row, _ in here], lost)
        found.judged[segment] = _counts(here, fresh, lost - fresh)
        refused: dict[str, int] = {}
        for row, _ in here:
            if row["state"] == "refused":
                refused[row["detail"]] = refused.get(row["detail"], 0) + row["devices"]
        if refused:
            found.refused[segment] = refused
    return found


def _rows(tx: Tx, release_id: str, asked: dict[str, int]) -> tuple[list[Row], list[Row]]:
    counted = tx.all(COUNTED, {"release": release_id})
    return counted, tx.all(SILENT, {"release": release_id, **asked})


def _is_step(row: Row, step: Row) -> bool:
    return bool(row["segment"] == step["segment"] and row["epoch"] >= step["epoch"])


def _counts(rows: list[tuple[Row, bool]], lost: int, forgiven: int = 0) -> Counts:
    """Add up rows, each with whether it is new: an old failure is as if it had not begun, one of the `forgiven` too."""
    sums = dict.fromkeys(("committed", "failed", "rolled_back", "drifted", "safe_mode", "open"), 0)
    for row, is_new in rows:
        outcome = _outcome(row)
        if outcome in ("committed", "open") or (outcome and is_new):
            sums[outcome] += row["devices"]
    in_progress = sums.pop("open") - forgiven
    return Counts(began=sum(sums.values()) + in_progress, lost=lost, **sums)


def _outcome(row: Row) -> str:
    """Return how an attempt counts; "" for one that does not, as if it had not begun.

    | state | cause | aftermath | counts as |
    | --- | --- | --- | --- |
    | `committed` | any | none | `committed` |
    | `committed` | any | `drift` | `drifted` |
    | `committed` | any | `safe_mode` | `safe_mode` |
    | `failed`, `rolled_back` | `own` | any | the same |
    | `failed`, `rolled_back` | `ordered` | any | nothing |
    | `refused` | any | any | nothing |
    | any other | any | any | `open`: in progress, or lost |
    """
    state, detail = str(row["state"]), str(row["detail"])
    if state == "committed":
        return {"drift": "drifted", "safe_mode": "safe_mode"}.get(detail, state)
    if state in ("failed", "rolled_back"):
        return state if row["cause"] == "own" else ""
    return "" if state == "refused" else "open"


def ended_and_held(tx: Tx, release_id: str) -> dict[str, int]:
    """Return by segment how many devices in quarantine have ended with a release: nobody expects them any longer."""
    rows = tx.all(
        f"SELECT segment, SUM(devices) AS devices FROM held_counts WHERE release_id = :release AND NOT ({_OPEN}) "  # noqa: S608
        "GROUP BY segment",
        {"release": release_id},
    )
    return {row["segment"]: int(row["devices"]) for row in rows}


def awaited(tx: Tx, release: Row, segment: str, first: str = "") -> str | None:
    """Return the id of a device of a segment that is online, should take the release, and has not ended with it.

    None when there is none. `first` is the one that was returned before: the search begins there and ends at the first
    that is found, so that as devices end one by one the segment is gone through once and not for each of them.
    """
    params = {"release": release["id"], "role": release["role"], "segment": segment, "first": first}
    for part in ("devices.device_id >= :first", "devices.device_id < :first"):
        row = tx.one(f"{_AWAITED} AND {part} ORDER BY devices.device_id LIMIT 1", params)
        if row is not None:
            return str(row["device_id"])
    return None
