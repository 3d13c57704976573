"""What `diagnose` says of the way to the hub on a device that lives on HTTPS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import Settings
from edge.diagnose import network
from edge.diagnose.finding import Finding, verdict
from edge.diagnose.network import STEPS, Way
from edge.identity.identity import Device, Identity
from edge.polling.answers import ENVELOPE, PROBLEM
from tests.edge.test_exchange import Hub, enrolled
from tests.support.ports import held_port


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


def look(root: Path, url: str, *, https: bool = True) -> dict[str, Finding]:
    """Return what is found where nobody listens at the broker's port."""
    who = Identity(enrolled(root, url))
    who.device = Device(
        fleet=who.device.fleet,
        device_id=who.device.device_id,
        mqtt_host="127.0.0.1",
        mqtt_port=held_port(),
        http_url=url,
    )
    way = Way(
        identity=who, settings=Settings(), topics=[], clock_ok=True, busy=False, boot=(1, "00000001"),
        at=int(time.time()), seconds=60, https=https,
    )  # fmt: skip
    return {finding.check: finding for finding in network.check(way)}


def test_a_broker_that_is_blocked_is_no_fault_and_the_hub_is_asked_as_this_device(
    hub: Hub, tmp_path: Path
) -> None:
    hub.media_type = ENVELOPE
    found = look(tmp_path, hub.url)
    assert [*found] == [*STEPS, "hub HTTP"]
    assert (found["broker TCP"].level, "lives on HTTPS" in found["broker TCP"].remedy) == ("warn", True)
    assert found["hub HTTP"].detail == f"{hub.url} answers, and lets this device in"
    assert verdict([*found.values()]) == "warn"


def test_a_device_on_mqtt_may_do_without_the_hub_and_not_without_the_broker(hub: Hub, tmp_path: Path) -> None:
    found = look(tmp_path, hub.url, https=False)
    assert found["broker TCP"].level == "fail"
    assert found["hub HTTP"].level == "warn", "no token is shown, and what asks for one answers 401"


@pytest.mark.parametrize(
    ("revoked", "media_type", "said"),
    [
        pytest.param(True, PROBLEM, "the hub refuses this device", id="revoked"),
        pytest.param(
            False, "text/html", "what answers in the hub's place is none (200, text/html)", id="a portal"
        ),
    ],
)
def test_what_keeps_a_device_from_its_hub_is_a_fault(
    hub: Hub, tmp_path: Path, revoked: bool, media_type: str, said: str
) -> None:
    hub.revoked, hub.media_type = revoked, media_type
    found = look(tmp_path, hub.url)["hub HTTP"]
    assert (found.level, said in found.detail) == ("fail", True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "ftp://hub"], ids=["nobody", "no URL"])
def test_a_hub_that_cannot_be_asked_is_a_fault(tmp_path: Path, url: str) -> None:
    found = look(tmp_path, url.format(port=held_port()))["hub HTTP"]
    assert found.level == "fail"
