"""A real Prometheus scrapes a real hub: what it can then be asked, and what promtool says of the output."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until
from tests.support.ports import held_port

ROOT = Path(__file__).parents[2]
RULES = re.compile(r"^```yaml\n(groups:\n.*?)^```$", re.M | re.S)

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is missing (apt install prometheus)"
    ),
]


class Prometheus:
    """One that scrapes `url` each second with the token in `credentials`, and evaluates the guide's alerts."""

    def __init__(self, folder: Path, url: str, credentials: Path) -> None:
        folder.mkdir()
        port = held_port()
        (rules,) = RULES.findall((ROOT / "docs" / "metrics.md").read_text())
        (folder / "rules.yml").write_text(rules)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            "  - job_name: flaghoist\n"
            f"    authorization: {{credentials_file: {credentials}}}\n"
            f"    static_configs: [{{targets: [{urllib.parse.urlsplit(url).netloc!r}]}}]\n"
        )
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **query: str) -> Any:
        """GET the API; None while it does not answer."""
        try:
            target = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(target, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            return None

    def ask(self, query: str) -> dict[tuple[str, ...], float]:
        """The present value of each series of `query`, by its labels' values, the target's own left out."""
        found = self.get("query", query=query) or {"result": []}
        return {
            tuple(
                value
                for name, value in sorted(series["metric"].items())
                if name not in ("__name__", "instance", "job")
            ): float(series["value"][1])
            for series in found["result"]
        }

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def prometheus(fleet: Fleet, tmp_path: Path) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path / "prometheus", fleet.url, fleet.data / "admin.token")
    try:
        yield made
    finally:
        made.stop()


def test_prometheus_sees_a_rollout_from_the_first_heartbeat_to_its_last_device(
    fleet: Fleet, prometheus: Prometheus
) -> None:
    until("a scrape", lambda: prometheus.ask('up{job="flaghoist"}') == {(): 1.0})
    agent = fleet.enrol("shop-1", "canary")
    fleet.start(agent)
    release = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", release, "--segment", "canary")
    outcome = {"outcome": "committed", "release": release, "role": "kiosk", "segment": "canary"}
    until(
        "the committed device",
        lambda: prometheus.ask("flaghoist_rollout_devices > 0") == {tuple(outcome.values()): 1.0},
        seconds=90,
    )
    until(
        "the device online",
        lambda: prometheus.ask("flaghoist_devices > 0") == {("online", "kiosk", "canary"): 1.0},
        seconds=60,
    )
    assert prometheus.ask("flaghoist_rollout_began_devices") == {(release, "kiosk", "canary"): 1.0}
    assert prometheus.ask("flaghoist_ingest_messages_total")[("ingest-0",)] > 2
    assert prometheus.ask("flaghoist_broker_up") == {(): 1.0}
    assert prometheus.ask("sum(flaghoist_hoister_publishes_total)")[()] > 0
    assert prometheus.ask("process_resident_memory_bytes")[()] > 1e6
    assert prometheus.ask('flaghoist_http_requests_total{route="/metrics",status="200"}')
    assert prometheus.ask("sum(flaghoist_metrics_problem)") == {(): 0.0}

    rules = prometheus.get("rules")["groups"][0]["rules"]
    assert len(rules) == 11
    assert {rule["health"] for rule in rules} == {"ok"}
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing == set()

    fleet.kill_hub()
    until("the hub's death", lambda: prometheus.ask('up{job="flaghoist"}') == {(): 0.0})


def test_promtool_finds_nothing_to_say_about_a_running_hub(fleet: Fleet) -> None:
    fleet.enrol("shop-1", "canary")
    token = (fleet.data / "admin.token").read_text().strip()
    request = urllib.request.Request(fleet.url + "/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
