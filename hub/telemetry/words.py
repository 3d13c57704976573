"""One line for people about each entry of a timeline. Pure."""

from __future__ import annotations

from typing import Any

from hub.store import Row
from hub.times import rfc3339
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES, CommandResult, Drift, Durable, Recovery, UpdateResult


def read_report(kind: str, body: bytes) -> Durable | None:
    """Return a stored report; None for one that is in quarantine, or written by a later version of the hub."""
    try:
        return codec.decode(bytes(body), DURABLE_TYPES[kind], limit=UPLINK_LIMIT)
    except DecodeError:
        return None


def report(message: Durable | None) -> str:
    """Say what a device reported.

    >>> report(CommandResult(boot=(1, "00000001"), at=0, spool="0a1b2c3d", n=1, command="c-7", ok=False, detail="busy"))
    'command c-7 failed: busy'
    """
    match message:
        case UpdateResult():
            release = message.release or message.to_release
            attempt = f" (attempt {message.attempt})" if message.attempt else ""
            return _because(f"{message.state} {release or ''}".rstrip() + attempt, message.reason)
        case Drift():
            found = len(message.items) + message.more
            text = f"{found} {'difference' if found == 1 else 'differences'}" if found else "no drift"
            return f"{text}, repaired" if message.repaired else text
        case Recovery():
            states = {
                "entered": "safe mode entered",
                "left": "safe mode left",
                "diagnostics": "safe mode diagnostics",
            }
            return _because(states[message.state], message.reason)
        case CommandResult():
            return _because(f"command {message.command} {'done' if message.ok else 'failed'}", message.detail)
        case _:
            return "a report that cannot be read"


def presence(row: Row) -> str:
    """Say what an entry of the presence log is."""
    why: dict[str, str] = {
        "disconnect": "it said goodbye",
        "will": "its connection broke",
        "missed_heartbeats": "it missed its heartbeats",
        "heard": "it was heard again",
    }
    if row["state"] == "sleeping" and row["next_wake"]:
        text = f"sleeping until {_seconds(row['next_wake'] * 1000)}"
    else:
        text = _because(row["state"], why.get(row["reason"], ""))
    return text if row["times"] == 1 else f"{text} ({row['times']} times, last {_seconds(row['last_at'])})"


def status(health: str, was: str | None) -> str:
    """Say how health changed."""
    return f"health {health}" if was is None else f"health {health}, was {was}"


def release(row: Row) -> str:
    """Say what happened to a release of the device's role."""
    return _because(f"{row['release_id']} {row['kind'].partition('.')[2].replace('_', ' ')}", row["reason"])


def audit(row: Row) -> str:
    """Say what was done to the device, and by whom."""
    return _because(f"{row['kind']} by {row['actor']}", row["reason"])


def _because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def _seconds(ms: int) -> Any:
    return str(rfc3339(ms))[:19] + "Z"
