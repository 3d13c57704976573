"""The design's attack table against a running agent, over a real broker and a real HTTP server, row by row.

Whoever attacks holds the broker, the HTTP server and, where a row says so, keys. Each row is refused by the check that
it names; after each, the release that ran runs on as the same process and nothing stands outside the staging folder.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgpack
import msgspec
import pytest

from edge.config import Paths
from tests.e2e.attacked import FLOOR, Attacked, hostile, releases
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, NOW, ROOT_TOPIC, Source, member
from tests.support.mosquitto import Broker
from tests.topics import kit
from topics import codec, envelope
from topics.channels import DESIRED, MANIFEST, MANIFEST_LIMIT
from topics.documents import Command, Requires, RootChain

OTHER_TOPIC = MANIFEST.topic(kit.FLEET, role="kiosk", segment="general")
OTHER_DEVICE = DESIRED.topic(kit.FLEET, id="shop-13")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """One device for all rows, running release 7."""
    source = Source()
    folder = tmp_path_factory.mktemp("attacked")
    with Broker(folder / "hub") as broker:
        (folder / "device").mkdir()
        made = Attacked(folder / "device", broker, source)
        made.paths = Paths(made.paths.root)
        try:
            made.begin()
            yield made
        finally:
            made.close()
            source.close()


# Documents: put on the broker, refused before anything in them is believed


def duplicated(document: msgspec.Struct) -> bytes:
    """Return the MessagePack of `document` with `issued_at` standing twice, 0 first."""
    encoded = codec.encode(document)
    return bytes([encoded[0] + 1]) + b"\xa9issued_at\x00" + encoded[1:]


def stuffed(data: bytes) -> bytes:
    """Return an envelope whose one signature stands in it twice."""
    return kit.repacked(data, signatures=msgpack.unpackb(data)["signatures"] * 2)


Forge = Callable[[Attacked], bytes]


def manifest(**changes: Any) -> Forge:
    """The hub's own key signs a manifest with something wrong in it."""
    return lambda device: device.manifest(**changes)


def with_release(**changes: Any) -> Forge:
    """The hub's own key signs a manifest that offers a release with something wrong in it."""
    return lambda device: device.manifest(candidate=releases(device.next_sequence(), **changes))


DOCUMENTS = [
    ("arbitrary software: a release that nobody signed", "release_threshold", with_release(signers=())),
    ("arbitrary software: by a stranger", "release_threshold", with_release(signers=("stranger",))),
    ("one release key of two", "release_threshold", with_release(signers=("release-1",))),
    (
        "one release key of two, and the hub's",
        "release_threshold",
        with_release(signers=("release-1", "hub-1")),
    ),
    (
        "threshold stuffing",
        "release_threshold",
        lambda device: device.manifest(
            stable=device.good.__class__(
                device.good.release,
                device.good.archive,
                stuffed(kit.sign(device.good.release, "release", ["release-1"])),
            )
        ),
    ),
    ("deployment key: introduces code", "release_threshold", with_release(signers=("hub-1",))),
    ("mix-and-match: release of another role", "release_role", with_release(role="till")),
    ("mix-and-match: release of another fleet", "fleet", with_release(fleet="umbrella")),
    ("broker: a manifest by a stranger", "deployment_threshold", manifest(signers=("stranger",))),
    ("broker: a manifest by a release key", "deployment_threshold", manifest(signers=("release-1",))),
    (
        "tampered manifest",
        "deployment_threshold",
        lambda device: kit.altered_payload(device.manifest(), basis_points=10_000),
    ),
    ("replayed manifest", "replayed", lambda device: device.old_manifest),
    ("manifest of another segment", "addressee", manifest(to=OTHER_TOPIC, segment="general")),
    ("manifest of another segment, readdressed", "addressee", manifest(segment="general")),
    ("manifest of another fleet", "fleet", manifest(fleet="umbrella")),
    ("poisoned issued_at: beyond the root", "beyond_root", lambda device: kit.signed_manifest(NOW + 400 * kit.DAY)),
    ("poisoned issued_at: days ahead", "ahead_of_clock", lambda device: kit.signed_manifest(NOW + 3 * kit.DAY)),
    (
        "unknown payload type",
        "unknown_type",
        lambda device: envelope.sign(codec.encode(kit.manifest()), "update", [kit.key("hub-1")]),
    ),
    ("another kind on this topic", "unknown_type", lambda device: device.desired()),
    ("trailing bytes", "malformed", lambda device: device.manifest() + b"\0"),
    (
        "duplicate keys",
        "malformed",
        lambda device: envelope.sign(duplicated(kit.manifest(NOW)), "manifest", [kit.key("hub-1")]),
    ),
    ("bytes that are no envelope", "malformed", lambda device: b"\x93\x01\x02\x03"),
    ("more bytes than a manifest has", "too_large", lambda device: bytes(MANIFEST_LIMIT + 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "forge"), [pytest.param(check, forge, id=name) for name, check, forge in DOCUMENTS]
)
def test_a_forged_manifest_is_refused(device: Attacked, check: str, forge: Forge) -> None:
    device.hoist(MANIFEST_TOPIC, forge(device))
    device.refused(check, MANIFEST_TOPIC)
    device.check_untouched()
    device.calm()


OWN = [
    ("replayed desired state", "replayed", lambda device: device.old_desired),
    (
        "another device's desired state",
        "addressee",
        lambda device: device.desired(to=OTHER_DEVICE, device_id="shop-13"),
    ),
    ("another device's, readdressed", "addressee", lambda device: device.desired(device_id="shop-13")),
    ("by a stranger", "deployment_threshold", lambda device: device.desired(signers=("stranger",))),
    (
        "tampered desired state",
        "deployment_threshold",
        lambda device: kit.altered_payload(device.desired(), segment="early"),
    ),
    (
        "version lock on a release that nobody signed",
        "release_threshold",
        lambda device: device.desired(version_lock=releases(99, signers=("hub-1",)).signed),
    ),
    ("poisoned issued_at", "beyond_root", lambda device: kit.signed_desired(NOW + 400 * kit.DAY)),
]


@pytest.mark.parametrize(
    ("check", "forge"), [pytest.param(check, forge, id=name) for name, check, forge in OWN]
)
def test_a_forged_desired_state_is_refused(device: Attacked, check: str, forge: Forge) -> None:
    device.hoist(DESIRED_TOPIC, forge(device))
    device.refused(check, DESIRED_TOPIC)
    device.check_untouched()
    device.calm()


ROOTS = [
    ("by a stranger", "root_threshold", kit.signed_root(2, signers=("stranger",))),
    ("by the hub's key", "root_threshold", kit.signed_root(2, signers=("hub-1",))),
    (
        "new root keys without the old ones",
        "root_threshold",
        kit.signed_root(2, roots=("evil",), signers=("evil",)),
    ),
    ("a step left out", "root_version", kit.signed_root(3)),
    ("of another fleet", "fleet", kit.signed_root(2, fleet="umbrella")),
]


@pytest.mark.parametrize(
    ("check", "root"), [pytest.param(check, root, id=name) for name, check, root in ROOTS]
)
def test_a_forged_root_is_refused(device: Attacked, check: str, root: bytes) -> None:
    device.hoist(ROOT_TOPIC, codec.encode(RootChain([root])))
    device.refused(check, ROOT_TOPIC)
    device.check_untouched()
    device.calm()


def test_a_command_is_carried_out_once_however_often_it_comes(device: Attacked) -> None:
    """Replay of a command: the old document is refused, and a new one with the same id finds it done."""

    def ordered(*names: str) -> bytes:
        return device.desired(
            commands=[Command(id=name, kind="report-now", expires_at=NOW + kit.DAY) for name in names]
        )

    once = ordered("c-1")
    device.hoist(DESIRED_TOPIC, once)
    assert device.done("c-1") == ["c-1"]
    device.hoist(DESIRED_TOPIC, ordered("c-1", "c-2"))
    assert device.done("c-2") == ["c-2"]
    device.hoist(DESIRED_TOPIC, once)
    device.refused("replayed", DESIRED_TOPIC)
    device.hoist(DESIRED_TOPIC, ordered("c-1", "c-3"))
    assert device.done("c-3") == ["c-3"]
    device.check_untouched()
    device.calm()


# Decisions: documents that are genuine, for something that must not be


def test_a_frozen_manifest_starts_nothing(device: Attacked) -> None:
    """Freeze: what is too old is believed for what it says, and not acted on."""
    device.hoist(
        MANIFEST_TOPIC, device.manifest(candidate=releases(device.next_sequence()), expires_at=NOW - 1000)
    )
    device.held("manifest_expired")
    device.check_untouched()
    device.calm()


def test_wrong_hardware_starts_nothing(device: Attacked) -> None:
    device.offer(releases(device.next_sequence(), requires=Requires(hardware=["rpi5"])))
    device.held("wrong_hardware")
    device.check_untouched()
    device.calm()


def test_the_deployment_key_cannot_go_below_the_floor(device: Attacked) -> None:
    """A compromised hub may point at any release that the release keys signed, but not below the floor."""
    old, running = releases(FLOOR - 1, floor=0), device.good.release.sequence
    device.source.add(old)
    device.hoist(MANIFEST_TOPIC, device.manifest(stable=old, event="rollback", rollback_from=running))
    device.held("below_floor")
    device.check_untouched()
    device.calm()


# Bundles: signed releases whose bytes are not what they should be


def spoiled(archive: bytes) -> bytes:
    """Return the archive with one bit turned."""
    middle = len(archive) // 2
    return archive[:middle] + bytes([archive[middle] ^ 1]) + archive[middle + 1 :]


def test_a_tampered_bundle_is_refused(device: Attacked) -> None:
    built = releases(device.next_sequence())
    device.source.archives[built.id] = spoiled(built.archive)
    device.offer(built)
    device.failed("bundle", built)
    device.check_untouched()
    device.calm()


def test_the_bundle_of_another_release_is_refused(device: Attacked) -> None:
    """Mix-and-match."""
    built = releases(device.next_sequence())
    device.source.archives[built.id] = device.good.archive + b"\0" * (
        len(built.archive) - len(device.good.archive)
    )
    device.offer(built)
    device.failed("bundle", built)
    device.check_untouched()
    device.calm()


def endless(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
    """Send for as long as anybody listens."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(65_536))
    except OSError:
        return


def trickle(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Send a byte now and then: no single read is ever late."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.connection.settimeout(0.05)
    for byte in data:
        try:
            handler.connection.sendall(bytes([byte]))
            if handler.connection.recv(1) == b"":
                return
        except TimeoutError:
            continue
        except OSError:
            return


def test_endless_data_are_refused(device: Attacked) -> None:
    built = releases(device.next_sequence())
    device.source.add(built)
    device.source.faults = [endless] * 100
    device.offer(built)
    device.failed("bundle", built)
    device.check_untouched()
    device.calm()


MIXED = [
    ("checksums of another bundle", "checksums", {"checksums": "0" * 64}),
    ("compose.yaml of another release", "compose", {"compose_sha256": "0" * 64}),
    ("hook other than signed", "bundle_json", {"signed_hook": "compose"}),
]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("check", "changes"), [pytest.param(check, changes, id=name) for name, check, changes in MIXED]
)
def test_a_bundle_that_disagrees_with_its_release_is_refused(
    device: Attacked, check: str, changes: dict[str, Any]
) -> None:
    """Mix-and-match, signed by both release keys."""
    built = releases(device.next_sequence(), **changes)
    device.source.add(built)
    device.offer(built)
    device.failed(check, built)
    device.check_untouched()
    device.calm()


@pytest.mark.heavy
def test_slow_retrieval_is_given_up(device: Attacked) -> None:
    built = releases(device.next_sequence())
    device.source.add(built)
    device.source.faults = [trickle] * 10_000
    device.offer(built)
    device.failed("download", built)
    device.check_untouched()
    device.calm()


def huge_header() -> bytes:
    """A header that claims seven gigabytes."""
    info = tarfile.TarInfo("files/huge")
    info.size, info.mode = 7 * 1024**3, 0o644
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT))


LINK: dict[str, Any] = {"type": tarfile.SYMTYPE}
ARCHIVES = [
    ("absolute path", [member("/tmp/flaghoist-escaped", b"x")]),
    ("dot dot", [member("files/../../../escaped", b"x")]),
    ("symbolic link out", [member("files/a", linkname="../../..", **LINK), member("files/a/escaped", b"x")]),
    (
        "hard link",
        [member("files/b", b"x"), member("files/a", type=tarfile.LNKTYPE, linkname="../../state")],
    ),
    ("device node", [member("files/a", type=tarfile.CHRTYPE)]),
    ("named pipe", [member("files/a", type=tarfile.FIFOTYPE)]),
    ("set-uid", [member("files/a", b"x", 0o4755)]),
    ("duplicate member", [member("files/a", b"x"), member("files/a", b"y")]),
    ("case collision", [member("files/a", b"x"), member("files/A", b"y")]),
]


@pytest.mark.heavy
@pytest.mark.parametrize("members", [pytest.param(members, id=name) for name, members in ARCHIVES])
def test_an_archive_that_reaches_out_is_refused(device: Attacked, members: list[Any]) -> None:
    """Both release keys signed exactly this archive: only unpacking can refuse it."""
    built = hostile(device.next_sequence(), [member("bundle.json", b"{}"), *members])
    device.source.add(built)
    device.offer(built)
    device.failed("archive", built)
    device.check_untouched()
    device.calm()


@pytest.mark.heavy
def test_a_member_of_seven_gigabytes_is_refused(device: Attacked) -> None:
    built = hostile(device.next_sequence(), [], huge_header())
    device.source.add(built)
    device.offer(built)
    device.failed("archive", built)
    device.check_untouched()
    device.calm()


def test_a_genuine_release_arrives_between_attacks(device: Attacked) -> None:
    """No attack has shut the device's ears."""
    built = releases(device.next_sequence())
    device.move_on(built)
    assert device.paths.current.readlink().name == built.id
    device.check_untouched()
