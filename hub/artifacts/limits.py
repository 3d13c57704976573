"""Bounds of artifacts that settings may lower."""

from __future__ import annotations

from typing import Final

MAX_BUNDLE: Final = 16 * 1024**3
"""Largest bundle in bytes that a hub takes in."""
