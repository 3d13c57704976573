"""Devices whose clock starts in 1970 (D1), and TLS without dates against the pinned CA."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from edge.config import Paths
from edge.identity import identity
from edge.identity.identity import Device, Identity
from edge.link import Disconnected, MqttLink
from edge.machine import clock
from edge.machine.clock import SystemClock
from hub.identity.ca import Authority, open_authorities
from tests.edge.world import FLEET, MANIFEST_TOPIC, NOW, Box, Source, build, wait_until
from tests.support.mosquitto import Broker
from tests.topics import kit
from topics.documents import Window
from topics.trust import Mark, TrustState, pin_root, sha256

ROOT = kit.signed_root(expires_at=NOW + 365 * kit.DAY)
YEAR = 365 * 86_400


def trusting(newest: int) -> TrustState:
    state = pin_root(ROOT, sha256(ROOT))
    return TrustState(state.root, state.root_bytes, {"t": Mark(newest, "0" * 64)})


@pytest.mark.parametrize(
    ("wall", "newest", "ok"),
    [
        pytest.param(0, 0, False, id="1970"),
        pytest.param(NOW, 0, True, id="nothing known against it"),
        pytest.param(NOW, NOW + kit.DAY // 2, True, id="half a day behind the newest document"),
        pytest.param(NOW, NOW + 2 * kit.DAY, False, id="two days behind the newest document"),
        pytest.param(clock.PLAUSIBLE_MS - 1, 0, False, id="before this system existed"),
    ],
)
def test_a_clock_is_believed_only_if_nothing_speaks_against_it(wall: int, newest: int, ok: bool) -> None:
    assert clock.judge(trusting(newest), wall).ok is ok


@pytest.mark.parametrize(
    ("name", "known"), [("Europe/Berlin", True), ("Mars/Base", False), ("../etc", False)]
)
def test_zones_that_nobody_knows_are_none(name: str, known: bool) -> None:
    assert (clock.zones(name) is not None) is known


def enrolled(folder: Path, authority: Authority, now: int) -> Identity:
    """Return the identity of a device whose certificate is valid around `now` (s)."""
    paths = Paths(folder / "state")
    paths.make()
    key = SigningKey.generate()
    device = Device(fleet=FLEET, device_id="shop-12", mqtt_host="x", mqtt_port=1, http_url="http://x")
    certificate = authority.issue_device(bytes(key.verify_key), "shop-12", now=now)
    identity.write(
        paths, device, seed=bytes(key), certificate_pem=certificate, ca_pem=authority.pem, unique="a"
    )
    return Identity(paths)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Complete a handshake in memory; raises what the client says."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize(
    ("clock_ok", "ours", "good"),
    [
        pytest.param(True, True, False, id="dates are checked by a good clock"),
        pytest.param(False, True, True, id="dates are not checked by a bad clock"),
        pytest.param(False, False, False, id="another CA is refused even then"),
    ],
)
def test_a_certificate_that_is_not_yet_valid(tmp_path: Path, clock_ok: bool, ours: bool, good: bool) -> None:
    later = NOW // 1000 + 5 * YEAR
    authority = open_authorities(tmp_path / "ca", FLEET, now=later).device
    other = open_authorities(tmp_path / "other", FLEET, now=later).device
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = authority if ours else other
    certificate, key = issuer.issue_server(["127.0.0.1"], now=later)
    (tmp_path / "s.pem").write_text(certificate)
    (tmp_path / "s.key").write_text(key)
    server.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    client = enrolled(tmp_path, authority, later).tls(clock_ok=clock_ok)
    if good:
        shake_hands(client, server)
    else:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            shake_hands(client, server)
        assert ("check it" in clock.blamed(caught.value)) is ours


@pytest.mark.parametrize(
    ("years", "word"),
    [
        pytest.param(-20, "this device's certificate has expired; check both clocks", id="expired"),
        pytest.param(20, "it may not be valid yet: check both clocks", id="not yet valid"),
    ],
)
def test_a_broker_that_refuses_our_dates_makes_us_look_at_the_clocks(
    tmp_path: Path, years: int, word: str
) -> None:
    with Broker(tmp_path / "hub") as broker:
        authority = broker.authorities.device
        device = enrolled(tmp_path, authority, NOW // 1000 + years * YEAR)
        link = MqttLink("127.0.0.1", broker.device_port, "shop-12", 60)

        def told() -> bool:
            # The broker may close before we have read its alert; the agent, too, connects again then.
            if link.socket() is None:
                link.open(device.tls(clock_ok=False), "t", b"x")
            link.readable()
            return any(word in event.reason for event in link.events() if isinstance(event, Disconnected))

        wait_until(told)


def test_a_server_whose_certificate_is_over_makes_us_look_at_the_clock(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path / "ca", FLEET, now=NOW // 1000).device
    certificate, key = authority.issue_server(["127.0.0.1"], now=NOW // 1000 - 20 * YEAR)
    (tmp_path / "s.pem").write_text(certificate)
    (tmp_path / "s.key").write_text(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(enrolled(tmp_path, authority, NOW // 1000).tls(clock_ok=True), server)
    assert "the clock here says 20" in clock.blamed(caught.value)
    assert clock.blamed(OSError("no route")) == ""


class Clock(SystemClock):
    """Its wall clock stands `ahead` ms from the right time, or at `stands` ms if that is given; intervals are real,
    until the monotonic clock is made to stand at `moment` (s)."""

    ahead = 0
    stands: int | None = None
    moment: float | None = None

    def wall(self) -> int:
        return super().wall() + self.ahead if self.stands is None else self.stands

    def steady(self) -> float:
        return super().steady() if self.moment is None else self.moment


@pytest.fixture
def wrong(tmp_path: Path, source: Source) -> Iterator[tuple[Box, Clock]]:
    """A device with a release, and its clock."""
    box, wall = Box(tmp_path, source), Clock()
    box.clock = wall
    box.start()
    box.online()
    box.offer(build(7))
    yield box, wall
    box.close()


def test_d1_a_device_that_boots_in_1970_runs_on_updates_and_obeys_expiry_and_windows(
    wrong: tuple[Box, Clock],
) -> None:
    """What it knows of the time is what the newest signed document says."""
    box, wall = wrong
    wall.stands = 12_000
    box.boot = "boot-2"
    box.start()
    box.online()
    assert box.state.running_id == build(7).id
    assert box.state.service == ""
    assert (box.status.clock_ok, box.agent.tls_time) == (False, False)
    box.offer(build(8))
    assert box.state.running_id == build(8).id
    box.offer(build(9), expires_at=NOW - 2 * kit.DAY)
    assert decided(box) == "manifest_expired"
    known = datetime.fromtimestamp(box.memory.trust.issued_at(MANIFEST_TOPIC) / 1000, UTC)
    later = known + timedelta(hours=6)
    closed = Window(days=list(range(7)), start=f"{later:%H}:00", end=f"{later:%H}:59")
    box.offer(build(9), window=closed)
    assert decided(box) == "outside_window"
    box.offer(build(9))
    assert box.state.running_id == build(9).id


def decided(box: Box) -> str:
    verdict = box.status.verdict
    return verdict.reason if verdict else ""


@pytest.mark.parametrize("years", [10, -10, -60])
def test_d12_a_clock_that_jumps_fires_no_timer_of_the_agents(wrong: tuple[Box, Clock], years: int) -> None:
    box, wall = wrong
    wall.moment = wall.steady()
    told, begun, due = len(box.link.sent), box.jobs.starts, box.agent.deadline
    wall.ahead = years * YEAR * 1000
    for _ in range(3):
        box.agent.tick()
    assert (len(box.link.sent), box.jobs.starts, box.agent.deadline) == (told, begun, due)
    wall.ahead, wall.moment = 0, None
    box.offer(build(8))
    assert box.state.running_id == build(8).id


def test_d12_a_clock_that_is_set_back_between_two_tries_does_not_put_the_next_off_for_as_long(
    wrong: tuple[Box, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    box, wall = wrong

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.updating.stage._write", full)
        box.offer(build(8))
    assert box.results()[-1] == ("failed", build(8).id)
    wall.ahead = -kit.DAY // 2
    box.agent.consider()
    box.pass_time(lambda: box.state.running_id == build(8).id)
