"""Use cases of the registry: each is one transaction and one event."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from hub import trustroots
from hub.caller import Caller
from hub.desired import check_lock, hoist_desired
from hub.errors import NotFound, PreconditionFailed, Unauthorised
from hub.events import Event, append
from hub.identity.ca import LEAF_DAYS, Authorities
from hub.policies import locks as policy_locks
from hub.registry import nonce, revoked, rules
from hub.signer import Signer
from hub.store import Row, Store, Tx
from topics.channels import DESIRED
from topics.documents import Config
from topics.enrolment import RegisterAnswer, RegisterChallenge, RegisterRequest, Token, is_proven
from topics.trust import sha256

DEFAULT_INTERVAL_S = 300


class Endpoints(msgspec.Struct, frozen=True):
    """Where devices reach the hub; `update_interval` (s) is what new devices start with."""

    mqtt_host: str
    mqtt_port: int
    http_url: str
    update_interval: int = DEFAULT_INTERVAL_S


class Registry:
    """Devices of one fleet. `ensure_role` hoists the empty manifests of a role that is new."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        authorities: Authorities,
        endpoints: Endpoints,
        nonce_secret: bytes,
        ensure_role: Callable[[Tx, str, int], None],
        clock: Callable[[], int],
        certificate_days: int = LEAF_DAYS,
    ) -> None:
        self._store = store
        self._signer = signer
        self._authorities = authorities
        self._endpoints = endpoints
        self._nonce_secret = nonce_secret
        self._ensure_role = ensure_role
        self._clock = clock
        self._certificate_days = certificate_days

    def create_token(self, request: rules.TokenRequest, caller: Caller) -> dict[str, Any]:
        """Make an enrolment token. Its secret is shown this once; the hub keeps a hash."""
        now = self._clock()
        with self._store.write() as tx:
            roots = trustroots.chain(tx)
            if not roots:
                trustroots.latest(tx)
            token = Token(secrets.token_bytes(32), sha256(roots[0]), self._authorities.serving.sha256)
            expires_at = now + request.expires_in * 1000
            tx.execute(
                "INSERT INTO tokens (id, secret_hash, role, segment, uses, uses_left, ca_sha256, expires_at, "
                "created_at, created_by) VALUES (:id, :secret_hash, :role, :segment, :uses, :uses, :ca, :expires_at, "
                ":now, :by)",
                {
                    "id": token.id,
                    "secret_hash": token.secret_hash,
                    "role": request.role,
                    "segment": request.segment,
                    "uses": request.uses,
                    "ca": token.ca_sha256,
                    "expires_at": expires_at,
                    "now": now,
                    "by": caller.name,
                },
            )
            self._ensure_role(tx, request.role, now)
            body = {"token": token.id, "segment": request.segment, "uses": request.uses}
            append(tx, Event(kind="token.created", role=request.role, body=body), caller, now)
        return {"id": token.id, "token": token.text(), "expires_at": expires_at}

    def challenge(self, request: RegisterRequest) -> RegisterChallenge:
        """Answer the first half of a registration. Says nothing about whether token or id exist."""
        return RegisterChallenge(nonce.issue(self._nonce_secret, request.device_id, self._clock()))

    def register(self, request: RegisterRequest) -> RegisterAnswer:
        """Register a device that has proved its key and token. The same id and key again get the same answer.

        Raises `Unauthorised` (proof, nonce or token) and `Conflict` (id taken by another key).
        """
        now = self._clock()
        caller = Caller(f"device:{request.device_id}", "device")
        with self._store.write() as tx:
            token = tx.one("SELECT * FROM tokens WHERE id = :id", {"id": request.token_id})
            # One answer for an unknown token and a wrong proof, so that tokens cannot be searched for.
            if token is None or not is_proven(token["secret_hash"], request):
                raise Unauthorised("The enrolment token or the proof is not valid.", rule="proof")
            if not nonce.is_valid(self._nonce_secret, request.device_id, request.nonce, now):
                raise Unauthorised(
                    "The registration took longer than a minute; start it again.", rule="nonce"
                )
            row = tx.one("SELECT * FROM devices WHERE device_id = :id", {"id": request.device_id})
            known = _known(row)
            rules.check_identity(request.device_id, known, request.public_key)
            again = (
                known is not None and known.public_key == request.public_key and known.token_id == token["id"]
            )
            rules.check_token(
                uses_left=token["uses_left"],
                expires_at=token["expires_at"],
                now=now,
                spent_by_this_device=again,
                revoked=token["revoked_at"] is not None,
            )
            if row is not None and not again and row["role"] != token["role"]:
                raise Unauthorised(
                    f"The enrolment token is for {token['role']}, {request.device_id} is not; ask for one of its role.",
                    rule="token_role",
                )
            if row is None or not again:
                self._write_device(tx, request, token, row, caller, now)
            return self._answer(tx, request.device_id, token)

    def _write_device(
        self, tx: Tx, request: RegisterRequest, token: Row, known: Row | None, caller: Caller, now: int
    ) -> None:
        days = self._certificate_days
        certificate = self._authorities.device.issue_device(
            request.public_key, request.device_id, now=now // 1000, days=days
        )
        fields = {
            "id": request.device_id,
            "public_key": request.public_key,
            "hardware": request.hardware,
            "serial": request.serial,
            "token": token["id"],
            "ca": token["ca_sha256"],
            "certificate": certificate,
            "not_after": now + days * 86_400_000,
            "now": now,
        }
        if known is None:
            tx.execute(
                "INSERT INTO devices (device_id, public_key, role, segment, hardware, serial, update_interval, "
                "token_id, ca_confirmed, certificate_pem, certificate_not_after, created_at, updated_at) VALUES "
                "(:id, :public_key, :role, :segment, :hardware, :serial, :interval, :token, :ca, :certificate, "
                ":not_after, :now, :now)",
                {
                    **fields,
                    "role": token["role"],
                    "segment": token["segment"],
                    "interval": self._endpoints.update_interval,
                },
            )
        else:
            tx.execute(
                "UPDATE devices SET public_key = :public_key, hardware = :hardware, serial = :serial, "
                "ca_confirmed = :ca, token_id = :token, certificate_pem = :certificate, "
                "certificate_not_after = :not_after, rekey_allowed = 0, revision = devices.revision + 1, "
                "updated_at = :now WHERE device_id = :id",
                fields,
            )
            revoked.withdraw(tx, known, now)
            _forget_boots(tx, known["key"])
        tx.execute("UPDATE tokens SET uses_left = tokens.uses_left - 1 WHERE id = :id", {"id": token["id"]})
        hoist_desired(tx, self._signer, request.device_id, now)
        kind = "device.registered" if known is None else "device.registered_again"
        body = {"segment": token["segment"], "token": token["id"]}
        append(tx, Event(kind=kind, device_id=request.device_id, role=token["role"], body=body), caller, now)

    def _answer(self, tx: Tx, device_id: str, token: Row) -> RegisterAnswer:
        row = _get(tx, device_id)
        topic = DESIRED.topic(self._signer.fleet, id=device_id)
        retained = tx.one("SELECT payload, issued_at FROM retained WHERE topic = :topic", {"topic": topic})
        if retained is None:
            raise LookupError(topic)
        config = Config(
            to=topic,
            fleet=self._signer.fleet,
            device_id=device_id,
            issued_at=retained["issued_at"],
            role=row["role"],
            segment=row["segment"],
            mqtt_host=self._endpoints.mqtt_host,
            mqtt_port=self._endpoints.mqtt_port,
            http_url=self._endpoints.http_url,
            update_interval=row["update_interval"],
        )
        return RegisterAnswer(
            roots=trustroots.chain(tx),
            ca_pem=self._named_ca(token),
            certificate_pem=row["certificate_pem"],
            config=self._signer.sign(config, "config"),
            desired=retained["payload"],
        )

    def _named_ca(self, token: Row) -> str:
        """Return the CA that a token names, which alone its holder believes; tokens of before name the first."""
        for authority in self._authorities.trusted:
            if token["ca_sha256"] in ("", authority.sha256):
                return authority.pem
        raise Unauthorised(
            "The enrolment token is from before the hub changed its CA; ask for a new one.", rule="token_ca"
        )

    def patch(self, device_id: str, patch: rules.DevicePatch, if_match: str, caller: Caller) -> None:
        """Change a device and hoist its desired state. `if_match` is the ETag it was read with, or "" or `*`."""
        changes = {
            field: value
            for field in patch.__struct_fields__
            if (value := getattr(patch, field)) is not rules.UNSET
        }
        now = self._clock()
        with self._store.write() as tx:
            row = _get(tx, device_id)
            if if_match not in ("", "*", etag(row)):
                raise PreconditionFailed(
                    f"{device_id} was changed by somebody else; read it again.", rule="if_match"
                )
            if {"role", "version_lock"} & changes.keys():
                lock = changes.get("version_lock", row["version_lock"])
                if lock is not None:
                    check_lock(tx, lock, changes.get("role", row["role"]))
                if lock is not None and lock != row["version_lock"]:
                    policy_locks.enforce(tx, row, lock, changes.get("segment", row["segment"]), caller, now)
            before = {field: row[field] for field in changes}
            if not changes:
                return
            stored = {
                field: msgspec.json.encode(value).decode() if field == "tags" else value
                for field, value in changes.items()
            }
            # Column names are the fields of DevicePatch, never the caller's text.
            assignments = ", ".join(f"{field} = :{field}" for field in stored)
            tx.execute(
                f"UPDATE devices SET {assignments}, revision = devices.revision + 1, updated_at = :now "  # noqa: S608
                "WHERE device_id = :device_id",
                {**stored, "now": now, "device_id": device_id},
            )
            if "role" in changes:
                self._ensure_role(tx, changes["role"], now)
            hoist_desired(tx, self._signer, device_id, now)
            body = {"before": before, "after": changes}
            append(
                tx,
                Event(kind="device.changed", device_id=device_id, role=row["role"], body=body),
                caller,
                now,
            )

    def sign_again(self) -> int:
        """Sign every device's desired state anew, as after a change of the deployment key; return how many."""
        now = self._clock()
        with self._store.write() as tx:
            rows = tx.all("SELECT device_id FROM devices")
            for row in rows:
                hoist_desired(tx, self._signer, row["device_id"], now)
            return len(rows)

    def revoke(self, device_id: str, caller: Caller, reason: str = "") -> None:
        """Withdraw a device's identity: its HTTP tokens, its sessions and its place in rollouts end at once."""
        now = self._clock()
        with self._store.write() as tx:
            row = _get(tx, device_id)
            if row["revoked_at"] is not None:
                return
            tx.execute(
                "UPDATE devices SET revoked_at = :now, updated_at = :now, revision = devices.revision + 1 "
                "WHERE device_id = :id",
                {"now": now, "id": device_id},
            )
            revoked.withdraw(tx, row, now)
            event = Event(kind="device.revoked", device_id=device_id, role=row["role"], reason=reason)
            append(tx, event, caller, now)

    def delete(self, device_id: str, caller: Caller) -> None:
        """Forget a device. What it reported of rollouts stays, so that no count changes in hindsight."""
        now = self._clock()
        with self._store.write() as tx:
            row = _get(tx, device_id)
            revoked.withdraw(tx, row, now)
            params = {"key": row["key"]}
            for table in (
                "device_latest",
                "presence",
                "spools",
                "commands",
                "drifting",
                "restarting",
                "odd_starts",
            ):
                tx.execute(f"DELETE FROM {table} WHERE device_key = :key", params)  # noqa: S608  (constant names)
            tx.execute("DELETE FROM devices WHERE key = :key", params)
            topic = DESIRED.topic(self._signer.fleet, id=device_id)
            # An empty retained payload is how MQTT clears a topic; the row stays so that the hoister says so.
            tx.execute(
                "UPDATE retained SET payload = :empty, expires_at = 0, "
                "revision = (SELECT MAX(revision) + 1 FROM retained) WHERE topic = :topic",
                {"empty": b"", "topic": topic},
            )
            append(tx, Event(kind="device.deleted", device_id=device_id, role=row["role"]), caller, now)


def etag(row: Row) -> str:
    """Return the strong ETag of a device's editable state."""
    return f'"{row["key"]}-{row["revision"]}"'


def _get(tx: Tx, device_id: str) -> Row:
    row = tx.one("SELECT * FROM devices WHERE device_id = :id", {"id": device_id})
    if row is None:
        raise NotFound(f"There is no device {device_id}.")
    return row


def _forget_boots(tx: Tx, key: int) -> None:
    """Let a device that was made anew start its counters at one: nothing it says is then older than before.

    What it once reported of a release stays counted until it tries that release again.
    """
    for table in ("device_latest", "presence", "odd_starts"):
        tx.execute(f"DELETE FROM {table} WHERE device_key = :key", {"key": key})  # noqa: S608  (constant names)
    tx.execute("UPDATE attempts SET attempt = 0 WHERE device_key = :key", {"key": key})


def _known(row: Row | None) -> rules.KnownDevice | None:
    if row is None:
        return None
    return rules.KnownDevice(
        public_key=row["public_key"],
        token_id=row["token_id"],
        rekey_allowed=bool(row["rekey_allowed"]),
        revoked=row["revoked_at"] is not None,
    )
