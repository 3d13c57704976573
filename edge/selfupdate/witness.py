"""Whether a hub that a new agent does not reach could be reached at all: the installed agent is asked to try.

A new agent that nobody hears of is either broken, or as cut off as any other would be. The installed one has no part in
what may be wrong with the new one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from edge.config import Paths, Settings
from edge.selfupdate import launcher

MQTT, HTTPS = "broker TLS", "hub HTTP"
"""Checks of `diagnose` that show that a way is open. Beside a running agent the broker is asked for no more."""
WAYS: Final[Mapping[str, tuple[str, ...]]] = {"mqtt": (MQTT,), "https": (HTTPS,), "auto": (MQTT, HTTPS)}


def is_hub_away(paths: Paths, settings: Settings) -> bool:
    """Whether the installed agent finds no way to the hub either. One that cannot say counts as having found one."""
    command = [sys.executable, "-m", "edge.main", "diagnose", "--json", "--state", str(paths.root)]
    try:
        asked = subprocess.run(
            command,
            env=environment(os.environ),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=settings.hook_seconds,
            check=False,
        )
        findings = {each["check"]: each["level"] for each in json.loads(asked.stdout)["checks"]}
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return False
    return says_away(findings, settings.transport)


def says_away(levels: Mapping[str, str], transport: str) -> bool:
    """Whether the findings (level by check) of an agent say that none of its ways to the hub is open. Pure."""
    # Asked in any case, unless the way was not looked for at all.
    looked = levels.get(HTTPS, "skip") != "skip"
    return looked and not any(levels.get(check) == "pass" for check in WAYS[transport])


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a command is the installed agent's, whatever build is wanted."""
    installed = {name: text for name, text in environ.items() if name != launcher.INSTALLED}
    if launcher.INSTALLED in environ:
        installed["PYTHONPATH"] = environ[launcher.INSTALLED]
    # Named and empty: the launcher does not look for a build then.
    return installed | {launcher.BUILD: ""}
