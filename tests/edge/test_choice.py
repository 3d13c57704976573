"""Which way to the hub: the rules of `edge.polling.choice` as rows, and what is kept of them over a restart."""

from __future__ import annotations

import doctest
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.config import Paths
from edge.polling import choice, notes
from edge.polling.choice import FAILURES, RETRY_CAP, STABLE, Standing, Transport, Way

RETRY, FALLBACK = 900.0, 300.0


@dataclass
class Device:
    """One device's ways, with a clock of ours."""

    transport: Transport = "auto"
    hurried: bool = False
    now: float = 1_800_000_000.0
    standing: Standing = field(default_factory=Standing)
    dice: float = 1.0

    def way(self) -> Way:
        return choice.choose(self.standing, self.transport, self.now)

    def connects(self) -> None:
        self.standing = choice.connected(
            self.standing, self.way(), self.now, retry_seconds=RETRY, dice=self.dice
        )

    def fails(self, *, lasted: float | None = None, way: Way | None = None) -> None:
        self.standing = choice.lost(
            self.standing,
            way or self.way(),
            "timed out",
            self.now,
            lasted=lasted,
            fallback_seconds=FALLBACK,
            hurried=self.hurried,
        )

    def is_blocked(self) -> None:
        """MQTT has failed long enough, and HTTPS works."""
        for _ in range(FAILURES):
            self.fails()
            self.now += FALLBACK
        assert self.way() == "https"
        self.connects()


MQTT_FAILURES = [
    pytest.param(FAILURES - 1, FALLBACK, False, "mqtt", id="too few failures"),
    pytest.param(FAILURES, FALLBACK / 2, False, "mqtt", id="enough, but not for long enough: a broker starts anew"),
    pytest.param(FAILURES, FALLBACK, False, "https", id="enough, for long enough"),
    pytest.param(1, 0.0, True, "https", id="once has no patience"),
]  # fmt: skip


@pytest.mark.parametrize(("failures", "seconds", "hurried", "way"), MQTT_FAILURES)
def test_https_is_taken_when_mqtt_has_failed(failures: int, seconds: float, hurried: bool, way: Way) -> None:
    device = Device(hurried=hurried)
    assert device.way() == "mqtt"
    for number in range(failures):
        if number == failures - 1:
            device.now += seconds
        device.fails()
    assert device.way() == way


@pytest.mark.parametrize("transport", ["mqtt", "https"])
def test_a_chosen_way_is_kept_whatever_happens(transport: Transport) -> None:
    device = Device(transport)
    for _ in range(2 * FAILURES):
        device.fails()
        device.now += FALLBACK
        assert device.way() == transport


@pytest.mark.parametrize(
    ("lasted", "way"),
    [
        pytest.param(STABLE - 1, "https", id="let begin and cut: a failure"),
        pytest.param(STABLE, "mqtt", id="it lasted: none"),
    ],
)
def test_a_connection_over_mqtt_must_last(lasted: float, way: Way) -> None:
    device = Device()
    for _ in range(FAILURES):
        device.connects()
        device.fails(lasted=lasted)
        device.now += FALLBACK
    assert device.way() == way


def test_while_neither_works_they_take_turns() -> None:
    device = Device()
    device.is_blocked()
    device.fails(lasted=1000.0)
    seen = []
    for _ in range(4):
        seen.append(device.way())
        device.fails()
    assert seen == ["https", "mqtt", "https", "mqtt"]


def test_https_that_broke_is_made_anew() -> None:
    device = Device()
    device.is_blocked()
    retry_at = device.standing.retry_at
    device.fails(lasted=1.0)
    assert device.way() == "https"
    device.connects()
    assert device.standing.retry_at == retry_at, "or a network that cuts often would never see MQTT again"


def test_mqtt_is_tried_again_ever_more_seldom_and_one_failure_ends_the_trial() -> None:
    device, waits = Device(), []
    device.is_blocked()
    for _ in range(8):
        waits.append(choice.due(device.standing, device.now))
        device.now += waits[-1] - 1
        assert device.way() == "https"
        device.now += 1
        assert device.way() == "mqtt"
        device.fails()
        assert device.way() == "https"
        device.connects()
    assert waits == [min(RETRY * 2**n, RETRY_CAP) for n in range(8)]


def test_mqtt_that_works_again_stays_and_its_past_is_forgotten_once_it_lasted() -> None:
    device = Device()
    device.is_blocked()
    device.now += RETRY
    assert device.way() == "mqtt"
    device.connects()
    assert device.way() == "mqtt"
    device.fails(lasted=STABLE)
    assert device.standing == Standing()


def test_a_clock_that_was_set_back_makes_no_wait_longer() -> None:
    device = Device()
    device.is_blocked()
    device.now -= 10 * 365 * 86_400
    assert choice.due(device.standing, device.now) <= RETRY_CAP
    device = Device()
    device.fails()
    device.now -= 10 * 365 * 86_400
    for _ in range(FAILURES - 1):
        device.now += FALLBACK
        device.fails()
    assert device.way() == "https"


def test_a_fleet_that_lost_its_broker_at_one_moment_does_not_try_it_again_at_one() -> None:
    dice = random.Random(7)
    minutes: Counter[int] = Counter()
    for _ in range(10_000):
        device = Device(dice=dice.random())
        device.is_blocked()
        minutes[int(choice.due(device.standing, device.now) // 60)] += 1
    print(f"trials in the busiest minute: {max(minutes.values())} of 10,000, over {len(minutes)} minutes")
    assert min(minutes) == 7 and max(minutes) == 14
    assert max(minutes.values()) < 2 * 10_000 / len(minutes)


def test_the_standing_outlives_a_restart_and_a_torn_file_costs_a_new_try(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.make()
    assert notes.read(paths) == Standing()
    device = Device()
    device.is_blocked()
    notes.write(paths, device.standing)
    assert notes.read(paths) == device.standing
    notes.place(paths).write_bytes(notes.place(paths).read_bytes()[:-4])
    assert notes.read(paths) == Standing()


@pytest.mark.parametrize(
    ("standing", "transport", "said"),
    [
        pytest.param(Standing(), "auto", "MQTT", id="at first"),
        pytest.param(Standing("https", 9, 1.0), "mqtt", "MQTT, as the setting transport says", id="mqtt is set"),
        pytest.param(Standing(), "https", "HTTPS, as the setting transport says", id="https is set"),
        pytest.param(
            Standing("mqtt", 1, 60.0, "refused"), "auto",
            "MQTT, which failed once since 1970-01-01 00:01 UTC (refused)", id="failing",
        ),
        pytest.param(
            Standing("https", 5, 60.0, "refused"), "auto",
            "HTTPS, since MQTT failed 5 times since 1970-01-01 00:01 UTC (refused); "
            "MQTT is tried again when HTTPS fails too", id="HTTPS on trial",
        ),
    ],
)  # fmt: skip
def test_the_way_is_told_with_its_reason(standing: Standing, transport: Transport, said: str) -> None:
    assert notes.sentence(standing, transport, 100.0) == said


def test_the_example_in_the_words_is_true() -> None:
    assert doctest.testmod(notes) == (0, 2)
