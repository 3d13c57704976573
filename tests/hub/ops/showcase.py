"""A fleet with something of everything: what screenshots are made of, and what views are tried on."""

from __future__ import annotations

from hub.caller import rule
from tests.hub.ops.stage import Stage

HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
"""A reason that would become markup wherever text is not kept text."""
SEGMENTS = {"canary": 6, "early": 14, "general": 40}
POLICY = {
    "segments": {
        "canary": {"least_wait_seconds": 0},
        "early": {"least_wait_seconds": 0, "steps": [5, 25, 100]},
        "general": {"least_wait_seconds": 3600},
    },
    "failure": {"max_ratio": 0.25, "min_reports": 3, "update_timeout_seconds": 120},
}


def fill(stage: Stage) -> tuple[str, str]:
    """Put sixty devices of one role into every condition; return the stable release and one that is half-way."""
    names = []
    for segment, count in SEGMENTS.items():
        token = stage.new_token(segment, uses=count)
        for number in range(count):
            name = f"shop-{segment}-{number:02d}"
            assert stage.register(name, token).status_code == 200
            names.append(name)
    stable = stage.publish(1, policy=POLICY)
    for segment in SEGMENTS:
        assert stage.promote(stable, segment).status_code == 200
        for name in names:
            if f"-{segment}-" in name:
                stage.result(name, stable, "committed")
                stage.heartbeat(name, running=(stable, 1), segment=segment)
    stage.deployment.complete(stable, rule("gate"))
    _troubles(stage, stable)
    return stable, _second(stage, names)


def _second(stage: Stage, names: list[str]) -> str:
    """Take a second release through the canary and into a part of early."""
    release = stage.publish(2, policy=POLICY)
    assert stage.promote(release, "canary").status_code == 200
    for name in names[:6]:
        stage.result(name, release, "downloading")
        stage.result(name, release, "committed")
        stage.heartbeat(name, running=(release, 2))
    assert stage.promote(release, "early", 25).status_code == 200
    for name in names[6:9]:
        stage.result(name, release, "downloading")
    stage.result(names[6], release, "committed")
    stage.tell()
    return release


def _troubles(stage: Stage, stable: str) -> None:
    stage.beats("shop-general-00", (stable, 1), hours=20)
    stage.drift("shop-general-03", stable)
    stage.heartbeat("shop-general-04", running=(stable, 1), segment="general", health="failing")
    stage.heartbeat("shop-general-05", running=(stable, 1), segment="general", health="degraded")
    stage.presence("shop-general-06", "sleeping")
    stage.presence("shop-general-07", "sleeping")
    stage.presence("shop-general-08", "offline")
    for name, verb in (("shop-general-09", "quarantine"), ("shop-general-10", "enter")):
        answer = stage.client.post(f"/recovery/{name}/{verb}", json={"reason": HOSTILE})
        assert answer.status_code == 200, answer.text
    with stage.store.write() as tx:
        for table in ("device_latest", "presence"):
            tx.execute(
                f"UPDATE {table} SET received_at = received_at - 9000000 WHERE device_key IN "
                "(SELECT key FROM devices WHERE device_id IN ('shop-general-11', 'shop-general-12'))"
            )
