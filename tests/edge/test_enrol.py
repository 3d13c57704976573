"""Enrolment against a hub that is played by hand: what is believed, and what a cut-off run leaves."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from edge.config import Paths
from edge.errors import NotReady, Refused, Unreachable, Untrusted
from edge.identity import enrol, identity
from edge.identity.enrol import Wanted
from edge.identity.identity import Identity
from edge.machine.clock import SystemClock
from edge.main import main
from edge.resident import hold
from edge.storage import anchor, memory, records
from hub.identity.ca import open_authorities
from tests.edge.world import DESIRED_TOPIC, DEVICE, FLEET, NOW, Source
from tests.topics import kit
from topics import codec, enrolment
from topics.enrolment import RegisterAnswer, RegisterChallenge, RegisterRequest, Token
from topics.trust import sha256

ROOT = kit.signed_root(expires_at=NOW + 365 * kit.DAY)
SECOND = kit.signed_root(2, expires_at=NOW + 365 * kit.DAY, deployments=("hub-2",))


class Hub:
    """Answers a registration, with whatever is changed by name."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.source = source
        self.authority = open_authorities(folder / "ca", FLEET, now=NOW // 1000).device
        ca = identity.pem_der(self.authority.pem)
        self.token = Token(os.urandom(32), sha256(ROOT), hashlib.sha256(ca).hexdigest())
        self.changes: dict[str, Any] = {}

    def certificate(self, public_key: bytes) -> str:
        return self.authority.issue_device(public_key, DEVICE, now=NOW // 1000)

    def answer(self, public_key: bytes, issued_at: int = NOW) -> bytes:
        fields: dict[str, Any] = {
            "roots": [ROOT],
            "ca_pem": self.authority.pem,
            "certificate_pem": self.certificate(public_key),
            "config": kit.sign(kit.config(mqtt_port=1883, http_url=self.source.url), "config", ["hub-1"]),
            "desired": kit.signed_desired(issued_at, update_interval=77),
        }
        return codec.encode(RegisterAnswer(**{**fields, **self.changes}))

    def expect(self, key: SigningKey | None = None, issued_at: int = NOW) -> None:
        """Answer registrations; the second answer needs the device's key, which its first request tells."""

        def judge(body: bytes) -> tuple[int, bytes]:
            request = codec.decode(body, RegisterRequest, limit=65536)
            if not request.nonce:
                return 202, codec.encode(RegisterChallenge(b"n" * 16))
            proven = enrolment.is_proven(self.token.secret_hash, request)
            return (200, self.answer(request.public_key, issued_at)) if proven else (401, b"{}")

        self.source.judge = judge

    def wanted(self, **changes: str) -> Wanted:
        fields = {"hub": self.source.url, "token": self.token.text(), "device_id": DEVICE, "hardware": "rpi4"}
        return Wanted(**{**fields, **changes})


@pytest.fixture
def hub(tmp_path: Path, source: Source) -> Hub:
    made = Hub(tmp_path, source)
    made.expect()
    return made


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "state")


def test_an_enrolled_device_knows_all_it_needs(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    found = Identity(paths)
    device = found.device
    assert (device.fleet, device.device_id, device.hardware) == (FLEET, DEVICE, "rpi4")
    assert (device.mqtt_host, device.mqtt_port, device.http_url) == ("127.0.0.1", 1883, hub.source.url)
    found.tls(clock_ok=True)
    found.tls(clock_ok=False)
    known = memory.need(paths)
    assert (known.role, known.segment, known.update_interval) == ("kiosk", "canary", 77)
    assert known.trust.issued_at(DESIRED_TOPIC) == NOW
    assert (paths.identity / "key.pem").stat().st_mode & 0o777 == 0o600
    assert not (paths.root / "enrolling.key").exists()
    assert hub.token.secret not in b"".join(hub.source.bodies)


def test_enrolling_again_keeps_the_key_and_what_was_trusted(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    key, booted = Identity(paths).key, memory.booted(memory.need(paths), NOW, b"1234")
    memory.save(paths, booted)
    hub.expect(issued_at=NOW + 1)
    enrol.enrol(paths, hub.wanted(), SystemClock())
    assert bytes(Identity(paths).key) == bytes(key)
    assert memory.need(paths).boot == booted.boot
    assert len(list(paths.root.glob("identity-*"))) == 1


@pytest.fixture
def agent(paths: Paths) -> Iterator[None]:
    """An agent that works in the state directory, as far as others can see."""
    paths.make()
    lock = hold(paths.root / "lock")
    yield
    os.close(lock)


def test_beside_a_running_agent_its_memory_is_its_own_to_write(
    hub: Hub, paths: Paths, request: pytest.FixtureRequest
) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    before = (paths.memory.read_bytes(), paths.anchor.read_bytes(), paths.identity.readlink())
    request.getfixturevalue("agent")
    hub.expect(issued_at=NOW + 1)
    enrol.enrol(paths, hub.wanted(), SystemClock())
    assert (paths.memory.read_bytes(), paths.anchor.read_bytes()) == before[:2]
    assert paths.identity.readlink() != before[2], "the new certificate is in place"


@pytest.mark.usefixtures("agent")
def test_a_first_enrolment_where_an_agent_works_is_refused(hub: Hub, paths: Paths) -> None:
    with pytest.raises(NotReady, match="stop it first, and enrol again"):
        enrol.enrol(paths, hub.wanted(), SystemClock())
    assert not paths.memory.exists()
    assert not paths.identity.exists()


def test_the_very_same_answer_again_is_fine(hub: Hub, paths: Paths) -> None:
    for _ in range(2):
        enrol.enrol(paths, hub.wanted(), SystemClock())
    assert Identity(paths).device.device_id == DEVICE


def test_a_run_that_was_cut_off_goes_on_with_the_same_key(
    hub: Hub, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge.identity.identity.write", power_cut)
        with pytest.raises(KeyboardInterrupt):
            enrol.enrol(paths, hub.wanted(), SystemClock())
    with pytest.raises(NotReady, match="run flaghoist-edge enrol first"):
        Identity(paths)
    enrol.enrol(paths, hub.wanted(), SystemClock())
    keys = {codec.decode(body, RegisterRequest, limit=65536).public_key for body in hub.source.bodies}
    assert keys == {bytes(Identity(paths).key.verify_key)}


def test_enrolling_again_says_that_role_and_segment_stay(
    hub: Hub, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["enrol", "--hub", hub.source.url, "--device-id", DEVICE, "--state", str(paths.root), "--token"]
    assert main([*command, hub.token.text()]) == 0
    assert "stay" not in capsys.readouterr().out
    assert main([*command, hub.token.text()]) == 0
    said = capsys.readouterr().out
    assert "role kiosk and segment canary stay as they are, whatever the token names" in said
    assert f"flaghoist device set {DEVICE}" in said


def test_a_device_whose_memory_is_lost_enrols_again_without_losing_its_floors(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    known = memory.need(paths)
    trusted = records.changed(known.trust, floors={"kiosk": 5})
    anchor.keep(paths, records.changed(known, trust=trusted))
    paths.memory.unlink()
    hub.expect(issued_at=NOW + 1)
    enrol.enrol(paths, hub.wanted(), SystemClock())
    assert memory.need(paths).trust.floor("kiosk") == 5


@pytest.mark.parametrize(
    ("harm", "kept"),
    [
        pytest.param(lambda folder: (folder / "key.pem").write_bytes(b""), False, id="an empty key"),
        pytest.param(
            lambda folder: (folder / "key.pem").write_bytes(b"\xff" * 99), False, id="a key of junk"
        ),
        pytest.param(lambda folder: (folder / "key.pem").unlink(), False, id="no key"),
        pytest.param(lambda folder: shutil.rmtree(folder.resolve()), False, id="a link to nowhere"),
        pytest.param(lambda folder: (folder / "device").write_bytes(b"x"), True, id="a torn record"),
        pytest.param(lambda folder: (folder / "device").unlink(), True, id="no record"),
    ],
)
def test_a_damaged_identity_is_put_right_by_enrolling_again_as_its_message_says(
    hub: Hub, paths: Paths, harm: Callable[[Path], object], kept: bool
) -> None:
    """The key stays if it is whole: the hub knows the device by it."""
    enrol.enrol(paths, hub.wanted(), SystemClock())
    key = bytes(Identity(paths).key)
    harm(paths.identity)
    with pytest.raises(NotReady, match="run flaghoist-edge enrol"):
        Identity(paths)
    hub.expect(issued_at=NOW + 1)
    enrol.enrol(paths, hub.wanted(), SystemClock())
    assert (bytes(Identity(paths).key) == key) is kept


def test_a_chain_of_roots_is_walked(hub: Hub, paths: Paths) -> None:
    hub.changes = {
        "roots": [ROOT, SECOND],
        "config": kit.sign(kit.config(), "config", ["hub-2"]),
        "desired": kit.signed_desired(NOW, signers=("hub-2",)),
    }
    enrol.enrol(paths, hub.wanted(), SystemClock())
    assert memory.need(paths).trust.root.version == 2


def other_ca(folder: Path) -> str:
    return open_authorities(folder / "other", FLEET, now=NOW // 1000).device.pem


LIES: list[tuple[str, Callable[[Hub, Path], dict[str, Any]], str]] = [
    ("another root", lambda hub, _: {"roots": [kit.signed_root(expires_at=NOW)]}, "root_pin"),
    ("no root", lambda hub, _: {"roots": []}, "does not answer as a hub"),
    ("another CA", lambda hub, folder: {"ca_pem": other_ca(folder)}, "the CA is not the one"),
    ("no CA", lambda hub, _: {"ca_pem": "x"}, "no certificate"),
    (
        "a certificate over another key",
        lambda hub, _: {"certificate_pem": hub.certificate(bytes(SigningKey.generate().verify_key))},
        "not over this device's key",
    ),
    (
        "a config by another key",
        lambda hub, _: {"config": kit.sign(kit.config(), "config", ["evil"])},
        "deployment_threshold",
    ),
    (
        "the desired state of another device",
        lambda hub, _: {
            "desired": kit.signed_desired(
                NOW, device_id="shop-13", to=DESIRED_TOPIC.replace("shop-12", "shop-13")
            )
        },
        "addressee",
    ),
    ("a root that skips a version", lambda hub, _: {"roots": [ROOT, kit.signed_root(3)]}, "root_version"),
]


@pytest.mark.parametrize(
    ("lie", "reason"), [pytest.param(lie, reason, id=name) for name, lie, reason in LIES]
)
def test_an_answer_that_the_token_does_not_vouch_for_is_not_believed(
    hub: Hub, paths: Paths, tmp_path: Path, lie: Callable[[Hub, Path], dict[str, Any]], reason: str
) -> None:
    hub.changes = lie(hub, tmp_path)
    with pytest.raises(Untrusted, match=reason):
        enrol.enrol(paths, hub.wanted(), SystemClock())
    with pytest.raises(NotReady):
        Identity(paths)


def test_a_hub_that_says_no_is_quoted(hub: Hub, paths: Paths) -> None:
    hub.source.judge = lambda _body: (409, b'{"detail": "shop-12 is taken by another key"}')
    with pytest.raises(Refused, match=r"shop-12 is taken by another key \(409\)"):
        enrol.enrol(paths, hub.wanted(), SystemClock())


def test_something_that_is_no_hub_is_named(hub: Hub, paths: Paths) -> None:
    hub.source.judge = lambda _body: (200, b"<html>")
    with pytest.raises(Untrusted, match="does not answer as a hub does"):
        enrol.enrol(paths, hub.wanted(), SystemClock())


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        pytest.param({"token": "fh1.xyz"}, Refused, "not an enrolment token", id="token"),
        pytest.param({"device_id": "Shop 12"}, Refused, "device id", id="device id"),
        pytest.param({"hub": "hub.example"}, Refused, "not the URL of a hub", id="URL without scheme"),
        pytest.param({"hub": "http://x:port"}, Refused, "not the URL of a hub", id="port that is no number"),
        pytest.param({"hub": "http://127.0.0.1:1"}, Unreachable, "no hub answers", id="nobody there"),
    ],
)
def test_wrong_arguments_are_named(
    hub: Hub, paths: Paths, changes: dict[str, str], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        enrol.enrol(paths, hub.wanted(**changes), SystemClock())


def test_an_enrolled_device_does_not_change_its_name(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    with pytest.raises(Refused, match="enrolled as shop-12"):
        enrol.enrol(paths, hub.wanted(device_id="shop-13"), SystemClock())


def test_a_key_that_others_can_read_is_refused(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    (paths.identity / "key.pem").chmod(0o644)
    with pytest.raises(NotReady, match="can be read by others"):
        Identity(paths)
    with pytest.raises(NotReady, match="can be read by others"):
        enrol.enrol(paths, hub.wanted(), SystemClock())


def test_the_key_file_is_pkcs8() -> None:
    pem = identity.key_pem(bytes(range(32)))
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    assert len(der) == 48
    assert der.endswith(bytes(range(32)))


def test_the_token_is_not_in_the_request(hub: Hub, paths: Paths) -> None:
    enrol.enrol(paths, hub.wanted(), SystemClock())
    first = codec.decode(hub.source.bodies[0], RegisterRequest, limit=65536)
    assert msgspec.structs.asdict(first)["token_id"] == hub.token.id
    assert first.proof is None
