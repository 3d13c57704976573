"""First contact: make a key, prove it to the hub, and believe only what the token vouches for.

May be run again at any time. The key is on disk before the hub hears of it, so a run that was cut off
continues with the same key and gets the same answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from nacl.signing import SigningKey

from edge import VERSION, web
from edge.config import Paths
from edge.errors import NotReady, Refused, Untrusted
from edge.identity import identity, trusting
from edge.identity.identity import Damaged, Device, Identity
from edge.machine import clock
from edge.machine.clock import SystemClock
from edge.resident import hold
from edge.storage import anchor, disk, memory, records
from edge.storage.memory import Memory
from topics import codec, enrolment, names, trust
from topics.channels import DESIRED
from topics.enrolment import RegisterAnswer, RegisterChallenge, RegisterRequest, Token
from topics.errors import DecodeError, TopicError, TrustError

ANSWER_LIMIT: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the technician asks for. `hub` is the hub's URL."""

    hub: str
    token: str
    device_id: str
    hardware: str = ""
    serial: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Who the device is now, where the hub has put it, and whether it was enrolled in this fleet before."""

    device: Device
    role: str
    segment: str
    again: bool


def enrol(paths: Paths, wanted: Wanted, system: SystemClock) -> Enrolled:
    """Enrol this device. Raises `EdgeError`.

    A device that is enrolled already keeps its key, role and segment: the hub answers as before, whatever role and
    segment the token is for. One whose identity is damaged keeps its key if that is whole; with a new one the hub
    lets it in only if an operator does.
    """
    try:
        token = enrolment.parse_token(wanted.token)
        names.device_id(wanted.device_id)
    except DecodeError as error:
        raise Refused(error.detail) from None
    except TopicError as error:
        raise Refused(str(error)) from None
    paths.make()
    try:
        known = _known(paths)
        key, pending = _key(paths, known, wanted.device_id)
        answer = _register(wanted, token, key)
        with _alone(paths) as alone:
            device, learnt = _believe(paths, wanted, token, key, answer, system)
            # The link to the identity is last: whoever finds it finds everything else.
            if alone:
                memory.save(paths, learnt)
                anchor.keep(paths, learnt)
            elif known is None or known.device.fleet != device.fleet:
                raise NotReady(
                    f"another flaghoist-edge works in {paths.root}; stop it first, and enrol again"
                )
            identity.write(
                paths,
                device,
                seed=bytes(key),
                certificate_pem=answer.certificate_pem,
                ca_pem=answer.ca_pem,
                unique=identity.unique(),
            )
            pending.unlink(missing_ok=True)
    except OSError as error:
        raise NotReady(
            f"cannot write in {paths.root} ({error.strerror}); make room or name another --state"
        ) from None
    return Enrolled(
        device, learnt.role, learnt.segment, again=known is not None and known.device.fleet == device.fleet
    )


def _known(paths: Paths) -> Identity | None:
    try:
        return Identity(paths)
    except Damaged:
        return None


@contextlib.contextmanager
def _alone(paths: Paths) -> Iterator[bool]:
    """Hold the state directory meanwhile; False beside a running agent.

    Its memory is its own to write: two writers of one file lose what the other wrote. It hears from its broker all that
    enrolling again in the same fleet would write there.
    """
    try:
        lock = hold(paths.root / "lock")
    except NotReady:
        yield False
        return
    try:
        yield True
    finally:
        os.close(lock)


def _key(paths: Paths, known: Identity | None, device_id: str) -> tuple[SigningKey, Path]:
    pending = paths.root / "enrolling.key"
    if known is not None:
        if known.device.device_id != device_id:
            raise Refused(
                f"this device is enrolled as {known.device.device_id}; use that id, or remove {paths.root} first"
            )
        return known.key, pending
    with contextlib.suppress(Damaged):
        return identity.read_key(paths), pending
    if pending.exists() and len(seed := pending.read_bytes()) == 32:
        return SigningKey(seed), pending
    seed = os.urandom(32)
    disk.replace(pending, seed)
    return SigningKey(seed), pending


def _register(wanted: Wanted, token: Token, key: SigningKey) -> RegisterAnswer:
    request = RegisterRequest(
        token_id=token.id,
        device_id=wanted.device_id,
        public_key=bytes(key.verify_key),
        hardware=wanted.hardware,
        serial=wanted.serial,
        agent_version=VERSION,
    )
    try:
        status, body = _post(wanted.hub, codec.encode(request))
        if status == 202:
            nonce = codec.decode(body, RegisterChallenge, limit=1024).nonce
            proof, mac = enrolment.prove(token, key, wanted.device_id, nonce)
            proven = msgspec.structs.replace(request, nonce=nonce, proof=proof, mac=mac)
            status, body = _post(wanted.hub, codec.encode(proven))
        if status == 200:
            return codec.decode(body, RegisterAnswer, limit=ANSWER_LIMIT)
    except DecodeError as error:
        raise Untrusted(f"{wanted.hub} does not answer as a hub does ({error}); check the URL") from None
    raise Refused(f"the hub refused to enrol {wanted.device_id}: {_detail(status, body)}")


def _believe(
    paths: Paths, wanted: Wanted, token: Token, key: SigningKey, answer: RegisterAnswer, system: SystemClock
) -> tuple[Device, Memory]:
    """Check the answer against the token; return the device and its memory."""
    try:
        ca = identity.pem_der(answer.ca_pem)
        certificate = identity.pem_der(answer.certificate_pem)
    except ValueError:
        raise Untrusted("the hub's answer holds no certificate; check the URL") from None
    if hashlib.sha256(ca).hexdigest() != token.ca_sha256:
        raise Untrusted("the CA is not the one that the token names; get a token from the hub you mean")
    if not identity.holds_key(certificate, bytes(key.verify_key)):
        raise Untrusted("the certificate is not over this device's key; get a new token and try again")
    try:
        pinned = trusting.walk(trust.pin_root(answer.roots[0], token.root_sha256), answer.roots[1:])
        known = memory.load(paths) or anchor.recall(paths, pinned.fleet)
        # The same fleet again: what is trusted by now, and the marks against replay, stay.
        if known is not None and known.trust.fleet == pinned.fleet:
            pinned = trusting.walk(known.trust, answer.roots)
        else:
            known = None
        config = trust.accept_config(pinned, wanted.device_id, answer.config)
        topic = DESIRED.topic(pinned.fleet, id=wanted.device_id)
        now = clock.judge(pinned, system.wall())
        pinned, desired = trust.accept_desired(pinned, topic, answer.desired, now)
    except TrustError as error:
        raise Untrusted(f"the hub's answer is refused by check {error.check}: {error.detail}") from None
    device = Device(
        fleet=pinned.fleet,
        device_id=wanted.device_id,
        mqtt_host=config.mqtt_host,
        mqtt_port=config.mqtt_port,
        http_url=config.http_url or wanted.hub,
        hardware=wanted.hardware,
        root=answer.roots[0],
    )
    role, segment = desired.desired.role, desired.desired.segment
    moved = known is not None and (known.role, known.segment) != (role, segment)
    base = known or Memory(id=records.fresh_id(os.urandom(8)), trust=pinned, role=role, segment=segment)
    learnt = records.changed(
        base,
        trust=pinned,
        role=role,
        segment=segment,
        desired=answer.desired,
        update_interval=desired.desired.update_interval,
        manifest=b"" if moved else base.manifest,
    )
    return device, learnt


def _post(hub: str, body: bytes) -> tuple[int, bytes]:
    # Nothing secret travels and nothing is believed for coming over TLS: the token's hashes decide.
    return web.request(
        "POST",
        f"{hub.rstrip('/')}/devices/register",
        body=body,
        headers={"Content-Type": codec.MSGPACK, "Accept": codec.MSGPACK},
        tls=web.unchecked(),
        limit=ANSWER_LIMIT,
    )


def _detail(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        detail = str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError):
        detail = "no reason given"
    return f"{detail} ({status})"
