"""Every device of a fleet in about twenty bytes each: what a grid of a hundred thousand is drawn from. Reading only."""

from __future__ import annotations

from itertools import groupby
from string import ascii_letters, digits
from typing import Any, Final

from hub.errors import Invalid
from hub.ops.conditions import CONDITIONS, FLAGS, TABLES, condition
from hub.store import Row, Tx
from topics.names import SEGMENTS

MAX_LIMIT: Final = 10_000
LETTERS: Final = ascii_letters + digits
NONE, OTHER = ".", "~"
"""Instead of a release's letter: a device that runs none of ours, and releases beyond the letters."""

# The cursor's three parts are compared as one, which the index by role, segment and id answers.
_PAGE: Final = f"""
SELECT devices.device_id AS device_id, devices.role AS role, devices.segment AS segment, {FLAGS} FROM {TABLES}
WHERE devices.revoked_at IS NULL AND {{where}}
ORDER BY devices.role, devices.segment, devices.device_id LIMIT :limit
"""  # noqa: S608  (our own constants)


def page(
    tx: Tx, *, role: str | None, segment: str | None, limit: int, cursor: str | None, now: int
) -> dict[str, Any]:
    """Return one page of devices by role, segment and id, packed; `now` in ms. Raises `Invalid`.

    Each block is of one role and segment: `ids` with spaces between, and a letter for each in `conditions` and
    `running`, which stand for what `letters` and `releases` say.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
    if segment is not None and segment not in SEGMENTS:
        raise Invalid(f"{segment!r} is not a segment.", rule="segment")
    where = ["1 = 1"]
    params: dict[str, Any] = {"now": now, "limit": limit + 1}
    for name, value in (("role", role), ("segment", segment)):
        if value is not None:
            where.append(f"devices.{name} = :{name}")
            params[name] = value
    if cursor is not None:
        where.append(
            "(devices.role, devices.segment, devices.device_id) > (:after_role, :after_segment, :after_id)"
        )
        params |= dict(zip(("after_role", "after_segment", "after_id"), _parts(cursor), strict=True))
    rows = tx.all(_PAGE.format(where=" AND ".join(where)), params)
    shown = rows[:limit]
    letters = _letters(shown)
    last = shown[-1] if len(rows) > limit else None
    return {
        "letters": {letter: name for name, letter in CONDITIONS.items()},
        "releases": {letter: release for release, letter in letters.items()},
        "blocks": [
            _block(*key, list(group), letters)
            for key, group in groupby(shown, key=lambda row: (row["role"], row["segment"]))
        ],
        "next_cursor": f"{last['role']}/{last['segment']}/{last['device_id']}" if last else None,
    }


def _parts(cursor: str) -> list[str]:
    parts = cursor.split("/")
    if len(parts) != 3:
        raise Invalid("cursor must be the next_cursor of an earlier answer.", rule="cursor")
    return parts


def _letters(rows: list[Row]) -> dict[str, str]:
    running = sorted({row["running"] for row in rows} - {""})
    return dict(zip(running, LETTERS, strict=False))


def _block(role: str, segment: str, rows: list[Row], letters: dict[str, str]) -> dict[str, Any]:
    return {
        "role": role,
        "segment": segment,
        "ids": " ".join(row["device_id"] for row in rows),
        "conditions": "".join(CONDITIONS[_condition(row)] for row in rows),
        "running": "".join(letters.get(row["running"], OTHER) if row["running"] else NONE for row in rows),
    }


def _condition(row: Row) -> str:
    return condition(
        presence=row["presence"],
        health=row["health"],
        left_us=bool(row["left_us"]),
        drifted=bool(row["drifted"]),
        safe_mode=bool(row["safe_mode"]),
        quarantined=bool(row["quarantined"]),
    )
