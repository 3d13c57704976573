"""What a device believes, and the only way to change it.

`TrustState` is a value; `advance_root`, `accept_manifest`, `accept_desired`, `accept_config` and `accept_credentials`
take bytes and either return a new state and the document, or raise `TrustError` with the check that refused. Rules:

 1. Size before anything, type and signatures before the payload is parsed.
 2. Root N+1 needs the thresholds of N and of N+1, one step at a time, same fleet.
 3. A manifest, desired state or config needs the deployment threshold; each embedded release needs the
    release threshold, the same fleet and the role it is offered to. One bad release refuses the manifest.
 4. `to` must be the topic the document arrived on, and what it says of itself must agree with that topic.
 5. `issued_at` only rises per topic. The very same bytes again are no news and no attack.
 6. `issued_at` beyond the root's expiry, or more than a day ahead of a clock that is trusted, is refused:
    it would lock out every later document.
 7. A root that drops a deployment key resets the marks of rule 5, which that key may have poisoned. One that
    only adds keys does not: documents by the kept keys could otherwise be replayed.
 8. `floors` hold, per role, the highest floor of all releases seen, and never fall. Sequences are counted per
    role, so floors are.

Sources: The Update Framework's client workflow (rules 1, 2, 5) and DSSE (rule 1).
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar

import msgspec

from topics import codec, envelope
from topics.channels import DESIRED, MANIFEST, MANIFEST_LIMIT, RELEASE_LIMIT
from topics.documents import Config, Credentials, Desired, Manifest, Release, Root, TrustRole
from topics.envelope import open_envelope
from topics.errors import DecodeError, TrustError

ROOT_LIMIT: Final = 16 * 1024
CREDENTIALS_LIMIT: Final = 48 * 1024
"""Two texts of 16 KiB, and what is around them."""
T = TypeVar("T")

AHEAD_LIMIT_MS: Final = 86_400_000
ROOT_WARNING_MS: Final = 60 * 86_400_000
"""A root that expires within 60 days is warned about."""

CHECKS: Final = (
    "too_large",
    "malformed",
    "unknown_type",
    "root_threshold",
    "root_version",
    "root_pin",
    "root_expired",
    "release_threshold",
    "release_role",
    "deployment_threshold",
    "fleet",
    "addressee",
    "replayed",
    "beyond_root",
    "ahead_of_clock",
)
"""Every name that `TrustError.check` can have, in the order in which the checks run for one document."""


class Clock(msgspec.Struct, frozen=True):
    """The device's time in ms and whether it may be believed (a device may boot in 1970)."""

    now: int
    ok: bool


class Mark(msgspec.Struct, frozen=True):
    """The newest document trusted on a topic: its `issued_at` and the hash of its bytes."""

    issued_at: int
    sha256: str


class TrustState(msgspec.Struct, frozen=True):
    """Everything believed so far. `root_bytes` is the envelope of `root`; `marks` is keyed by topic."""

    root: Root
    root_bytes: bytes
    marks: dict[str, Mark] = {}
    floors: dict[str, int] = {}

    @property
    def fleet(self) -> str:
        """The fleet this state belongs to."""
        return self.root.fleet

    def expired(self, now: int) -> bool:
        """Whether the root is past its expiry at `now` (ms): then nothing new may start."""
        return now >= self.root.expires_at

    def floor(self, role: str) -> int:
        """The highest floor of any release of `role` seen so far, 0 if none."""
        return self.floors.get(role, 0)

    def issued_at(self, topic: str) -> int:
        """The highest `issued_at` trusted on `topic`, 0 if none."""
        mark = self.marks.get(topic)
        return mark.issued_at if mark else 0

    def time(self, clock: Clock) -> int:
        """The best lower bound for the time in ms: the clock's, or the newest trusted document's if later."""
        known = max((mark.issued_at for mark in self.marks.values()), default=0)
        return clock.now if clock.ok else max(clock.now, known)


class TrustedManifest(msgspec.Struct, frozen=True):
    """A manifest that passed every check, with its releases opened."""

    manifest: Manifest
    stable: Release | None
    candidate: Release | None
    waypoints: tuple[Release, ...]


class TrustedDesired(msgspec.Struct, frozen=True):
    """A desired state that passed every check, with the release of its version lock opened."""

    desired: Desired
    version_lock: Release | None


def sha256(data: bytes) -> str:
    """Return the lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def keys_of(root: Root, role: TrustRole) -> tuple[dict[str, bytes], int]:
    """Return the keys (by id) and the threshold of a trust role. A key listed under a wrong id is left out."""
    entry = root.roles.get(role)
    if entry is None:
        return {}, 1
    keys = {keyid: root.keys[keyid] for keyid in entry.keyids if keyid in root.keys}
    return {keyid: key for keyid, key in keys.items() if envelope.key_id(key) == keyid}, entry.threshold


def pin_root(data: bytes, expected_sha256: str) -> TrustState:
    """Start from root bytes whose hash was learnt out of band (the enrolment token). Self-signed by its own keys."""
    if sha256(data) != expected_sha256:
        raise TrustError("root_pin", "the root document is not the one that the enrolment token names")
    root = _open_root(data, None)
    return TrustState(root, data)


def open_root(data: bytes) -> Root:
    """Return a self-consistent root, for tools that show or make one. Says nothing about whom to trust."""
    return _open_root(data, None)


def advance_root(state: TrustState, data: bytes) -> TrustState:
    """Return the state under the next root. The current root again is no news; anything else raises."""
    if data == state.root_bytes:
        return state
    root = _open_root(data, state.root)
    if root.fleet != state.root.fleet:
        raise TrustError(
            "fleet", f"root of fleet {root.fleet!r}, this device belongs to {state.root.fleet!r}"
        )
    if root.version != state.root.version + 1:
        raise TrustError(
            "root_version", f"root version {root.version}, only {state.root.version + 1} may follow"
        )
    before, after = set(keys_of(state.root, "deployment")[0]), set(keys_of(root, "deployment")[0])
    return TrustState(root, data, state.marks if before <= after else {}, state.floors)


def accept_manifest(
    state: TrustState, topic: str, data: bytes, clock: Clock
) -> tuple[TrustState, TrustedManifest]:
    """Return the state that has trusted the manifest `data` which arrived on `topic`, and the manifest."""
    payload = _deployment_payload(state, data, "manifest", MANIFEST_LIMIT)
    manifest = _parse(payload, Manifest, MANIFEST_LIMIT)
    own_topic = MANIFEST.topic(state.fleet, role=manifest.role, segment=manifest.segment)
    _check_address(state, topic, manifest.to, own_topic, manifest.fleet)
    marks = _check_age(state, topic, manifest.issued_at, data, clock)
    opened = [
        open_release(state.root, data, role=manifest.role) if data is not None else None
        for data in (manifest.stable, manifest.candidate, *manifest.waypoints)
    ]
    waypoints = tuple(release for release in opened[2:] if release is not None)
    trusted = TrustedManifest(manifest, opened[0], opened[1], waypoints)
    floors = _raised(state, [release for release in opened if release is not None])
    return TrustState(state.root, state.root_bytes, marks, floors), trusted


def accept_desired(
    state: TrustState, topic: str, data: bytes, clock: Clock
) -> tuple[TrustState, TrustedDesired]:
    """Return the state that has trusted the desired state `data` which arrived on `topic`, and the document."""
    payload = _deployment_payload(state, data, "desired", MANIFEST_LIMIT)
    desired = _parse(payload, Desired, MANIFEST_LIMIT)
    _check_address(state, topic, desired.to, DESIRED.topic(state.fleet, id=desired.device_id), desired.fleet)
    marks = _check_age(state, topic, desired.issued_at, data, clock)
    lock = open_release(state.root, desired.version_lock, role=desired.role) if desired.version_lock else None
    floors = _raised(state, [lock] if lock else [])
    return TrustState(state.root, state.root_bytes, marks, floors), TrustedDesired(desired, lock)


def accept_release(state: TrustState, data: bytes, *, role: str) -> tuple[TrustState, Release]:
    """Return the state that has seen a release which came by hand, with no manifest, and the release."""
    release = open_release(state.root, data, role=role)
    return TrustState(state.root, state.root_bytes, state.marks, _raised(state, [release])), release


def accept_config(state: TrustState, device_id: str, data: bytes) -> Config:
    """Return the config bundle of a registration. Its freshness is that of the exchange it answers."""
    payload = _deployment_payload(state, data, "config", MANIFEST_LIMIT)
    config = _parse(payload, Config, MANIFEST_LIMIT)
    own_topic = DESIRED.topic(state.fleet, id=config.device_id)
    _check_address(state, DESIRED.topic(state.fleet, id=device_id), config.to, own_topic, config.fleet)
    return config


def accept_credentials(state: TrustState, device_id: str, data: bytes, nonce: bytes) -> Credentials:
    """Return the certificate and CAs that answer the request with `nonce`, which makes them fresh."""
    payload = _deployment_payload(state, data, "credentials", CREDENTIALS_LIMIT)
    credentials = _parse(payload, Credentials, CREDENTIALS_LIMIT)
    own_topic = DESIRED.topic(state.fleet, id=credentials.device_id)
    _check_address(
        state, DESIRED.topic(state.fleet, id=device_id), credentials.to, own_topic, credentials.fleet
    )
    if credentials.nonce != nonce:
        raise TrustError("replayed", "credentials that answer another request")
    return credentials


def open_release(root: Root, data: bytes, *, role: str | None = None) -> Release:
    """Return the release in `data` once the root's release threshold has signed it.

    With `role`, a release of another role is refused. Raises `TrustError`.
    """
    keys, threshold = keys_of(root, "release")
    opened = open_envelope(data, limit=RELEASE_LIMIT)
    payload = envelope.verify(opened, "release", keys, threshold, signer="release")
    release = _parse(payload, Release, RELEASE_LIMIT)
    if release.fleet != root.fleet:
        raise TrustError("fleet", f"release {release.id} is of fleet {release.fleet!r}, not {root.fleet!r}")
    if role is not None and release.role != role:
        raise TrustError(
            "release_role", f"release {release.id} is of role {release.role!r}, offered to {role!r}"
        )
    return release


def _open_root(data: bytes, previous: Root | None) -> Root:
    opened = open_envelope(data, limit=ROOT_LIMIT)
    if previous is not None:
        keys, threshold = keys_of(previous, "root")
        envelope.verify(opened, "root", keys, threshold, signer="root")
    if opened.payloadType != envelope.payload_type("root"):
        raise TrustError("unknown_type", f"payload type {opened.payloadType!r} is not a root document's")
    # A root names its own keys, so this one document is parsed to be verified against itself.
    root = _parse(opened.payload, Root, ROOT_LIMIT)
    keys, threshold = keys_of(root, "root")
    envelope.verify(opened, "root", keys, threshold, signer="root")
    return root


def _deployment_payload(state: TrustState, data: bytes, kind: str, limit: int) -> bytes:
    keys, threshold = keys_of(state.root, "deployment")
    return envelope.verify(open_envelope(data, limit=limit), kind, keys, threshold, signer="deployment")


def _parse(payload: bytes, kind: type[T], limit: int) -> T:
    try:
        return codec.decode_signed(payload, kind, limit=limit)
    except DecodeError as error:
        raise TrustError("malformed", str(error)) from None


def _check_address(state: TrustState, topic: str, to: str, own_topic: str, fleet: str) -> None:
    if fleet != state.fleet:
        raise TrustError("fleet", f"document of fleet {fleet!r}, this device belongs to {state.fleet!r}")
    if to != topic or own_topic != topic:
        raise TrustError("addressee", f"document addressed to {to!r} arrived on {topic!r}")


def _raised(state: TrustState, seen: list[Release]) -> dict[str, int]:
    floors = dict(state.floors)
    for release in seen:
        floors[release.role] = max(release.floor, floors.get(release.role, 0))
    return floors


def _check_age(state: TrustState, topic: str, issued_at: int, data: bytes, clock: Clock) -> dict[str, Mark]:
    known = state.marks.get(topic)
    mark = Mark(issued_at, sha256(data))
    if known == mark:
        return state.marks
    if known is not None and issued_at <= known.issued_at:
        raise TrustError("replayed", f"issued at {issued_at}, this device already trusts {known.issued_at}")
    if issued_at > state.root.expires_at:
        raise TrustError("beyond_root", "issued after the root of trust expires")
    if clock.ok and issued_at > clock.now + AHEAD_LIMIT_MS:
        raise TrustError("ahead_of_clock", "issued more than a day ahead of this device's clock")
    return {**state.marks, topic: mark}
