"""Two links behind the interface of one: which is opened, never both, and what is kept of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths, Settings
from edge.errors import NotReady
from edge.link import Connected, Disconnected, Event
from edge.polling import notes
from edge.polling.choice import FAILURES, STABLE, Standing
from edge.polling.ways import AGAIN, Ways


class Link:
    """One way; a test says what comes of it."""

    def __init__(self, name: str, opened: list[str]) -> None:
        self.name, self.opened = name, opened
        self.works = False
        self.is_idle = True
        self.has_closed = False
        self.deadline: float | None = None
        self.wants_write = False
        self.said: list[Event] = []

    def open(self, *_: Any) -> None:
        self.opened.append(self.name)
        self.said.append(Connected() if self.works else Disconnected(f"no {self.name}"))

    def drop(self, reason: str) -> None:
        self.said.append(Disconnected(reason))

    def events(self) -> list[Event]:
        said, self.said = self.said, []
        return said

    def misc(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        self.has_closed = True


class World:
    def __init__(self, root: Path, *, hurried: bool = False, **settings: Any) -> None:
        self.now = 1_800_000_000.0
        self.opened: list[str] = []
        self.mqtt, self.https = Link("mqtt", self.opened), Link("https", self.opened)
        self.paths = Paths(root)
        self.paths.make()
        self.hurried, self.settings = hurried, Settings(**settings)
        self.start()

    def start(self) -> None:
        self.ways = Ways(
            self.mqtt,  # type: ignore[arg-type]
            self.https,  # type: ignore[arg-type]
            self.settings,
            self.paths,
            hurried=self.hurried,
            wall=lambda: self.now,
            steady=lambda: self.now - 1_000_000.0,
            dice=lambda: 1.0,
        )

    def open(self) -> list[Event]:
        self.ways.open(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "t", b"")
        return self.ways.events()

    def block(self) -> None:
        """MQTT fails for long enough, and HTTPS works."""
        self.https.works = True
        while self.ways.way == "mqtt":
            self.now += self.settings.fallback_seconds
            self.open()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_mqtt_is_left_for_https_after_the_rule_and_again_after_a_restart(world: World) -> None:
    world.block()
    assert world.opened == ["mqtt"] * FAILURES + ["https"]
    world.start()
    world.open()
    assert world.opened[-1] == "https"
    assert world.ways.reasons == {}


def test_the_reason_of_each_way_is_known(world: World) -> None:
    world.block()
    world.https.said.append(Disconnected("the hub answers 503"))
    world.ways.events()
    assert world.ways.reasons == {"mqtt": "no mqtt", "https": "the hub answers 503"}


def test_mqtt_is_tried_again_when_it_is_due_and_nothing_is_on_its_way(world: World) -> None:
    world.block()
    due = world.ways.deadline
    assert due == world.now - 1_000_000.0 + world.settings.mqtt_retry_seconds
    world.now += world.settings.mqtt_retry_seconds - 1
    world.ways.misc()
    assert world.ways.events() == []
    world.now += 1
    world.https.is_idle = False
    world.ways.misc()
    assert (world.ways.events(), world.ways.deadline) == ([], None)
    world.https.is_idle = True
    world.ways.misc()
    assert world.ways.events() == [Disconnected(AGAIN)]
    assert world.ways.deadline is None, "nothing is retried while nothing is connected"
    world.mqtt.works = True
    assert world.open() == [Connected()]
    assert world.opened[-1] == "mqtt"


def test_mqtt_that_lasts_is_trusted_again_at_once(world: World) -> None:
    world.block()
    world.now += world.settings.mqtt_retry_seconds
    world.mqtt.works = True
    world.open()
    world.ways.misc()
    assert notes.read(world.paths) != Standing()
    assert world.ways.deadline == world.now - 1_000_000.0 + STABLE
    world.now += STABLE
    world.ways.misc()
    assert notes.read(world.paths) == Standing()
    assert world.ways.deadline is None


@pytest.mark.parametrize("transport", ["mqtt", "https"])
def test_a_chosen_way_is_the_only_one_and_nothing_is_written_down(tmp_path: Path, transport: str) -> None:
    world = World(tmp_path, transport=transport)
    for _ in range(2 * FAILURES):
        world.open()
        world.now += 3600
    setattr(getattr(world, transport), "works", True)  # noqa: B010  (the name is a parameter)
    world.open()
    world.now += 86_400
    world.ways.misc()
    assert world.ways.events() == []
    assert set(world.opened) == {transport}
    assert not notes.place(world.paths).exists()


def test_once_goes_by_https_after_one_failure_and_trusts_mqtt_when_it_served(tmp_path: Path) -> None:
    world = World(tmp_path, hurried=True)
    world.https.works = True
    world.open()
    world.open()
    assert world.opened == ["mqtt", "https"]
    world.ways.close()
    assert (world.https.has_closed, notes.read(world.paths).way) == (True, "https")
    world.start()
    world.now += world.settings.mqtt_retry_seconds
    world.mqtt.works = True
    world.open()
    world.ways.close()
    assert (world.opened[-1], notes.read(world.paths)) == ("mqtt", Standing())


def test_a_certificate_that_cannot_be_used_does_not_bar_the_way_over_https(tmp_path: Path) -> None:
    world = World(tmp_path, hurried=True)
    world.https.works = True

    def refuse() -> ssl.SSLContext:
        raise NotReady("the certificate cannot be used")

    world.ways.open(refuse, "t", b"")
    assert world.ways.events() == [Disconnected("the certificate cannot be used")]
    assert world.open() == [Connected()]
    assert world.opened == ["https"]
