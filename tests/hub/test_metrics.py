"""`/metrics`: what Prometheus reads, from the living parts and from the database."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.metrics import Metrics, database, parts
from hub.telemetry.retention import STEPS, Keep
from hub.telemetry.sinks import Loki, Ndjson
from hub.telemetry.thinning import Thinning
from tests.hub.world import World

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
GUIDE = (ROOT / "docs" / "metrics.md").read_text()
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (apt install prometheus)"
)


class Live:
    """Parts that look as those of a running hub do."""

    def __init__(self) -> None:
        self.slot = SimpleNamespace(taken=7, connections=2, problem="", observed_since=0)
        self.broker = SimpleNamespace(restarts=1, overflows=3, problem="", pid=42)
        self.hoister = SimpleNamespace(published=5, problem="")
        self.leader = SimpleNamespace(problem="")
        self.streams = SimpleNamespace(open=2)


@pytest.fixture
def live(world: World, tmp_path: Path) -> Live:
    made = Live()
    made.slot.observed_since = world.now - 1_500
    add = world.metrics.add
    sinks = [Ndjson(tmp_path, now=lambda: world.now), Loki("http://127.0.0.1:9", fleet="acme")]
    add("build", parts.build("1.2.3", "acme"))
    add("ingest", parts.ingest({"ingest-0": made.slot}, lambda: world.now))
    add("broker", parts.broker(made.broker))
    add("hoister", parts.hoister(made.hoister))
    add("leader", parts.leader(made.leader))
    add("streams", parts.streams(made.streams))
    add("sinks", parts.sinks(sinks))
    add("intake", parts.intake(world.intake))
    add("thinning", parts.thinning(Thinning(world.store, Keep(), lambda: world.now)))
    add("store", database.store(world.store, tmp_path / "hub.db"))
    add("rollouts", database.rollouts(world.store, lambda: world.now, lambda: world.observed_since))
    add("devices", database.devices(world.store, lambda: world.now))
    return made


def text(world: World) -> str:
    answer = world.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


def values(world: World, name: str) -> dict[tuple[str, ...], float]:
    """Every series of `name`, by the values of its labels in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text(world))
        for sample in family.samples
        if sample.name == name
    }


def under_way(world: World) -> str:
    """A release under way: of four devices one committed, one failed, one fell back and one is on it."""
    release = world.publish(1)
    assert world.promote(release, "canary").status_code == 200
    for device, states in {
        "a": ["downloading", "committed"],
        "b": ["downloading", "failed"],
        "c": ["downloading", "rolled_back"],
        "d": ["downloading"],
    }.items():
        world.device(device)
        for state in states:
            world.result(device, release, state)
    world.heartbeat("a")
    world.heartbeat("b", health="failing")
    return release


@pytest.mark.usefixtures("live")
def test_every_metric_is_documented_with_its_type_and_labels_and_none_is_made_up(world: World) -> None:
    under_way(world)
    text(world)  # a request that is counted by the next one
    found = {}
    for family in text_string_to_metric_families(text(world)):
        if family.name.startswith("flaghoist_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {key for sample in family.samples for key in sample.labels} - {"le"}
            found[name] = (family.type, labels)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", REFERENCE, re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == found


@pytest.mark.usefixtures("live")
def test_names_and_help_follow_the_conventions(world: World) -> None:
    for family in text_string_to_metric_families(text(world)):
        assert family.documentation.strip()
        assert family.name.startswith(("flaghoist_", "process_", "python_"))
        if family.name.startswith("flaghoist_"):
            assert family.documentation.endswith(".")
            assert not re.search(r"_(?:ms|millis\w*|kb|mb|percent|minutes|hours)(?:_|$)", family.name)
            for sample in family.samples:
                assert sample.name.endswith("_total") == (family.type == "counter")


@promtool
@pytest.mark.usefixtures("live")
def test_promtool_finds_nothing_to_say(world: World) -> None:
    under_way(world)
    text(world)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text(world),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Who may


def test_a_viewer_may_scrape_and_nobody_without_a_token(world: World) -> None:
    digest = hashlib.sha256(b"look").hexdigest()
    with world.store.write() as tx:
        tx.execute(
            "INSERT INTO operators (token_sha256, name, role, created_at) VALUES (:hash, 'prom', 'viewer', 0)",
            {"hash": digest},
        )
    assert world.client.get("/metrics", headers={"Authorization": "Bearer look"}).status_code == 200
    del world.client.headers["Authorization"]
    assert world.client.get("/metrics").status_code == 401


# The living parts


def test_living_parts_are_read_at_the_scrape(world: World, live: Live) -> None:
    assert values(world, "flaghoist_ingest_messages_total") == {("ingest-0",): 7}
    assert values(world, "flaghoist_ingest_observed_seconds") == {("ingest-0",): 1.5}
    live.slot.taken = 8
    world.now += 500
    assert values(world, "flaghoist_ingest_messages_total") == {("ingest-0",): 8}
    assert values(world, "flaghoist_ingest_observed_seconds") == {("ingest-0",): 2.0}
    assert values(world, "flaghoist_broker_queue_overflows_total") == {(): 3}
    assert values(world, "flaghoist_broker_restarts_total") == {(): 1}
    assert values(world, "flaghoist_hoister_publishes_total") == {(): 5}
    assert values(world, "flaghoist_event_streams_open") == {(): 2}
    assert values(world, "flaghoist_build_info") == {("acme", "1.2.3"): 1}
    world.intake.taken, world.intake.refused = 5, 2
    assert values(world, "flaghoist_http_reports_total") == {("stored",): 5, ("quarantined",): 2}
    assert values(world, "flaghoist_thinned_rows_total") == {(name,): 0 for name in STEPS}
    assert values(world, "flaghoist_thinning_end_timestamp_seconds") == {(): 0}


@pytest.mark.parametrize(
    ("part", "metric", "well", "ill"),
    [
        ("slot", "flaghoist_ingest_problem", 0, 1),
        ("broker", "flaghoist_broker_up", 1, 0),
        ("hoister", "flaghoist_hoister_problem", 0, 1),
        ("leader", "flaghoist_leader_problem", 0, 1),
    ],
)
def test_a_problem_shows(world: World, live: Live, part: str, metric: str, well: int, ill: int) -> None:
    assert list(values(world, metric).values()) == [well]
    getattr(live, part).problem = "Something is wrong."
    assert list(values(world, metric).values()) == [ill]


def test_a_broker_without_a_process_is_not_up(world: World, live: Live) -> None:
    live.broker.pid = None
    assert values(world, "flaghoist_broker_up") == {(): 0}


def test_one_part_that_cannot_be_read_does_not_hide_the_others(world: World, live: Live) -> None:
    def broken() -> Iterable[Metric]:
        raise ZeroDivisionError

    world.metrics.add("broken", broken)
    assert values(world, "flaghoist_metrics_problem")[("broken",)] == 1
    assert values(world, "flaghoist_metrics_problem")[("ingest",)] == 0
    assert values(world, "flaghoist_broker_up") == {(): 1}


def test_two_hubs_in_one_process_share_nothing() -> None:
    one, two = Metrics(), Metrics()
    one.requests.answered({"method": "GET", "path_template": "/releases"}, 200, 0.1)
    assert b'route="/releases"' in one.text() and b'route="/releases"' not in two.text()


# HTTP


def test_requests_are_counted_by_route_and_not_by_path(world: World) -> None:
    for path in ("/devices/a", "/devices/b", "/nowhere/1", "/nowhere/2"):
        assert world.client.get(path).status_code == 404
    world.client.request("BREW", "/releases")
    found = values(world, "flaghoist_http_requests_total")
    assert found["GET", "/devices/{device_id}", "404"] == 2
    assert found["GET", "unmatched", "404"] == 2
    assert sum(count for (method, _, _), count in found.items() if method == "other") == 1
    assert not any("BREW" in key or "/nowhere/1" in key for key in found)
    timed = values(world, "flaghoist_http_request_seconds_count")
    assert timed["GET", "/devices/{device_id}"] == 2


# The database


@pytest.mark.usefixtures("live")
def test_a_rollout_shows_what_became_of_those_that_began_until_it_ends(world: World) -> None:
    release = under_way(world)
    assert values(world, "flaghoist_releases")[("rolling",)] == 1
    assert values(world, "flaghoist_rollout_began_devices") == {(release, "kiosk", "canary"): 4}
    by_outcome = {key[0]: count for key, count in values(world, "flaghoist_rollout_devices").items()}
    once = dict.fromkeys(("in_progress", "committed", "failed", "rolled_back"), 1)
    assert by_outcome == {**once, "lost": 0, "drifted": 0, "safe_mode": 0}
    assert world.client.post(f"/releases/{release}/rollback").status_code == 200
    world.metrics.add(
        "rollouts", database.rollouts(world.store, lambda: world.now, lambda: world.observed_since)
    )
    assert values(world, "flaghoist_rollout_devices") == {}
    assert values(world, "flaghoist_releases")[("rolled_back",)] == 1


@pytest.mark.usefixtures("live")
def test_devices_are_counted_by_place_presence_and_health(world: World) -> None:
    under_way(world)
    world.device("e", "early")
    found = {
        (role, segment, presence): count
        for (presence, role, segment), count in values(world, "flaghoist_devices").items()
    }
    assert found["kiosk", "canary", "online"] == 2 and found["kiosk", "canary", "unknown"] == 2
    assert found["kiosk", "early", "unknown"] == 1 and found["kiosk", "early", "online"] == 0
    assert sum(found.values()) == 5
    health = values(world, "flaghoist_device_health")
    assert health["failing", "kiosk", "canary"] == 1 and sum(health.values()) == 5


@pytest.mark.usefixtures("live")
def test_devices_that_are_held_back_are_counted_by_rule(world: World) -> None:
    world.trust_root()
    world.device("a")
    world.client.post("/recovery/a/quarantine", json={"reason": "smells of smoke"})
    found = values(world, "flaghoist_devices_quarantined")
    assert found["kiosk", "operator", "canary"] == 1 and sum(found.values()) == 1


@pytest.mark.usefixtures("live")
def test_quarantine_events_root_and_sizes_are_the_databases(world: World) -> None:

    with world.store.write() as tx:
        commit.apply(tx, reduce([Uplink("acme/v1/devices/a/up/status", b"\xc1")]), world.now)
    refused = values(world, "flaghoist_ingest_refused_messages_total")
    assert sum(refused.values()) == 1 and len(refused) > 5
    before = values(world, "flaghoist_events_unsealed")[()]
    assert before > 0 and values(world, "flaghoist_events_total") == {(): 0}
    world.events()
    assert values(world, "flaghoist_events_unsealed") == {(): 0}
    assert values(world, "flaghoist_events_total") == {(): before}
    assert values(world, "flaghoist_root_expiry_timestamp_seconds")[()] > world.now / 1000
    assert values(world, "flaghoist_store_database_bytes")[()] > 0
    assert values(world, "flaghoist_store_wal_bytes")[()] > 0


@pytest.mark.parametrize(
    ("took", "later", "asked"),
    [
        pytest.param(0.1, 14.9, 1, id="not again within 15 s"),
        pytest.param(0.1, 15.1, 2, id="again after 15 s"),
        pytest.param(2.0, 39.0, 1, id="what takes long is asked less often"),
        pytest.param(2.0, 40.1, 2, id="but it is asked again"),
    ],
)
def test_counting_the_fleet_is_not_repeated_for_every_scrape(took: float, later: float, asked: int) -> None:
    now, calls = 0.0, 0

    def ask() -> list[Metric]:
        nonlocal now, calls
        now += took
        calls += 1
        return [parts.gauge("calls", "Calls.", calls)]

    cached = database.Cached(ask, lambda: now)
    cached()
    now += later
    (metric,) = cached()
    assert (calls, metric.samples[0].value) == (asked, asked)


# The guide


def guide_rules() -> str:
    (rules,) = re.findall(r"^```yaml\n(groups:\n.*?)^```$", GUIDE, re.M | re.S)
    return str(rules)


def test_every_metric_that_the_guide_uses_exists() -> None:
    known = set(re.findall(r"^\| `(\w+)`", REFERENCE, re.M))
    used = {name.removesuffix("_bucket") for name in re.findall(r"\bflaghoist_\w+", GUIDE)}
    assert len(used) > 10 and used - known == set()


@promtool
def test_the_alerts_of_the_guide_are_rules_that_prometheus_takes(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(guide_rules())
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0 and "11 rules found" in done.stdout, done.stdout + done.stderr


def test_every_reason_for_dropping_a_line_is_documented() -> None:
    page = (ROOT / "docs" / "sinks.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    assert documented == {*Ndjson.REASONS, *Loki.REASONS}
