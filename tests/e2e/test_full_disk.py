"""A whole hub on a full disk, its log on the same one: it says so, loses nothing, and goes on when there is room."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until
from tests.e2e.played import Device
from tests.support.disks import fill, small_disk


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet below a file system of 16 MB of its own."""
    with small_disk(tmp_path / "disk", "16m") as disk:
        fleet = Fleet(disk / "fleet")
        try:
            fleet.start_hub()
            fleet.make_trust()
            yield fleet
        finally:
            fleet.close()


def checks(fleet: Fleet) -> dict[str, Any]:
    """What `GET /health/ready` says of each part, whatever its status."""
    try:
        with urllib.request.urlopen(f"{fleet.url}/health/ready", timeout=30) as answer:
            return dict(json.load(answer)["checks"])
    except urllib.error.HTTPError as error:
        return dict(json.load(error)["checks"])


@pytest.mark.heavy
def test_h2_a_hub_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(cramped: Fleet) -> None:
    device = Device(cramped, cramped.enrol("shop-1", "canary"))
    release = "kiosk-1-aaaaaaaaaaaa"
    ballast = cramped.folder / "ballast"
    try:
        device.report(release, "downloading")
        until("the first report", lambda: reports(cramped) == ["downloading"])
        fill(ballast)
        device.report(release, "committed")
        until("a sentence", lambda: "store cannot be written" in checks(cramped)["ingest"])
        assert reports(cramped) == ["downloading"], "what is not committed is not shown"
        refused = cramped.flaghoist("device", "token", "--role", "kiosk", "--segment", "canary", expect=1)
        assert "507" in refused or "disk" in refused
        ballast.unlink()
        until("ingest at work", lambda: checks(cramped)["ingest"] == "ok")
        until("both reports", lambda: reports(cramped) == ["committed", "downloading"])
        cramped.flaghoist("device", "token", "--role", "kiosk", "--segment", "canary")
    finally:
        device.peer.close()


def reports(fleet: Fleet) -> list[str]:
    """The states of the device's reports, newest first."""
    found = fleet.get("/telemetry/devices/shop-1")
    return [row["state"] for row in found.get("reports", [])]
