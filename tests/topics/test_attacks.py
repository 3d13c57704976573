"""Attacks that must be refused, as a table: each row names the attack and the one check that refuses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from tests.topics.kit import (
    CLOCK,
    DAY,
    DESIRED_TOPIC,
    DEVICE,
    NO_CLOCK,
    NOW,
    TOPIC,
    altered_payload,
    config,
    desired,
    key,
    keyid,
    manifest,
    pinned,
    public,
    release,
    repacked,
    root,
    sign,
    signed_desired,
    signed_manifest,
    signed_release,
    signed_root,
    trusted_until,
)
from topics import codec, envelope, trust
from topics.channels import DESIRED, MANIFEST, MANIFEST_LIMIT, RELEASE_LIMIT
from topics.documents import KeyRole
from topics.errors import TrustError
from topics.trust import (
    Clock,
    TrustState,
    accept_config,
    accept_desired,
    accept_manifest,
    advance_root,
    pin_root,
)

Attack = Callable[[], object]
TWO_OF_TWO: dict[str, Any] = {
    "releases": ("release-1", "release-2"),
    "thresholds": {"release": 2},
}


def on_manifest(
    data: bytes, *, state: TrustState | None = None, topic: str = TOPIC, clock: Clock = CLOCK
) -> Attack:
    """The attacker hoists `data` on a manifest topic."""
    return lambda: accept_manifest(state or pinned(), topic, data, clock)


def on_desired(data: bytes, *, state: TrustState | None = None, topic: str = DESIRED_TOPIC) -> Attack:
    """The attacker hoists `data` on a device's own topic."""
    return lambda: accept_desired(state or pinned(), topic, data, CLOCK)


def on_root(data: bytes, *, state: TrustState | None = None) -> Attack:
    """The attacker offers `data` as the next root."""
    return lambda: advance_root(state or pinned(), data)


def at_enrolment(data: bytes, *, pin: bytes | None = None) -> Attack:
    """The attacker answers an enrolment with `data`; the token pins `pin`."""
    return lambda: pin_root(data, trust.sha256(pin or data))


def obeying(*documents: bytes) -> TrustState:
    """Return the state of a device that has trusted each of `documents` (desired states) in turn."""
    state = pinned()
    for data in documents:
        state, _ = accept_desired(state, DESIRED_TOPIC, data, CLOCK)
    return state


def raw(payload: bytes, kind: str, signer: str) -> bytes:
    """Return `payload`, whatever it is, properly signed as a `kind`."""
    return envelope.sign(payload, kind, [key(signer)])


def stuffed(data: bytes) -> bytes:
    """Return `data` with its first signature repeated: one key that wants to count twice."""
    signatures = msgpack.unpackb(data)["signatures"]
    return repacked(data, signatures=signatures * 2)


ALIAS = "f" * 32


def root_with_release_ids(*keyids: str) -> bytes:
    """A root that knows the one release key by its own and by a made-up id, and needs `keyids` all to sign."""
    keys = {**root().keys, ALIAS: public("release-1")}
    roles = {**root().roles, "release": KeyRole(keyids=list(keyids), threshold=len(keyids))}
    return sign(msgspec.structs.replace(root(), keys=keys, roles=roles), "root", ["root-1"])


def release_signed_under_two_ids() -> bytes:
    """A release with two good signatures by one key, the second under the made-up id."""
    data = signed_release()
    signature = msgpack.unpackb(data)["signatures"][0]
    return repacked(data, signatures=[signature, {**signature, "keyid": ALIAS}])


def with_duplicate_key(document: msgspec.Struct) -> bytes:
    """Return the MessagePack of `document` with its `issued_at` standing twice: 0 first, for a lenient reader."""
    encoded = codec.encode(document)
    assert 0x80 <= encoded[0] < 0x8F
    return bytes([encoded[0] + 1]) + b"\xa9issued_at\x00" + encoded[1:]


GENERAL_TOPIC = MANIFEST.topic("acme", role="kiosk", segment="general")
OTHER_FLEET_TOPIC = MANIFEST.topic("umbrella", role="kiosk", segment="canary")
OTHER_DEVICE_TOPIC = DESIRED.topic("acme", id="shop-13")

REFUSED = [
    # Software that the release keys never signed.
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(stable=signed_release(signers=()))),
        id="arbitrary software: a release nobody signed",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(stable=signed_release(signers=("stranger",)))),
        id="arbitrary software: a release signed by a stranger",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(stable=signed_release(signers=("hub-1",)))),
        id="compromised deployment key: introduces code as stable",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(candidate=signed_release(8, signers=("hub-1",)))),
        id="compromised deployment key: introduces code as candidate",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(waypoints=[signed_release(5, signers=("hub-1",))])),
        id="compromised deployment key: introduces code as waypoint",
    ),
    pytest.param(
        "release_threshold",
        on_desired(signed_desired(version_lock=signed_release(8, signers=("hub-1",)))),
        id="compromised deployment key: introduces code as version lock",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(signed_manifest(), state=pinned(signed_root(**TWO_OF_TWO))),
        id="one compromised release key under threshold 2",
    ),
    # Tampering under way.
    pytest.param(
        "release_threshold",
        on_manifest(
            signed_manifest(
                stable=altered_payload(
                    signed_release(), bundle={"sha256": "e" * 64, "size": 1000, "tar_sha256": "b" * 64}
                )
            )
        ),
        id="tampered bundle: the release's bundle hash is altered",
    ),
    pytest.param(
        "deployment_threshold",
        on_manifest(altered_payload(signed_manifest(), basis_points=10_000)),
        id="tampered manifest: the share is altered",
    ),
    pytest.param(
        "deployment_threshold",
        on_manifest(signed_manifest(signers=("stranger",))),
        id="compromised broker: a manifest signed by a stranger",
    ),
    pytest.param(
        "deployment_threshold",
        on_manifest(signed_manifest(signers=("release-1",))),
        id="a release key speaks for the deployment role",
    ),
    pytest.param(
        "deployment_threshold",
        on_desired(altered_payload(signed_desired(), maintenance=True)),
        id="tampered desired state",
    ),
    pytest.param(
        "deployment_threshold",
        lambda: accept_config(pinned(), DEVICE, sign(config(mqtt_host="evil"), "config", ["stranger"])),
        id="config of a registration signed by a stranger",
    ),
    # Old documents again.
    pytest.param(
        "replayed",
        on_manifest(
            signed_manifest(NOW - 1), state=trusted_until(signed_manifest(NOW - 1), signed_manifest(NOW))
        ),
        id="replay of a manifest",
    ),
    pytest.param(
        "replayed",
        on_manifest(signed_manifest(NOW, paused=True), state=trusted_until(signed_manifest(NOW))),
        id="two manifests under one issued_at",
    ),
    pytest.param(
        "replayed",
        on_desired(signed_desired(NOW - 1), state=obeying(signed_desired(NOW - 1), signed_desired(NOW))),
        id="replay of a desired state",
    ),
    pytest.param(
        "replayed",
        on_desired(
            signed_desired(
                NOW - 1, commands=[{"id": "c1", "kind": "restart-agent", "expires_at": NOW + DAY}]
            ),
            state=obeying(signed_desired(NOW)),
        ),
        id="replay of a command",
    ),
    # Mix and match.
    pytest.param(
        "release_role",
        on_manifest(signed_manifest(stable=signed_release(role="gateway"))),
        id="mix and match: a release of another role",
    ),
    pytest.param(
        "release_role",
        on_desired(signed_desired(version_lock=signed_release(role="gateway"))),
        id="mix and match: a version lock to another role",
    ),
    pytest.param(
        "fleet",
        on_manifest(signed_manifest(stable=signed_release(fleet="umbrella"))),
        id="mix and match: a release of another fleet",
    ),
    pytest.param(
        "fleet",
        on_manifest(signed_manifest(fleet="umbrella", to=OTHER_FLEET_TOPIC), topic=OTHER_FLEET_TOPIC),
        id="mix and match: a manifest of another fleet",
    ),
    pytest.param(
        "fleet",
        on_desired(signed_desired(fleet="umbrella")),
        id="mix and match: a desired state of another fleet",
    ),
    pytest.param(
        "addressee",
        on_manifest(signed_manifest(to=GENERAL_TOPIC, segment="general")),
        id="mix and match: the manifest of another segment",
    ),
    pytest.param(
        "addressee",
        on_manifest(signed_manifest(segment="general")),
        id="a manifest whose segment is not that of its topic",
    ),
    pytest.param(
        "addressee",
        on_manifest(signed_manifest(to=GENERAL_TOPIC), topic=GENERAL_TOPIC),
        id="a manifest addressed to a topic that is not its own",
    ),
    pytest.param(
        "addressee",
        on_manifest(signed_manifest(to=GENERAL_TOPIC)),
        id="a manifest put on its own topic, addressed to another",
    ),
    pytest.param(
        "addressee",
        on_desired(signed_desired(to=OTHER_DEVICE_TOPIC)),
        id="a desired state put on its own topic, addressed to another",
    ),
    pytest.param(
        "addressee",
        on_desired(signed_desired(to=OTHER_DEVICE_TOPIC, device_id="shop-13")),
        id="another device's desired state",
    ),
    pytest.param(
        "addressee",
        on_desired(signed_desired(device_id="shop-13")),
        id="another device's desired state under this device's address",
    ),
    pytest.param(
        "addressee",
        lambda: accept_config(pinned(), "shop-13", sign(config(), "config", ["hub-1"])),
        id="another device's config",
    ),
    # Type confusion.
    pytest.param(
        "unknown_type", on_manifest(sign(desired(), "desired", ["hub-1"])), id="a desired state as a manifest"
    ),
    pytest.param(
        "unknown_type",
        on_desired(sign(manifest(), "manifest", ["hub-1"])),
        id="a manifest as a desired state",
    ),
    pytest.param(
        "unknown_type", on_desired(sign(config(), "config", ["hub-1"])), id="a config as a desired state"
    ),
    pytest.param(
        "unknown_type",
        on_manifest(signed_manifest(stable=sign(release(), "manifest", ["release-1"]))),
        id="a release signed as something else",
    ),
    pytest.param(
        "unknown_type", on_manifest(sign(manifest(), "firmware", ["hub-1"])), id="unknown payload type"
    ),
    pytest.param(
        "deployment_threshold",
        on_manifest(
            repacked(sign(manifest(), "desired", ["hub-1"]), payloadType=envelope.payload_type("manifest"))
        ),
        id="a payload relabelled after signing",
    ),
    pytest.param(
        "unknown_type", on_root(sign(root(2), "release", ["root-1"])), id="a root signed as a release"
    ),
    pytest.param(
        "unknown_type",
        at_enrolment(sign(root(), "manifest", ["root-1"])),
        id="a first root signed as a manifest",
    ),
    pytest.param("unknown_type", at_enrolment(signed_manifest()), id="a manifest as the first root"),
    # Two readers, two documents.
    pytest.param(
        "malformed", on_manifest(signed_manifest() + b"\xc0"), id="trailing bytes after the envelope"
    ),
    pytest.param(
        "malformed",
        on_manifest(raw(codec.encode(manifest()) + b"\xc0", "manifest", "hub-1")),
        id="trailing bytes after the payload",
    ),
    pytest.param(
        "malformed",
        on_manifest(raw(with_duplicate_key(manifest()), "manifest", "hub-1")),
        id="duplicate keys in a payload",
    ),
    pytest.param(
        "malformed",
        on_manifest(b"\x84" + msgpack.packb("payload") + msgpack.packb(b"") + signed_manifest()[1:]),
        id="duplicate keys in an envelope",
    ),
    pytest.param(
        "malformed",
        on_manifest(repacked(signed_manifest(), note="hello")),
        id="an envelope with a field too many",
    ),
    pytest.param(
        "malformed",
        on_manifest(repacked(signed_manifest(), payload="eyJhIjoxfQ==")),
        id="an envelope whose payload is base64 text",
    ),
    pytest.param("malformed", on_manifest(b""), id="an empty message, as a cleared retained topic sends"),
    pytest.param("malformed", on_manifest(b'{"payload":"","signatures":[]}'), id="a JSON envelope"),
    pytest.param(
        "malformed",
        on_manifest(repacked(signed_manifest(), signatures=[{"keyid": "0" * 32, "sig": b"\0" * 64}] * 17)),
        id="more signatures than anybody needs",
    ),
    # Endless data.
    pytest.param("too_large", on_manifest(b"\x80" * (MANIFEST_LIMIT + 1)), id="endless manifest"),
    pytest.param("too_large", on_desired(b"\x80" * (MANIFEST_LIMIT + 1)), id="endless desired state"),
    pytest.param("too_large", on_root(b"\x80" * (trust.ROOT_LIMIT + 1)), id="endless root"),
    pytest.param(
        "too_large",
        lambda: trust.open_release(root(), b"\x80" * (RELEASE_LIMIT + 1)),
        id="endless release",
    ),
    # A document from the future would lock out every later one.
    pytest.param(
        "beyond_root",
        on_manifest(signed_manifest(NOW + 366 * DAY), clock=NO_CLOCK),
        id="poisoned issued_at beyond the root's expiry",
    ),
    pytest.param(
        "beyond_root", on_desired(signed_desired(NOW + 366 * DAY)), id="poisoned issued_at of a desired state"
    ),
    pytest.param(
        "ahead_of_clock",
        on_manifest(signed_manifest(NOW + DAY + 1)),
        id="poisoned issued_at more than a day ahead of a trusted clock",
    ),
    # Threshold stuffing.
    pytest.param(
        "release_threshold",
        on_manifest(
            signed_manifest(stable=stuffed(signed_release())), state=pinned(signed_root(**TWO_OF_TWO))
        ),
        id="threshold stuffing: one signature twice",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(
            signed_manifest(stable=signed_release(signers=("release-1", "release-1"))),
            state=pinned(signed_root(**TWO_OF_TWO)),
        ),
        id="threshold stuffing: one key signs twice",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(
            signed_manifest(stable=release_signed_under_two_ids()),
            state=pinned(root_with_release_ids(keyid("release-1"), ALIAS)),
        ),
        id="threshold stuffing: one key under two ids",
    ),
    pytest.param(
        "release_threshold",
        on_manifest(
            signed_manifest(stable=release_signed_under_two_ids()), state=pinned(root_with_release_ids(ALIAS))
        ),
        id="a key listed under an id that is not its own",
    ),
    pytest.param(
        "release_threshold",
        lambda: envelope.verify(
            envelope.open_envelope(release_signed_under_two_ids(), limit=RELEASE_LIMIT),
            "release",
            {keyid("release-1"): public("release-1"), ALIAS: public("release-1")},
            2,
            signer="release",
        ),
        id="threshold stuffing: one key under two ids, past the root's own check",
    ),
    # The chain of roots.
    pytest.param("root_version", on_root(signed_root(3)), id="a root that skips a version"),
    pytest.param(
        "root_version",
        lambda: advance_root(advance_root(pinned(), signed_root(2)), signed_root(1)),
        id="an older root again",
    ),
    pytest.param(
        "root_version",
        on_root(signed_root(1, expires_at=NOW + DAY)),
        id="another root under the same version",
    ),
    pytest.param(
        "root_threshold",
        on_root(signed_root(2, roots=("root-2",), signers=("root-2",))),
        id="a root signed by the new keys only",
    ),
    pytest.param(
        "root_threshold",
        on_root(signed_root(2, roots=("root-2",), signers=("root-1",))),
        id="a root signed by the old keys only",
    ),
    pytest.param(
        "root_threshold",
        on_root(signed_root(2, signers=("hub-1",))),
        id="a root signed by the deployment key",
    ),
    pytest.param(
        "root_threshold",
        on_root(altered_payload(signed_root(2), expires_at=NOW + 9999 * DAY)),
        id="a root whose expiry is altered",
    ),
    pytest.param("fleet", on_root(signed_root(2, fleet="umbrella")), id="the next root of another fleet"),
    pytest.param(
        "malformed",
        on_root(raw(msgpack.packb({"fleet": "acme"}), "root", "root-1")),
        id="a signed root with fields missing",
    ),
    pytest.param(
        "root_pin",
        at_enrolment(signed_root(roots=("stranger",), signers=("stranger",)), pin=signed_root()),
        id="first root with the wrong pin",
    ),
    pytest.param(
        "root_threshold",
        at_enrolment(signed_root(signers=("stranger",))),
        id="first root not signed by its own keys",
    ),
]


@pytest.mark.parametrize(("check", "attack"), REFUSED)
def test_attack_is_refused_by(check: str, attack: Attack) -> None:
    with pytest.raises(TrustError) as refusal:
        attack()
    assert refusal.value.check == check
    assert str(refusal.value).startswith(f"{check}: ")


def test_every_check_has_an_attack_that_it_refuses() -> None:
    """Checks that `trust` can raise and the table above agree; `root_expired` is the decision's own."""
    source = Path(trust.__file__).read_text() + Path(envelope.__file__).read_text()
    raised = set(re.findall(r'TrustError\(\s*"(\w+)"', source))
    raised |= {f"{role}_threshold" for role in ("root", "release", "deployment")}
    assert {str(row.values[0]) for row in REFUSED} == raised
    assert raised <= set(trust.CHECKS)
