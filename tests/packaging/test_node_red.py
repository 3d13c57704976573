"""The shipped Node-RED board shows the numbers that the hub has: a real hub, real agents, a real Node-RED."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.broker.credentials import service_credentials
from hub.identity.ca import open_authorities
from tests.e2e.conftest import fleet as fleet
from tests.e2e.fleet import Fleet, until
from tests.packaging.board import FLOWS, PACKAGES, NodeRed, Page
from tests.support import npm
from topics.channels import BY_NAME, Principal

NODES = json.loads(FLOWS.read_text())
ENVIRONMENT = {
    "FLAGHOIST_MQTT_HOST",
    "FLAGHOIST_MQTT_PORT",
    "FLAGHOIST_CA",
    "FLAGHOIST_CERT",
    "FLAGHOIST_KEY",
}


def groups() -> dict[str, str]:
    return {node["name"]: node["id"] for node in NODES if node["type"] == "ui-group"}


def test_wires_groups_and_configurations_lead_somewhere() -> None:
    known = {node["id"] for node in NODES}
    assert len(known) == len(NODES)
    named = {target for node in NODES for wire in node.get("wires", []) for target in wire}
    for node in NODES:
        keys = {"z", "group", "page", "ui", "theme", "tls"} | (
            {"broker"} if node["type"] == "mqtt in" else set()
        )
        named |= {node[key] for key in keys & node.keys()} | set(node.get("scope", []))
    assert named - known == set()


def test_it_listens_to_summaries_and_says_nothing() -> None:
    types = {node["type"] for node in NODES}
    assert not types & {"mqtt out", "http in", "http request", "exec", "debug", "file"}
    (topic,) = [node["topic"] for node in NODES if node["type"] == "mqtt in"]
    pattern = re.escape(topic).replace(r"\+", "[^/]+").replace(r"\#", ".*")
    for name, channel in BY_NAME.items():
        heard = re.fullmatch(pattern, channel.template) is not None
        assert heard == name.startswith("summary-"), name


def test_addresses_and_paths_come_from_the_environment_that_the_guide_names() -> None:
    text = FLOWS.read_text()
    guide = (FLOWS.parents[1] / "README.md").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == ENVIRONMENT
    assert set(re.findall(r"FLAGHOIST_[A-Z_]+", guide)) == ENVIRONMENT
    (tls,) = [node for node in NODES if node["type"] == "tls-config"]
    assert tls["verifyservercert"] is True


@pytest.fixture
def board(fleet: Fleet, tmp_path: Path) -> Iterator[NodeRed]:
    packages = npm.installed("node-red", *PACKAGES)
    files = service_credentials(
        fleet.data / "services",
        open_authorities(fleet.data / "ca", fleet.name, now=int(time.time())).service,
        Principal.DASHBOARD.value,
        now=int(time.time()),
    )
    configuration = (fleet.data / "broker" / "mosquitto.conf").read_text()
    port = re.findall(r"^listener (\d+) 127\.0\.0\.1$", configuration, re.M)[-1]
    values = ("127.0.0.1", port, str(files.ca), str(files.certificate), str(files.key))
    names = ("FLAGHOIST_MQTT_HOST", "FLAGHOIST_MQTT_PORT", "FLAGHOIST_CA", "FLAGHOIST_CERT", "FLAGHOIST_KEY")
    made = NodeRed(tmp_path / "node-red", packages, dict(zip(names, values, strict=True)))
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_board_shows_what_the_hub_knows(fleet: Fleet, board: NodeRed) -> None:
    until("the board's page", board.answers, seconds=60)
    page = Page(board.url)
    until("the connection on the board", lambda: page.shown("Hub") == "connected", seconds=30)
    until("an empty fleet on the board", lambda: page.shown("All") == 0)

    for number in (1, 2, 3):
        fleet.enrol(f"shop-{number}", "canary")
    for number in (1, 2):
        fleet.start(fleet.agents[f"shop-{number}"])
    until("two devices online on the board", lambda: page.shown("Online") == 2, seconds=60)
    items = fleet.get("/devices")["items"]
    presences = [item["presence"] for item in items]
    labels = {"Online": "online", "Sleeping": "sleeping", "Offline": "offline", "Never heard of": "unknown"}
    assert {label: page.shown(label) for label in labels} == {
        label: presences.count(presence) for label, presence in labels.items()
    }
    assert page.shown("All") == len(items) == 3

    release = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", release, "--segment", "canary")
    until(
        "both commits on the board",
        lambda: [row for row in page.rows(groups()["Rollouts"]) if row["committed"] == 2],
        seconds=90,
    )
    (row,) = [row for row in page.rows(groups()["Rollouts"]) if row["segment"] == "canary"]
    progress = fleet.progress(release, "canary")
    counted = ("began", "committed", "failed", "rolled_back", "lost", "in_progress")
    assert {name: row[name] for name in counted} == {name: progress[name] for name in counted}
    assert (row["release"], row["state"]) == (release, "rolling")

    fleet.flaghoist("release", "rollback", release, "--reason", "a test of the board")
    until("a board without the rollout", lambda: page.rows(groups()["Rollouts"]) == [], seconds=30)
    assert fleet.hub is not None
    fleet.hub.terminate()
    fleet.hub.wait(20)
    until(
        "the lost hub on the board", lambda: page.shown("Hub") in ("connecting", "not connected"), seconds=30
    )
