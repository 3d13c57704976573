"""A hub in one process, without broker or sockets: the real application, store and services over a test client.

Reports come in through ingest's own `reduce` and `commit`, as they would from the broker.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from litestar.testing import TestClient
from nacl.signing import SigningKey

from hub import auth, config, events
from hub.access.keys import ApiKeys
from hub.access.logins import Logins
from hub.access.refusals import Refusals
from hub.artifacts.files import BundleFiles
from hub.artifacts.service import Artifacts, Serving
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.caller import Caller
from hub.deployment.catalogue import Catalogue
from hub.deployment.judge import judge
from hub.deployment.manifests import ensure_role
from hub.deployment.routes import Observed
from hub.deployment.service import Deployment
from hub.deployment.views import facts_of, status_of
from hub.governance.service import Governance
from hub.http import Services, application
from hub.identity.ca import open_authorities
from hub.metrics import Metrics
from hub.recovery.rules import Limits
from hub.recovery.service import Recovery
from hub.recovery.watch import Watch
from hub.registry.authority import AuthorityRenewal
from hub.registry.certificates import Certificates, Terms
from hub.registry.service import Endpoints, Registry
from hub.shared import Health
from hub.signer import Signer
from hub.store import SqliteStore, Tx
from hub.streams import Streams
from hub.telemetry.intake import Intake
from hub.throttle import Throttle
from hub.times import Clock, zones
from tests.hub.access.issuer import Issuer, gate_of
from tests.hub.lent import borrow
from tests.topics import kit
from topics import bundle, codec, enrolment, trust
from topics.channels import BY_NAME, DESIRED, MANIFEST
from topics.documents import Bundle, Desired, Release, Requires
from topics.eligibility import Facts
from topics.envelope import key_id
from topics.messages import Presence, Running, Status, UpdateResult

ADMIN = Caller("admin", "admin")
SPOOL = "0a1b2c3d"


class World:
    """The hub, a clock that stands until it is moved, and signed releases on demand."""

    def __init__(
        self,
        folder: Path,
        *,
        chaos: bool = False,
        public_url: str = "https://hub.example/fleet",
        throttle: Throttle | None = None,
        issuer: Issuer | None = None,
        own_application: bool = False,
        terms: Terms | None = None,
    ) -> None:
        terms = terms or Terms()
        self.now = kit.NOW
        self.observed_since = 0
        self.store = SqliteStore(folder / "hub.db")
        self.signer = Signer(kit.FLEET, kit.key("hub-1"))
        self.authorities = open_authorities(folder / "ca", kit.FLEET, now=self.now // 1000)
        sources = ["http://127.0.0.1:1/artifacts/{role}/{release}/bundle"]
        self.deployment = Deployment(
            self.store, self.signer, sources, lambda: self.now, lambda: self.observed_since, zones
        )
        self.watch = Watch(self.store, self.signer, lambda: self.now, Limits())
        self.registry = Registry(
            self.store,
            self.signer,
            self.authorities,
            Endpoints("127.0.0.1", 8883, "http://127.0.0.1:1"),
            b"n" * 32,
            lambda tx, role, now: ensure_role(tx, self.signer, role, sources, now),
            lambda: self.now,
            terms.days,
        )
        self.broker_told: list[str] = []
        self.authority_renewal = AuthorityRenewal(
            self.store,
            self.authorities,
            self.registry,
            lambda: self.broker_told.append("reload"),
            lambda: self.broker_told.append("restart"),
            lambda: self.now,
        )
        self.metrics = Metrics()
        self.arrived: list[Uplink] = []
        self.intake = Intake(self.store, kit.FLEET, lambda: self.now, self.arrived.extend)
        self.governance = Governance(self.store, kit.FLEET, zones, lambda: self.now)
        self.files = BundleFiles(folder / "artifacts")
        self.artifacts = Artifacts(
            self.store,
            self.files,
            lambda: self.now,
            Serving(fleet=kit.FLEET, public_url=public_url, secret=b"u" * 32),
        )
        self.gate = gate_of(self.store, issuer, public_url, lambda: self.now) if issuer else None
        services = Services(
            store=self.store,
            signer=self.signer,
            api_keys=ApiKeys(self.store, lambda: self.now),
            logins=Logins(self.gate, Refusals(self.store, lambda: self.now), b"l" * 32, lambda: self.now),
            registry=self.registry,
            authority_renewal=self.authority_renewal,
            certificates=Certificates(self.store, self.signer, self.authorities, lambda: self.now, terms),
            deployment=self.deployment,
            catalogue=Catalogue(self.store, self.signer, sources, lambda: self.now),
            artifacts=self.artifacts,
            governance=self.governance,
            recovery=Recovery(self.store, self.signer, lambda: self.now, chaos=chaos),
            observed=Observed(lambda: self.observed_since, kit.FLEET, zones),
            health=Health({}),
            clock=Clock(lambda: self.now),
            streams=Streams(self.store),
            metrics=self.metrics,
            intake=self.intake,
        )
        config.meta(self.store, "signed_by", key_id(self.signer.public_key))
        auth.ensure_admin(self.store, folder / "admin.token", self.now)
        self.token = (folder / "admin.token").read_text().strip()
        self.authenticator = auth.Authenticator(self.store, kit.FLEET, lambda: self.now, self.gate)
        parts = (services, self.authenticator, throttle or Throttle(0))
        self._lent = None if own_application else borrow(*parts)
        self.app = self._lent.app if self._lent else application(*parts, version="0.0.0")
        self.client = TestClient(self.app)
        self.client.headers["Authorization"] = f"Bearer {self.token}"
        self._counter = itertools.count(1)

    def trust_root(self) -> None:
        """Give the hub its first root, which names the kit's keys."""
        answer = self.client.post("/trust/roots", content=kit.signed_root())
        assert answer.status_code == 201, answer.text

    # Releases

    def signed_release(
        self,
        sequence: int,
        *,
        packed: bytes | None = None,
        signers: tuple[str, ...] = ("release-1",),
        **changes: Any,
    ) -> bytes:
        """Return a signed release of the kiosk role for the bundle `packed` (a small good one if None)."""
        data = packed if packed is not None else make_bundle()
        release = Release(
            fleet=kit.FLEET,
            id=f"kiosk-{sequence}-{'a' * 12}",
            role="kiosk",
            commit="a" * 40,
            sequence=sequence,
            version=f"{sequence}.0",
            bundle=Bundle(sha256=_sha256(data), size=len(data), tar_sha256=_sha256(gzip.decompress(data))),
            checksums=_sha256(bundle.checksums_bytes(_entries(data))),
            compose_sha256=_sha256(b""),
            hook="exec",
            created_at=kit.NOW,
            requires=Requires(),
        )
        return kit.sign(msgspec.structs.replace(release, **changes), "release", signers)

    def publish(
        self,
        sequence: int,
        *,
        policy: dict[str, Any] | None = None,
        packed: bytes | None = None,
        **changes: Any,
    ) -> str:
        """Declare and upload a release; returns its id."""
        signed = self.signed_release(sequence, packed=packed, **changes)
        body = {"envelope": base64.b64encode(signed).decode()}
        answer = self.client.post("/releases", json={**body, "policy": policy or EAGER})
        assert answer.status_code == 201, answer.text
        release: str = answer.json()["id"]
        uploaded = self.client.post(f"/artifacts/kiosk/{release}", content=packed or make_bundle())
        assert uploaded.status_code == 201, uploaded.text
        return release

    def promote(self, release: str, segment: str, percentage: float = 100) -> Any:
        """POST a promotion; returns the answer."""
        body = {"targetSegment": segment, "rolloutPercentage": percentage}
        return self.client.post(f"/releases/{release}/promote", json=body)

    def state(self, release: str) -> str:
        """The release's state."""
        found: str = self.client.get(f"/releases/{release}").json()["state"]
        return found

    def judge(self) -> list[str]:
        """What the leader does after a commit."""
        self.watch.look()
        return judge(self.store, self.deployment, now=self.now, observed_since=self.observed_since)

    def manifest(self, segment: str) -> trust.TrustedManifest:
        """The segment's manifest as a device that trusts the root would accept it."""
        topic = MANIFEST.topic(kit.FLEET, role="kiosk", segment=segment)
        data = self.client.get(f"/manifests/kiosk/{segment}").content
        root = kit.signed_root()
        return trust.accept_manifest(trust.pin_root(root, trust.sha256(root)), topic, data, kit.NO_CLOCK)[1]

    def desired(self, device_id: str) -> Desired:
        """A device's desired state as the device would accept it."""
        topic = DESIRED.topic(kit.FLEET, id=device_id)
        data = self.client.get(f"/devices/{device_id}/desired").content
        root = kit.signed_root()
        state = trust.pin_root(root, trust.sha256(root))
        return trust.accept_desired(state, topic, data, kit.NO_CLOCK)[1].desired

    def facts(self, device_id: str) -> Facts:
        """What the device's last heartbeat said of it."""
        with self.store.read() as tx:
            row = tx.one(
                "SELECT devices.role, devices.segment, device_latest.body FROM devices "
                "JOIN device_latest ON device_latest.device_key = devices.key WHERE device_id = :id",
                {"id": device_id},
            )
        assert row is not None
        status = status_of(row["body"])
        assert status is not None
        return facts_of(device_id, row["role"], row["segment"], status)

    # Devices

    def new_token(self, segment: str = "canary", **changes: Any) -> enrolment.Token:
        """Make an enrolment token through the API."""
        answer = self.client.post(
            "/devices/enrolment-tokens", json={"role": "kiosk", "segment": segment, **changes}
        )
        assert answer.status_code == 201, answer.text
        return enrolment.parse_token(answer.json()["token"])

    def register(self, device_id: str, token: enrolment.Token, key: SigningKey | None = None) -> Any:
        """Register in the two steps of the protocol; returns the second answer."""
        return self.prove(token, key or kit.key(device_id), device_id, self.challenge(token, device_id))

    def challenge(self, token: enrolment.Token, device_id: str) -> bytes:
        """The nonce of the first step."""
        request = enrolment.RegisterRequest(
            token_id=token.id, device_id=device_id, public_key=kit.public(device_id)
        )
        answer = self.client.post("/devices/register", content=codec.encode(request), headers=MSGPACK)
        assert answer.status_code == 202, answer.text
        nonce: bytes = msgspec.msgpack.decode(answer.content, type=enrolment.RegisterChallenge).nonce
        return nonce

    def prove(self, token: enrolment.Token, key: SigningKey, device_id: str, nonce: bytes) -> Any:
        """The second step."""
        proof, mac = enrolment.prove(token, key, device_id, nonce)
        request = enrolment.RegisterRequest(
            token_id=token.id,
            device_id=device_id,
            public_key=bytes(key.verify_key),
            nonce=nonce,
            proof=proof,
            mac=mac,
            hardware="pi4",
        )
        return self.client.post("/devices/register", content=codec.encode(request), headers=MSGPACK)

    def device(self, device_id: str, segment: str = "canary") -> str:
        """Register a device and return its id."""
        answer = self.register(device_id, self.new_token(segment))
        assert answer.status_code == 200, answer.text
        return device_id

    def uplink(self, device_id: str, message: msgspec.Struct) -> None:
        """Take in a message as ingest would."""
        kind = message.kind  # type: ignore[attr-defined]
        topic = BY_NAME[kind].topic(kit.FLEET, id=device_id)
        with self.store.write() as tx:
            commit.apply(tx, reduce([Uplink(topic, codec.encode(message))], None, self.now // 1000), self.now)

    def result(self, device_id: str, release: str, state: Any, *, attempt: int = 1, **changes: Any) -> None:
        """Take in an update result."""
        fields: dict[str, Any] = {
            "boot": (1, "0" * 8),
            "at": self.now // 1000,
            "spool": SPOOL,
            "n": next(self._counter),
            "state": state,
            "release": release,
            "attempt": attempt,
        }
        self.uplink(device_id, UpdateResult(**{**fields, **changes}))

    def heartbeat(self, device_id: str, *, running: tuple[str, int] | None = None, **changes: Any) -> None:
        """Take in a heartbeat and presence of a device that is online."""
        status = Status(
            boot=(1, "0" * 8),
            at=self.now // 1000,
            seq=next(self._counter),
            role="kiosk",
            segment="canary",
            agent_version="1.0",
            running=Running(id=running[0], sequence=running[1]) if running else None,
        )
        self.uplink(device_id, msgspec.structs.replace(status, **changes))
        self.uplink(device_id, Presence(boot=(1, "0" * 8), session=1, state="online"))

    @contextmanager
    def tampering(self) -> Iterator[Tx]:
        """Write as somebody does who has the database file, and keeps nothing from being changed."""
        with self.store.write() as tx:
            guards = tx.all(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
            )
            for guard in guards:
                tx.execute(f"DROP TRIGGER {guard['name']}")
            yield tx
            for guard in guards:
                tx.execute(guard["sql"])

    def close(self) -> None:
        """Close the store, and have the application go to the next hub."""
        if self._lent:
            self._lent.give_back()
        if self.gate is not None:
            self.gate.close()
        self.store.close()

    def events(self) -> list[str]:
        """Kinds of every event, in order, after sealing."""
        with self.store.write() as tx:
            events.seal(tx)
            return [row["kind"] for row in events.after(tx, 0, limit=1000)]


MSGPACK = {"Content-Type": codec.MSGPACK}
EAGER = {
    "segments": {name: {"least_wait_seconds": 0} for name in ("canary", "early", "general")},
    "failure": {"max_ratio": 0.2, "min_reports": 1, "update_timeout_seconds": 120},
}
"""A policy that waits for nothing and halts early."""


@contextmanager
def world(folder: Path, **options: Any) -> Iterator[World]:
    """Open a world, and close what it opened."""
    made = World(folder, **options)
    with made.client:
        yield made
    made.close()


def make_bundle(**files: bytes) -> bytes:
    """Return a tar.gz bundle of the kiosk role with `files` beside its bundle.json."""
    info = b'{"format":1,"role":"kiosk","version":"1.0","hook":"exec","exec":{"command":["true"]}}'
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {bundle.BUNDLE_JSON: info, **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def _entries(packed: bytes) -> list[bundle.FileEntry]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        found = []
        for member in archive:
            file = archive.extractfile(member)
            content = file.read() if file else b""
            found.append(bundle.FileEntry(member.name, _sha256(content), len(content), member.mode))
        return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
