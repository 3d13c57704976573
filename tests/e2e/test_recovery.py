"""A device that falls into safe mode in mid-rollout is out of it at once, and comes back by a redeploy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, options=("--chaos",)).ready() as made:
        tolerant = made.repo / "roles" / "kiosk" / "rollout.json"
        policy = json.loads(tolerant.read_text())
        policy["failure"] |= {"max_ratio": 1.0, "max_count": 5}
        tolerant.write_text(json.dumps(policy))
        made.commit("a rollout that bears failures")
        yield made


def seen(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.get("/recovery/shop-1")
    return found


def counts(fleet: Fleet, release: str) -> tuple[int, int]:
    row = fleet.progress(release, "canary")
    return row["expected"], row["in_progress"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_device_in_safe_mode_is_out_of_the_counts_gets_no_update_and_comes_back(fleet: Fleet) -> None:
    fleet.enrol("shop-1", "canary", chaos=True, safe_mode_after=1)
    for name in ("shop-2", "shop-3"):
        fleet.enrol(name, "canary")
    for agent in fleet.agents.values():
        fleet.start(agent)
    first = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", first, "--segment", "canary")
    until(
        "three on the first release",
        lambda: fleet.progress(first, "canary").get("committed") == 3,
        seconds=120,
    )

    troubled, other, away = fleet.agents.values()
    fleet.stop(away)
    command = fleet.post("/test/fail-update", {"deviceId": "shop-1"})["id"]
    until("the order", lambda: fleet.get(f"/devices/shop-1/commands/{command}").get("state") == "done")
    second = fleet.publish("kiosk", 2)
    fleet.flaghoist("release", "promote", second, "--segment", "canary")

    # Out of the counts, in the middle of a rollout that goes on without it.
    held: Any = until("a quarantine", lambda: seen(fleet).get("quarantine"), seconds=120)
    assert held["rule"] == "safe_mode"
    assert counts(fleet, second)[0] == 2
    entered = seen(fleet)["stays"][0]["entered_at"]
    late = (at(held["since"]) - at(entered)).total_seconds()
    print(f"\nheld back {late:.3f} s after its report was taken in")
    until("the other on the second release", lambda: other.current == second, seconds=90)
    assert fleet.get(f"/releases/{second}")["state"] == "rolling"
    (listed,) = json.loads(fleet.flaghoist("recovery", "list", "--json"))
    assert listed["device_id"] == "shop-1"

    # It gets no further update, by its own decision and by the hub's.
    third = fleet.publish("kiosk", 3)
    fleet.flaghoist("release", "promote", third, "--segment", "canary")
    until("the other on the third release", lambda: other.current == third, seconds=90)
    until(
        "its own word",
        lambda: fleet.get("/devices/shop-1")["verdict"] == {"reason": "quarantined", "release": third},
    )
    answer = fleet.get(f"/releases/{third}/eligibility/shop-1")
    assert (answer["reason"], answer["detail"][:10]) == ("quarantined", "safe_mode:")
    assert not troubled.holds(third)

    # Its diagnostics are readable, and say that it may be given a release again.
    told = until("its diagnostics", lambda: seen(fleet)["diagnostics"], seconds=90)
    assert all(told[name] for name in ("checks", "log", "disk", "errors", "probes"))
    shown = fleet.flaghoist("recovery", "status", "shop-1")
    assert "redeploy\tallowed" in shown, shown

    # The redeploy brings it back: on the release, out of safe mode, let go by the rule, and counted again.
    fleet.flaghoist("recovery", "redeploy", "shop-1", "--release", third, "--reason", "try again")
    until("the device on the third release", lambda: troubled.current == third, seconds=120)
    until("a device that was let go", lambda: seen(fleet)["quarantine"] is None, seconds=120)
    assert seen(fleet)["in_safe_mode"] is False
    assert counts(fleet, third) == (3, 0)
    fleet.start(away)
    until("everybody on the third", lambda: fleet.progress(third, "canary")["committed"] == 3, seconds=120)
