"""A simulated fleet beside a real hub: the command that people use, and what hub and simulator each saw."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import msgspec

from hub.deployment.policy import FailurePolicy, Policy
from tests.e2e.fleet import BIN, Fleet, NotObservedError, until

FAILURE = FailurePolicy(max_ratio=0.05, min_reports=20, update_timeout_seconds=60)
"""Stricter than what the simulated releases do: 8 % of them fail."""
QUIET_LOOKS = 30
"""Looks in a row, a tenth of a second apart, that show the same."""


class Rehearsal:
    """Simulated devices in the canary segment; ends with the `with`."""

    def __init__(self, fleet: Fleet, devices: int, *options: str) -> None:
        self.fleet, self.devices = fleet, devices
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Rehearsal:
        words = (
            "device",
            "token",
            "--role",
            "kiosk",
            "--segment",
            "canary",
            "--uses",
            str(self.devices),
            "--json",
        )
        token = json.loads(self.fleet.flaghoist(*words))["token"]
        with (self.fleet.folder / "simulate.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(BIN / "flaghoist-edge", "simulate", "--hub", self.fleet.url, "--token", token),
                    *("--devices", str(self.devices), "--threshold", "5%", "--min-reports", "20"),
                    *self.options,
                    "--json",
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        # Looking at thousands costs the hub more than they do.
        pause = max(0.5, self.devices / 500)
        until("every device online", self._all_online, seconds=60 + self.devices * 0.2, every=pause)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            # Asked first: its fleet stands in memory, and only it can clear that up.
            self._process.terminate()
            try:
                self._process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()

    def _all_online(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise NotObservedError((self.fleet.folder / "simulate.log").read_text()[-2000:])
        online, cursor = 0, ""
        while True:
            page = self.fleet.get(f"/devices?role=kiosk&segment=canary&limit=500{cursor}")
            online += sum(item["presence"] == "online" for item in page.get("items", []))
            if not page.get("next_cursor"):
                return bool(online >= self.devices)
            cursor = f"&cursor={page['next_cursor']}"

    def finish(self) -> dict[str, Any]:
        """End the simulator as an operator would; return its figures."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, (self.fleet.folder / "simulate.log").read_text()[-2000:]
        figures: dict[str, Any] = json.loads(out)
        return figures


def publish(fleet: Fleet, sequence: int, *, spread: int) -> str:
    """Publish a release with the rehearsal's policy, whose starts are spread over `spread` s; return its id."""
    policy = Policy(failure=FAILURE, spread_seconds=spread)
    (fleet.repo / "roles" / "kiosk" / "rollout.json").write_bytes(msgspec.json.encode(policy))
    fleet.commit(f"policy of {sequence}")
    return fleet.publish("kiosk", sequence)


def halted(fleet: Fleet, release: str, *, seconds: float) -> dict[str, Any]:
    """Wait until the hub has halted the release, and until nobody is at work with it; return its canary's row."""

    looks: list[dict[str, Any]] = []

    def settled() -> dict[str, Any]:
        # Who has not heard of the halt yet may still begin, so one look is not enough.
        row = fleet.progress(release, "canary")
        if looks and row != looks[-1]:
            looks.clear()
        looks.append(row)
        return row if row.get("began") and not row["in_progress"] and len(looks) > QUIET_LOOKS else {}

    until("a halt", lambda: fleet.get(f"/releases/{release}").get("state") == "halted", seconds=seconds)
    return until("the end of what had begun", settled, seconds=180)
