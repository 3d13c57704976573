"""Renewing the certificate on a device: when it is asked for, what is believed, and what a power cut leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.config import Paths, Settings
from edge.diagnose import trust as diagnosed
from edge.identity import identity, renewal, renewing
from edge.identity.identity import Identity
from edge.identity.renewal import Held, Renewal
from edge.machine.clock import SystemClock
from edge.polling.frames import Answer, Ask
from edge.storage import disk
from hub.identity.ca import open_authorities
from tests.edge.world import DESIRED_TOPIC, DEVICE, FLEET, NOW, Box
from tests.topics import kit
from topics import codec
from topics.documents import Credentials
from topics.renewal import CertificateRequest

DAY_S = 86_400
SETTINGS = Settings(retry_base_seconds=60, retry_cap_seconds=3600)


class Hub:
    """The other side: an authority, and answers with whatever is changed by name."""

    def __init__(self, folder: Path, paths: Paths, key: Any) -> None:
        self.authority = open_authorities(folder / "ca", FLEET, now=NOW // 1000).device
        self.paths, self.key = paths, key
        self.requests: list[CertificateRequest] = []
        self.changes: dict[str, Any] = {}
        self.signer = "hub-1"
        self.status = 200
        first = self.certificate(days=100, began=-80)
        identity.write(
            paths,
            identity.Device(
                fleet=FLEET,
                device_id=DEVICE,
                mqtt_host="127.0.0.1",
                mqtt_port=1,
                http_url="http://127.0.0.1:1",
            ),
            seed=bytes(key),
            certificate_pem=first,
            ca_pem=self.authority.pem,
            unique="first",
        )
        self.next = self.certificate(days=100)

    def certificate(self, *, days: int, began: int = 0, key: bytes | None = None) -> str:
        public = key or bytes(self.key.verify_key)
        return self.authority.issue_device(public, DEVICE, now=NOW // 1000 + began * DAY_S, days=days)

    def answer(self, ask: Ask) -> Answer:
        assert ask.path == f"/devices/{DEVICE}/certificate" and ask.body is not None
        request = codec.decode(ask.body, CertificateRequest, limit=4096)
        self.requests.append(request)
        if self.status != 200:
            return Answer(self.status, body=b'{"detail": "not today"}')
        if request.certificate == renewal.hashes(self.next)[0] and "ca_pem" not in self.changes:
            return Answer(204)
        fields: dict[str, Any] = {
            "to": DESIRED_TOPIC,
            "fleet": FLEET,
            "device_id": DEVICE,
            "issued_at": NOW,
            "nonce": request.nonce,
            "certificate_pem": self.next,
            "ca_pem": self.authority.pem,
        }
        return Answer(
            200, body=kit.sign(Credentials(**{**fields, **self.changes}), "credentials", [self.signer])
        )


@pytest.fixture
def hub(box: Box, tmp_path: Path) -> Hub:
    """A hub, and an enrolled device four fifths of whose certificate's life is over."""
    return Hub(tmp_path, box.paths, box.key)


def fetch(hub: Hub) -> str:
    """Ask for a renewal as the agent does, carry it out, and return why it failed."""
    renewal.ask(hub.paths)
    renewing.fetch(hub.paths, SystemClock(), answer=hub.answer)
    assert not renewal.is_asked(hub.paths)
    return renewal.read(hub.paths).problem


def files(paths: Paths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths.identity.iterdir()}


def test_a_renewed_certificate_is_in_place_with_the_key_as_it_was_and_the_hub_is_told(hub: Hub) -> None:
    before = files(hub.paths)
    assert fetch(hub) == ""
    after = files(hub.paths)
    assert after["cert.pem"].decode() == hub.next
    assert {name for name in before if before[name] != after[name]} == {"cert.pem"}
    assert [request.certificate for request in hub.requests] == [
        *renewal.hashes(before["cert.pem"].decode()),
        *renewal.hashes(hub.next),
    ]
    assert len({request.nonce for request in hub.requests}) == 2
    Identity(hub.paths).tls(clock_ok=True)


def test_a_second_ca_is_taken_over_beside_the_first(hub: Hub, tmp_path: Path) -> None:
    other = open_authorities(tmp_path / "next", FLEET, now=NOW // 1000).device
    hub.changes = {"ca_pem": hub.authority.pem + other.pem}
    assert fetch(hub) == ""
    assert renewal.held(hub.paths.identity).cas == (hub.authority.sha256, other.sha256)
    finding = {one.check: one for one in diagnosed.certificates(hub.paths, NOW)}["hub's CA"]
    assert finding.level == "pass"
    Identity(hub.paths).tls(clock_ok=True)


OTHER_KEY = bytes(kit.key("thief").verify_key)
LIES: list[Any] = [
    (
        "a certificate over another key",
        lambda h: {"certificate_pem": h.certificate(days=9, key=OTHER_KEY)},
        "key",
    ),
    ("another device's credentials", lambda h: {"device_id": "shop-13"}, "addressee"),
    ("those of an earlier request", lambda h: {"nonce": b"o" * 32}, "replayed"),
    ("no certificate", lambda h: {"certificate_pem": "x"}, "holds no certificate"),
    ("no CA", lambda h: {"ca_pem": ""}, "holds no certificate"),
    ("something behind the CA", lambda h: {"ca_pem": h.authority.pem + "x"}, "holds no certificate"),
]


@pytest.mark.parametrize(("lie", "why"), [pytest.param(lie, why, id=name) for name, lie, why in LIES])
def test_an_answer_that_is_not_believed_leaves_everything_as_it_was(
    hub: Hub, lie: Callable[[Hub], dict[str, Any]], why: str
) -> None:
    before = files(hub.paths)
    hub.changes = lie(hub)
    assert why in fetch(hub)
    assert files(hub.paths) == before


def test_an_answer_that_the_deployment_key_did_not_sign_has_later_roots_fetched(hub: Hub) -> None:
    before = files(hub.paths)
    hub.signer = "hub-2"
    assert "deployment_threshold" in fetch(hub)
    assert files(hub.paths) == before
    assert (hub.paths.wanted_roots / "after").read_text() == "1"


def test_a_hub_that_says_no_is_quoted_until_it_does_not(hub: Hub) -> None:
    hub.status = 403
    assert [fetch(hub) for _ in range(2)] == ["the hub refuses: not today (403)"] * 2
    assert renewal.read(hub.paths).tries == 2
    finding = diagnosed.certificates(hub.paths, NOW)[0]
    assert (finding.check, finding.level) == ("certificate", "warn") and "not today" in finding.detail
    hub.status = 200
    assert fetch(hub) == ""
    assert renewal.read(hub.paths) == renewal.Note()
    assert diagnosed.certificates(hub.paths, NOW)[0].level == "pass"


@pytest.mark.parametrize("broken", ["edge.storage.disk.write_durable", "edge.storage.disk.replace"])
def test_a_disk_that_takes_nothing_hinders_no_update_and_is_not_filled_with_halves(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    before = files(hub.paths)
    for _ in range(3):
        renewal.ask(hub.paths)
        with monkeypatch.context() as patch:
            patch.setattr(broken, full)
            renewing.fetch(hub.paths, SystemClock(), answer=hub.answer)
    assert files(hub.paths) == before
    assert len(list(hub.paths.root.glob("identity-*"))) == 1
    assert fetch(hub) == ""
    assert files(hub.paths)["cert.pem"].decode() == hub.next


class CutError(BaseException):
    """The power fails."""


STEPS = ("write_durable", "fsync_dir", "link", "remove")


def test_a_power_cut_at_any_step_leaves_the_old_identity_or_the_new_one_and_the_next_try_ends_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, real, seen = (
        (hub.paths.identity / "cert.pem").read_text(),
        {n: getattr(disk, n) for n in STEPS},
        set(),
    )
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what is cut here is the order of things, not the disk
    for cut in range(1, 60):
        # As on a day before the renewal, but with whatever earlier cuts left behind.
        identity.write(
            hub.paths,
            Identity(hub.paths).device,
            seed=bytes(hub.key),
            certificate_pem=old,
            ca_pem=hub.authority.pem,
            unique=f"day-{cut}",
        )
        assert len(list(hub.paths.root.glob("identity-*"))) == 1, "what cuts left goes with the next renewal"
        left = [cut]

        def step(name: str, left: list[int] = left) -> Callable[..., Any]:
            def run(*arguments: Any, **more: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    raise CutError
                return real[name](*arguments, **more)

            return run

        with monkeypatch.context() as patched:
            for name in STEPS:
                patched.setattr(disk, name, step(name))
            try:
                renewal.ask(hub.paths)
                renewing.fetch(hub.paths, SystemClock(), answer=hub.answer)
            except CutError:
                pass
            else:
                break
        found = Identity(hub.paths)
        found.tls(clock_ok=True)
        seen.add((found.folder / "cert.pem").read_text())
        assert fetch(hub) == ""
        assert (hub.paths.identity / "cert.pem").read_text() == hub.next
    else:
        pytest.fail("no run went through")
    assert cut > 10 and seen == {old, hub.next}


HELD = Held(begin=0, end=1200 * kit.DAY, sha256="a" * 64, cas=("c" * 64,))
DUE = [
    pytest.param(700, (), False, id="more than a third is left"),
    pytest.param(800, (), False, id="this device's place is later"),
    pytest.param(900, (), True, id="within its twelfth"),
    pytest.param(5000, (), True, id="expired"),
    pytest.param(0, ("c" * 64,), False, id="the desired state names the CA that is known"),
    pytest.param(0, ("c" * 64, "d" * 64), True, id="the desired state names another CA beside it"),
    pytest.param(0, ("d" * 64,), True, id="the desired state names another CA"),
]


@pytest.mark.parametrize(("day", "wanted", "due"), DUE)
def test_when_a_renewal_is_due(day: int, wanted: tuple[str, ...], due: bool) -> None:
    assert renewal.is_due(HELD, DEVICE, wanted, day * kit.DAY) is due


@dataclass
class Carrier:
    """As much of an agent as a renewal needs, with a clock to set."""

    now_ms: int = NOW
    trouble: str = ""
    cas: list[str] = field(default_factory=list)
    starts: int = 0

    @property
    def beliefs(self) -> Any:
        return SimpleNamespace(desired=SimpleNamespace(desired=SimpleNamespace(cas=self.cas)))

    def check_now(self) -> None:
        self.starts += 1


class Clock:
    """A monotonic clock, and dice that always show the most."""

    def __init__(self) -> None:
        self.now = 1000.0

    def steady(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    yield Clock()


def looking(hub: Hub, clock: Clock) -> Renewal:
    return Renewal(hub.paths, SETTINGS, DEVICE, steady=clock.steady, dice=lambda: 1.0)


def test_tries_that_fail_follow_each_other_at_growing_distances_and_degrade_the_health(
    hub: Hub, clock: Clock
) -> None:
    agent, due = Carrier(), looking(hub, clock)
    hub.status = 503
    waits: list[float] = []
    for _ in range(8):
        began = clock.now
        while agent.starts == len(waits):
            due.turned(agent, busy=False)
            clock.now += 10
        waits.append(clock.now - began)
        renewing.fetch(hub.paths, SystemClock(), answer=hub.answer)
        assert not due.ended()
        due.turned(agent, busy=False)
        assert bool(agent.trouble) == (len(waits) > renewal.TOLERATED)
    assert waits[1:] == [pytest.approx(min(60 * 2**n, 3600), abs=20) for n in range(1, 8)]
    again = looking(hub, clock)
    again.turned(agent, busy=True)
    assert agent.trouble == "the hub refuses: not today (503)", "a restart does not forget it"


def test_a_renewal_that_went_well_is_told_once_and_ends_the_trouble(hub: Hub, clock: Clock) -> None:
    agent, due = Carrier(), looking(hub, clock)
    due.turned(agent, busy=True)
    assert agent.starts == 0, "an update is not disturbed"
    due.turned(agent, busy=False)
    assert agent.starts == 1
    renewing.fetch(hub.paths, SystemClock(), answer=hub.answer)
    assert due.ended() and not due.ended()
    clock.now += 10 * renewal.LOOK
    due.turned(agent, busy=False)
    assert (agent.starts, agent.trouble) == (1, "")


def test_another_ca_in_the_desired_state_is_asked_for_at_a_moment_of_the_devices_own(
    hub: Hub, clock: Clock
) -> None:
    fetch(hub)
    agent, due = Carrier(), looking(hub, clock)
    due.turned(agent, busy=False)
    agent.cas = [hub.authority.sha256, "d" * 64]
    waited = 0
    while not agent.starts:
        due.turned(agent, busy=False)
        clock.now += 10
        waited += 10
    assert waited == pytest.approx(renewal.SPREAD * 60, abs=20), "all of it, by these dice"


def test_a_device_that_wakes_for_a_moment_asks_in_that_moment(hub: Hub, clock: Clock) -> None:
    agent = Carrier(cas=[hub.authority.sha256])
    due = Renewal(hub.paths, SETTINGS, DEVICE, spread=0.0, steady=clock.steady, dice=lambda: 1.0)
    due.turned(agent, busy=False)
    assert agent.starts == 1, "its certificate is due, and the desired state names the CA that it knows"


def test_a_connection_that_failed_over_a_certificate_has_it_renewed_and_not_again_at_each_failure(
    hub: Hub, clock: Clock
) -> None:
    fetch(hub)
    agent, due = Carrier(), looking(hub, clock)
    due.refused(agent, "connection refused", busy=False)
    assert agent.starts == 0
    for _ in range(5):
        due.refused(agent, "[SSL] certificate verify failed: self-signed certificate", busy=False)
        clock.now += 1
    assert agent.starts == 1
    clock.now += renewal.PAUSE
    due.refused(agent, "the broker says that this device's certificate has expired", busy=False)
    assert agent.starts == 2


def test_nothing_is_asked_for_where_there_is_no_certificate_to_read(hub: Hub, clock: Clock) -> None:
    (hub.paths.identity / "cert.pem").write_text("not a certificate")
    agent, due = Carrier(), looking(hub, clock)
    due.turned(agent, busy=False)
    assert agent.starts == 0
    assert "run flaghoist-edge enrol again" in fetch(hub)
