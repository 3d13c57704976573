"""How one device is asked for and shown."""

from __future__ import annotations

from typing import Any, Final

from hub.cli import output

SHOWN: Final = (
    "device_id",
    "role",
    "segment",
    "presence",
    "health",
    "running",
    "running_version",
    "state",
    "last_seen",
)
"""What is shown of a device first, in this order."""


def path_of(device_id: str) -> str:
    """Return the API path of a device."""
    return f"/devices/{device_id}"


def show_device(item: dict[str, Any], *, as_json: bool) -> None:
    """Print one device as the hub answered it."""
    if as_json:
        output.emit_json(item)
        return
    first = [(key, item[key]) for key in SHOWN if key in item]
    output.fields(first + [(key, _flat(value)) for key, value in item.items() if key not in SHOWN])


def _flat(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items() if inner not in (None, ""))
    if isinstance(value, list):
        return ", ".join(str(_flat(inner)) for inner in value)
    return value
