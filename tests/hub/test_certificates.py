"""Renewing certificates of devices over the API, and what of them a revocation withdraws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hub.identity import reading
from hub.identity.revocation import serial_of
from hub.registry import revoked
from hub.registry.certificates import DAY_MS, Terms, verdict
from tests.hub.test_registry import answer_of
from tests.hub.world import MSGPACK, World, world
from tests.topics import kit
from topics import codec, devicetoken, trust
from topics.documents import Credentials
from topics.renewal import CertificateRequest

NONCE = b"n" * 16
LIFE = 90 * DAY_MS


@pytest.fixture
def short(tmp_path: Path) -> Iterator[World]:
    """A hub whose certificates last 90 days, and are renewed up to 30 days after their end."""
    with world(tmp_path, terms=Terms(days=90, expired_days=30)) as made:
        made.trust_root()
        yield made


def sha256(pem: str) -> str:
    return reading.facts(x509.load_pem_x509_certificate(pem.encode())).sha256


def ask(hub: World, device: str, certificate: str, **changes: Any) -> Any:
    """Post a renewal in the name of `device`, which holds `certificate` (PEM)."""
    fields: dict[str, Any] = {
        "nonce": NONCE,
        "certificate": sha256(certificate),
        "cas": [hub.authorities.device.sha256],
    }
    body = codec.encode(CertificateRequest(**{**fields, **changes}))
    return hub.client.post(
        f"/devices/{device}/certificate", content=body, headers={**MSGPACK, **bearer(hub, device, body)}
    )


def bearer(hub: World, device: str, body: bytes, key: str = "") -> dict[str, str]:
    now = hub.now // 1000
    claims = devicetoken.Claims(
        device, devicetoken.audience(kit.FLEET), now, now + 60, "1", devicetoken.digest(body)
    )
    return {"Authorization": f"Bearer {devicetoken.make(kit.key(key or device), claims)}"}


def enrolled(hub: World, device: str) -> str:
    return answer_of(hub.register(device, hub.new_token())).certificate_pem


def opened(answer: Any, device: str) -> Credentials:
    """Return the credentials in an answer as the device would accept them."""
    assert answer.status_code == 200, answer.text
    root = kit.signed_root()
    state = trust.pin_root(root, trust.sha256(root))
    return trust.accept_credentials(state, device, answer.content, NONCE)


def serials(hub: World) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in revoked.withdrawn(hub.store, hub.now):
        found.setdefault(one.device_id, set()).add(one.serial)
    return found


def test_a_device_renews_in_time_by_its_key_and_holds_what_the_broker_takes(short: World) -> None:
    first = enrolled(short, "shop-1")
    short.now += 60 * DAY_MS
    given = opened(ask(short, "shop-1", first), "shop-1")
    found = reading.facts(x509.load_pem_x509_certificate(given.certificate_pem.encode()))
    assert (found.name, found.public_key) == ("shop-1", kit.public("shop-1"))
    assert found.end == short.now + LIFE and given.ca_pem == short.authorities.device.pem
    shown = short.client.get("/devices/shop-1").json()
    assert shown["certificate_not_after"] > "2025-11", "people see the new date"
    assert short.events().count("device.certificate_renewed") == 1


def test_a_lost_answer_is_given_again_and_the_right_one_is_nothing_new(short: World) -> None:
    first = enrolled(short, "shop-1")
    short.now += 60 * DAY_MS
    lost = opened(ask(short, "shop-1", first), "shop-1").certificate_pem
    again = opened(ask(short, "shop-1", first), "shop-1").certificate_pem
    assert again == lost
    assert ask(short, "shop-1", again).status_code == 204
    assert short.events().count("device.certificate_renewed") == 1


def test_a_device_that_slept_past_its_certificate_comes_back_by_its_key(short: World) -> None:
    first = enrolled(short, "shop-1")
    short.now += LIFE + 30 * DAY_MS - 1
    assert opened(ask(short, "shop-1", first), "shop-1").certificate_pem != first


def test_past_the_terms_it_enrols_again_which_the_registered_key_may(short: World) -> None:
    first = enrolled(short, "shop-1")
    short.now += LIFE + 30 * DAY_MS
    refused = ask(short, "shop-1", first)
    assert (refused.status_code, refused.json()["rule"]) == (403, "certificate_expired")
    assert enrolled(short, "shop-1") != first


def test_a_revoked_device_gets_nothing_and_loses_all_that_it_has(short: World) -> None:
    held = [enrolled(short, "shop-1")]
    other = enrolled(short, "shop-2")
    for _ in range(2):
        short.now += 50 * DAY_MS
        held.append(opened(ask(short, "shop-1", held[-1]), "shop-1").certificate_pem)
    assert short.client.post("/devices/shop-1/revoke").status_code == 200
    assert ask(short, "shop-1", held[-1]).status_code == 401
    live = {serial_of(pem) for pem in held[1:]}
    assert serials(short) == {"shop-1": live}, "what expired by itself needs no list"
    assert ask(short, "shop-2", other).status_code == 200


@pytest.mark.parametrize("end", ["delete", "another key"])
def test_former_certificates_go_with_an_identity_that_is_deleted_or_made_anew(short: World, end: str) -> None:
    first = enrolled(short, "shop-1")
    short.now += 60 * DAY_MS
    second = opened(ask(short, "shop-1", first), "shop-1").certificate_pem
    if end == "delete":
        short.client.delete("/devices/shop-1")
    else:
        short.client.patch("/devices/shop-1", json={"rekey_allowed": True})
        assert short.register("shop-1", short.new_token(), kit.key("new disk")).status_code == 200
    assert serials(short) == {"shop-1": {serial_of(first), serial_of(second)}}


def test_nobody_renews_for_another_device(short: World) -> None:
    first = enrolled(short, "shop-1")
    enrolled(short, "shop-2")
    body = codec.encode(CertificateRequest(nonce=NONCE, certificate=sha256(first), cas=["a" * 64]))
    path = "/devices/shop-1/certificate"
    own = short.client.post(path, content=body, headers={**MSGPACK, **bearer(short, "shop-2", body)})
    assert (own.status_code, own.json()["rule"]) == (403, "own_device")
    forged = bearer(short, "shop-1", body, key="shop-2")
    assert short.client.post(path, content=body, headers={**MSGPACK, **forged}).status_code == 401
    operator = short.client.post(path, content=body, headers=MSGPACK)
    assert (operator.status_code, operator.json()["rule"]) == (403, "device_only")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param(b"\x91" * 5000, id="nested without end"),
    ],
)
def test_a_request_that_is_none_is_refused_in_one_sentence(short: World, body: bytes) -> None:
    enrolled(short, "shop-1")
    refused = short.client.post(
        "/devices/shop-1/certificate", content=body, headers=bearer(short, "shop-1", body)
    )
    assert refused.status_code == 422


PRESENT = reading.Facts("shop-1", "1", "a" * 64, 0, 100 * DAY_MS, b"")
CAS = frozenset({"c" * 64})
VERDICTS = [
    pytest.param({}, 40, "nothing", id="all is well"),
    pytest.param({}, 50, "make", id="half of its life is over"),
    pytest.param({}, 129, "make", id="expired, within the terms"),
    pytest.param({}, 130, "expired", id="expired for too long"),
    pytest.param({"certificate": "b" * 64}, 40, "give", id="another certificate is held"),
    pytest.param({"cas": ["d" * 64]}, 40, "give", id="another CA is held"),
    pytest.param({"cas": ["c" * 64, "d" * 64]}, 40, "give", id="a CA more than now"),
    pytest.param({"is_newest": False}, 1, "make", id="issued by a CA that is not the newest"),
    pytest.param({"is_newest": False}, 130, "expired", id="that, and expired for too long"),
]


@pytest.mark.parametrize(("changes", "day", "expected"), VERDICTS)
def test_what_follows_from_a_request(changes: dict[str, Any], day: int, expected: str) -> None:
    fields = {"nonce": NONCE, "certificate": PRESENT.sha256, "cas": list(CAS)}
    held = CertificateRequest(**{**fields, **{k: v for k, v in changes.items() if k in fields}})
    found = verdict(
        held,
        PRESENT,
        is_newest=changes.get("is_newest", True),
        cas=CAS,
        terms=Terms(days=100, expired_days=30),
        now=day * DAY_MS,
    )
    assert found == expected
