"""The agent that runs on a device: it believes only signed documents and keeps one whole release running."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
"""Version of the agent, compared with a release's `requires.min_agent`."""
