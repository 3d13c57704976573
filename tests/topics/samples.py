"""One filled-in message of every kind, and the writer of the golden files.

`python -m tests.topics.samples` writes the golden bodies and the published schemas anew. Do so only for a
change that older agents and hubs survive; `topics.schema.compat` says whether they do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec

from tests.topics import kit
from topics import codec, schema
from topics.documents import Command, Credentials, Requires, RootChain, Window
from topics.enrolment import RegisterAnswer, RegisterChallenge, RegisterRequest
from topics.messages import (
    Attempt,
    CommandResult,
    Drift,
    DriftItem,
    Log,
    LogLine,
    Presence,
    Probes,
    Receipt,
    Recovery,
    Running,
    Status,
    UpdateResult,
    Verdict,
)
from topics.renewal import CertificateRequest

GOLDEN: Final = Path(__file__).parent / "golden" / "v1"
SCHEMAS: Final = Path(schema.__file__).parent / "v1"
SUFFIXES: Final = {".json": codec.JSON, ".msgpack": codec.MSGPACK}

AT: Final = kit.NOW // 1000
BOOT: Final = (41, "5e1f0a9c")
SPOOL: Final = "0123456789abcdef"
SEVEN, SIX = kit.release(7).id, kit.release(6).id

SAMPLES: Final[dict[str, msgspec.Struct]] = {
    "presence": Presence(boot=BOOT, session=9, state="sleeping", at=AT, next_wake=AT + 3600),
    "status": Status(
        boot=BOOT,
        at=AT,
        clock_ok=False,
        device_id=kit.DEVICE,
        seq=12,
        role="kiosk",
        segment="canary",
        agent_version="1.2.0",
        health="degraded",
        running=Running(id=SIX, sequence=6, since=AT - 86_400),
        attempt=Attempt(release=SEVEN, n=2, state="probation"),
        failed=[kit.release(5).id],
        floor=4,
        hardware="rpi4",
        zone="Europe/Berlin",
        version_lock=SIX,
        maintenance=True,
        safe_mode=True,
        trusted_root=2,
        trusted_manifest=kit.NOW,
        trusted_desired=kit.NOW - 1,
        verdict=Verdict(reason="untrusted", release=SEVEN, check="release_threshold"),
        probes=Probes(
            cpu_load=0.25,
            memory_used=0.5,
            disk_used=0.75,
            disk_free=2**34,
            temperature=48.5,
            uptime=86_400,
            restarts=1,
        ),
        spool_depth=3,
    ),
    "update-result": UpdateResult(
        boot=BOOT,
        at=AT,
        spool=SPOOL,
        n=7,
        state="rolled_back",
        release=SEVEN,
        attempt=2,
        from_release=SIX,
        to_release=SEVEN,
        segment="canary",
        cause="own",
        reason="validate/20-http exited with 1: connection refused",
        check="release_threshold",
        topic=kit.TOPIC,
        manifest=kit.NOW,
        phases={"downloading": 2100, "probation": 30_000},
    ),
    "drift": Drift(
        boot=BOOT,
        at=AT,
        spool=SPOOL,
        n=8,
        release=SEVEN,
        items=[DriftItem(path="files/app.py", what="hash", expected="a" * 64, found="b" * 64)],
        more=1,
        repaired=True,
    ),
    "recovery": Recovery(
        boot=BOOT,
        at=AT,
        spool=SPOOL,
        n=9,
        state="entered",
        entry="41-1",
        reason="three failed activations in a row",
        release=SEVEN,
        diagnostics={"disk": "1% free"},
    ),
    "command-result": CommandResult(
        boot=BOOT,
        at=AT,
        spool=SPOOL,
        n=10,
        command="c-17",
        ok=True,
        detail="done",
        output={"items": "0"},
    ),
    "log": Log(boot=BOOT, at=AT, lines=[LogLine(at=AT, text="swap done", level="warning", source="hook")]),
    "receipt": Receipt(spool=SPOOL, n=10),
    "root": kit.root(2, releases=("release-1", "release-2"), thresholds={"release": 2}),
    "release": kit.release(
        7,
        floor=4,
        feature_flags={"new_menu": True, "retries": 3, "theme": "dark"},
        migration="migrate.sh",
        requires=Requires(min_agent="1.0", hardware=["rpi4"], from_sequence=5),
        changelog="Shows prices again after a power cut.",
    ),
    "manifest": kit.manifest(
        candidate=kit.signed_release(8),
        basis_points=2500,
        paused=True,
        rollback_from=6,
        spread_seconds=600,
        window=Window(days=[0, 1, 2, 3, 4], start="22:00", end="04:30", zone="Europe/Berlin"),
        waypoints=[kit.signed_release(6)],
        sources=["https://hub.example/artifacts/{role}/{release}/bundle"],
    ),
    "desired": kit.desired(
        branch="stable",
        update_interval=60,
        event_stream_url="https://hub.example/devices/shop-12/events",
        version_lock=kit.signed_release(6),
        maintenance=True,
        safe_mode="cleared:41-1",
        quarantine="safe_mode: three failed activations in a row",
        tags={"shop": "12"},
        commands=[
            Command(
                id="c-17", kind="redeploy", expires_at=kit.NOW + kit.DAY, release=SEVEN, args={"why": "test"}
            )
        ],
        cas=["c" * 64, "d" * 64],
    ),
    "config": kit.config(update_interval=60),
    "credentials": Credentials(
        to=kit.DESIRED_TOPIC,
        fleet=kit.FLEET,
        device_id=kit.DEVICE,
        issued_at=kit.NOW,
        nonce=b"n" * 32,
        certificate_pem="-----BEGIN CERTIFICATE-----",
        ca_pem="-----BEGIN CERTIFICATE-----",
    ),
    "certificate-request": CertificateRequest(nonce=b"n" * 32, certificate="a" * 64, cas=["b" * 64]),
    "trust-root": RootChain(roots=[kit.signed_root(), kit.signed_root(2)]),
    "register-request": RegisterRequest(
        token_id="0" * 32,
        device_id=kit.DEVICE,
        public_key=kit.public(kit.DEVICE),
        nonce=b"n" * 32,
        proof=b"p" * 64,
        mac=b"m" * 32,
        hardware="rpi4",
        serial="10000000a1b2c3d4",
        agent_version="1.2.0",
    ),
    "register-challenge": RegisterChallenge(nonce=b"n" * 32),
    "register-answer": RegisterAnswer(
        roots=[kit.signed_root()],
        ca_pem="-----BEGIN CERTIFICATE-----",
        certificate_pem="-----BEGIN CERTIFICATE-----",
        config=kit.sign(kit.config(), "config", ["hub-1"]),
        desired=kit.signed_desired(),
        detail="registered",
    ),
}


def schema_text(kind: str) -> str:
    """Return the published JSON Schema of `kind` as it stands in its file."""
    return json.dumps(schema.json_schema(kind), indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the golden bodies and the schemas."""
    for folder in (GOLDEN, SCHEMAS):
        folder.mkdir(parents=True, exist_ok=True)
    for kind, message in SAMPLES.items():
        for suffix, content_type in SUFFIXES.items():
            (GOLDEN / f"{kind}{suffix}").write_bytes(codec.encode(message, content_type))
        (SCHEMAS / f"{kind}.json").write_text(schema_text(kind))


if __name__ == "__main__":
    write()
