"""Rehearsals of a rollout: a fleet of simulated devices, and a release that fails on some of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.deployment.rules import Counts, halt_reason
from tests.e2e.fleet import Fleet
from tests.e2e.rehearsal import FAILURE, Rehearsal, halted, publish

DEVICES = int(os.environ.get("FLAGHOIST_REHEARSAL_DEVICES", "300"))
"""5000 is the rehearsal of a large fleet; it takes some minutes."""


class Calm(Fleet):
    """A large fleet beats more slowly: 5,000 heartbeats in 5 s are all that one simulating process can do."""

    interval = max(Fleet.interval, DEVICES // 100)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Calm(tmp_path).ready() as made:
        yield made


@pytest.mark.heavy
def test_a_release_that_fails_on_some_halts_and_nobody_begins_who_has_heard_of_it(fleet: Fleet) -> None:
    release = publish(fleet, 1, spread=10)
    with Rehearsal(fleet, 50, "--fail", "20%", "--seconds-per-step", "0.3") as rehearsal:
        fleet.flaghoist("release", "promote", release, "--segment", "canary")
        halted(fleet, release, seconds=180)
        (rollout,) = rehearsal.finish()["rollouts"]
    assert (rollout["release"], rollout["segment"]) == (release, "canary")
    assert rollout["halt"]["heard_by"] > 0
    assert rollout["halt"]["began_while_paused"] == 0
    _tell(rollout)


@pytest.mark.heavy
@pytest.mark.timeout(300 + DEVICES // 3)
def test_the_halt_comes_at_the_threshold_and_hub_and_devices_count_the_same(fleet: Fleet) -> None:
    spread = max(15, DEVICES // 25)
    release = publish(fleet, 1, spread=spread)
    odds = ("--fail", "8%", "--slow", "2%", "--seed", "4", "--seconds-per-step", "0.5")
    with Rehearsal(fleet, DEVICES, *odds) as rehearsal:
        fleet.flaghoist("release", "promote", release, "--segment", "canary")
        row = halted(fleet, release, seconds=spread + 180)
        figures = rehearsal.finish()
    (rollout,) = figures["rollouts"]
    reason = fleet.get(f"/releases/{release}")["reason"]
    failures, ended = (int(word) for word in reason.split() if word.isdigit())

    assert halt_reason("canary", _counts(failures, ended), FAILURE) == reason
    assert FAILURE.min_reports <= ended <= rollout["committed"] + rollout["failed"]
    assert rollout["began"] - rollout["stopped"] == row["began"]
    assert (rollout["committed"], rollout["failed"]) == (row["committed"], row["rolled_back"] + row["failed"])
    assert figures["running"] == {release: row["committed"], "nothing": DEVICES - row["committed"]}
    assert rollout["halt"]["began_while_paused"] == 0
    _tell(rollout)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_thousand_devices_hear_of_the_halt_and_none_begins_after_it(fleet: Fleet) -> None:
    release = publish(fleet, 1, spread=60)
    with Rehearsal(fleet, 1000, "--fail", "8%", "--seconds-per-step", "1") as rehearsal:
        fleet.flaghoist("release", "promote", release, "--segment", "canary")
        halted(fleet, release, seconds=300)
        (rollout,) = rehearsal.finish()["rollouts"]
    _tell(rollout)
    assert rollout["halt"]["heard_by"] > 0
    assert rollout["halt"]["began_while_paused"] == 0


def _counts(failures: int, ended: int) -> Counts:
    return Counts(began=10**6, committed=ended - failures, rolled_back=failures)


def _tell(rollout: dict[str, Any]) -> None:
    """Print how many the halt spared: on a slow machine everybody may have begun before it comes."""
    print(json.dumps({"began": rollout["began"], **rollout["halt"]}))
