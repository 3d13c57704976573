"""A device whose identity is withdrawn is out at once, on every way in, and the others go on."""

from __future__ import annotations

import time

from tests.e2e.fleet import Fleet, until


def test_a_revoked_device_and_a_deleted_one_lose_their_sessions_and_get_no_others(fleet: Fleet) -> None:
    agents = [fleet.enrol(name, "canary") for name in ("shop-1", "shop-2", "shop-3")]
    for agent in agents:
        fleet.start(agent)

    def log(name: str) -> str:
        return (fleet.folder / f"{name}.log").read_text()

    def refused(name: str) -> bool:
        return "certificate was revoked" in log(name)

    for agent in agents:
        until(
            f"{agent.device_id} online",
            lambda name=agent.device_id: fleet.get(f"/devices/{name}").get("presence") == "online",  # type: ignore[misc]
        )
    began = time.monotonic()
    fleet.flaghoist("device", "revoke", "shop-1")
    until("a revoked device shut out", lambda: refused("shop-1"))
    print(f"a revoked device was out, and refused again, after {time.monotonic() - began:.2f} s")
    fleet.flaghoist("device", "delete", "shop-2", "--yes")
    until("a deleted device shut out", lambda: refused("shop-2"))
    assert fleet.get("/devices/shop-3")["presence"] == "online"
    assert not refused("shop-3") and "disconnected" not in log("shop-3")
