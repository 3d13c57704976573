"""What follows from reports beside the state of an attempt: how long a success took, and what went wrong after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from hub import phases
from hub.store import Tx
from topics.messages import Drift, Durable, Recovery, UpdateResult

ORDERED: Final = "ordered-"
"""What the id of a stay in safe mode begins with that the hub ordered."""


class Heard(NamedTuple):
    """A report and the key of the device that sent it."""

    device_key: int
    message: Durable


def aftermath(message: Durable) -> Literal["drift", "safe_mode", ""] | None:
    """Return what a report says of the release that the device runs; None for nothing.

    1. Differences that the device did not repair: `drift`.
    2. A check that found none, or repaired them all: "", which takes a drift back.
    3. Entry to safe mode of its own accord: `safe_mode`. One that the hub ordered says nothing.
    """
    if isinstance(message, Drift):
        return "drift" if (message.items or message.more) and not message.repaired else ""
    if isinstance(message, Recovery) and message.state == "entered" and not message.entry.startswith(ORDERED):
        return "safe_mode"
    return None


def put_aftermaths(tx: Tx, heard: Iterable[Heard], now: int) -> set[str]:
    """Let reports about a release under way count against the success that came before; return the releases.

    A check of drift that is older than the last report never counts, so late and repeated ones change nothing.
    Safe mode is never taken back, so it counts late as well, unless the device told of the same release since then:
    it was of an earlier attempt.
    """
    changed = set()
    for device_key, message in heard:
        what = aftermath(message)
        release = message.release if isinstance(message, Drift | Recovery) else None
        if what is None or release is None:
            continue
        row = {
            "release": release,
            "device_key": device_key,
            "what": what,
            "spool": message.spool,
            "n": message.n,
            "now": now,
        }
        if tx.execute(_PUT_AFTERMATH, row):
            changed.add(release)
    return changed


def put_times(tx: Tx, heard: Iterable[Heard]) -> None:
    """Count how long each step took of the successes among `heard`, each once however often it is reported."""
    counted: Counter[tuple[str, str, str, int]] = Counter()
    for device_key, message in heard:
        release = (message.release or message.to_release) if isinstance(message, UpdateResult) else None
        if not isinstance(message, UpdateResult) or release is None or message.state != "committed":
            continue
        where = {"release": release, "device_key": device_key, "attempt": message.attempt}
        if not tx.execute(_MARK_TIMED, where):
            continue
        row = tx.one(_SPAN, where)
        if row is None:
            continue
        spans: dict[str, int] = {
            phase: message.phases[phase] for phase in phases.PHASES if phase in message.phases
        }
        spans[phases.TOTAL] = row["updated_at"] - row["began_at"]
        if row["started_at"] is not None:
            spans[phases.WAITING] = row["began_at"] - row["started_at"]
        counted.update((release, row["segment"], phase, phases.step_of(ms)) for phase, ms in spans.items())
    if counted:
        tx.executemany(_PUT_TIMES, [(*key, devices) for key, devices in counted.items()])


_PUT_AFTERMATH: Final = """
UPDATE attempts SET
    aftermath = CASE WHEN attempts.aftermath = 'safe_mode' THEN 'safe_mode' ELSE :what END,
    epoch = CASE WHEN :what = '' OR attempts.aftermath = 'safe_mode' THEN attempts.epoch
        ELSE (SELECT releases.epoch FROM releases WHERE releases.id = :release) END,
    updated_at = :now, aftermath_spool = :spool,
    aftermath_n = CASE WHEN aftermath_spool = :spool AND aftermath_n > :n THEN aftermath_n ELSE :n END
WHERE release_id = :release AND device_key = :device_key AND state = 'committed'
    AND (aftermath_spool <> :spool OR aftermath_n < :n OR (:what = 'safe_mode' AND NOT EXISTS (
        SELECT 1 FROM reports WHERE reports.device_key = :device_key AND reports.spool = :spool
            AND reports.n > :n AND reports.kind = 'update-result' AND reports.release_id = :release)))
    AND EXISTS (SELECT 1 FROM releases
        WHERE releases.id = :release AND releases.state IN ('rolling', 'paused', 'halted'))
"""
_MARK_TIMED: Final = """
UPDATE attempts SET timed = :attempt WHERE release_id = :release AND device_key = :device_key
    AND state = 'committed' AND attempt = :attempt AND timed < :attempt
"""
_SPAN: Final = """
SELECT attempts.segment, attempts.began_at, attempts.updated_at, stages.started_at FROM attempts
LEFT JOIN stages ON stages.release_id = attempts.release_id AND stages.segment = attempts.segment
WHERE attempts.release_id = :release AND attempts.device_key = :device_key
"""
_PUT_TIMES: Final = """
INSERT INTO phase_times (release_id, segment, phase, step, devices) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (release_id, segment, phase, step) DO UPDATE SET devices = phase_times.devices + excluded.devices
"""
