"""`diagnose`: what is wrong with this device, and what to do about it; once, again and again, or for support."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TextIO

from edge.config import Paths
from edge.diagnose import command, finding, support
from edge.diagnose.finding import Finding
from edge.machine.clock import SystemClock

HOME = "\x1b[H\x1b[J"
"""Moves a terminal's cursor to the corner and clears what is below: less flicker than a clear."""


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Check and print; exit code 1 when a check failed. Raises `EdgeError`."""

    def look() -> list[Finding]:
        return command.gather(paths, SystemClock())

    if chosen.watch is not None:
        return watch(look, chosen.watch, as_json=chosen.json)
    findings = look()
    if chosen.bundle is not None:
        names = support.write(paths, findings, chosen.bundle.absolute())
        print(f"{chosen.bundle}: {len(names)} files, without keys, tokens and values of variables")
    else:
        print(json.dumps(finding.as_json(findings), indent=2) if chosen.json else finding.text(findings))
    return code(findings)


def watch(
    look: Callable[[], list[Finding]],
    seconds: float,
    *,
    as_json: bool,
    out: TextIO | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Look again `seconds` after each look until interrupted from the keyboard; return the code of the last look.

    On a terminal the screen is drawn anew, elsewhere looks follow each other; as JSON one is a line.
    """
    last, screen = 0, out or sys.stdout
    try:
        while True:
            findings = look()
            last = code(findings)
            if as_json:
                text = json.dumps({"at": int(time.time()), **finding.as_json(findings)})
            else:
                now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
                text = f"{now}, again every {seconds:g} s; end with Ctrl-C\n{finding.text(findings)}\n"
            print((HOME if screen.isatty() and not as_json else "") + text, file=screen, flush=True)
            sleep(seconds)
    except KeyboardInterrupt:
        return last


def code(findings: list[Finding]) -> int:
    """Return the exit code: 1 when a check failed, else 0."""
    return 1 if finding.verdict(findings) == "fail" else 0
