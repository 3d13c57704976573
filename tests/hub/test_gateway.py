"""A gateway that ended mutual TLS hands on a device's certificate; anybody else may try to."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.errors import SetupError
from hub.identity.ca import open_authorities
from hub.identity.gateway import Gateways, networks
from tests.hub.test_certificates import bearer
from tests.hub.test_registry import answer_of
from tests.hub.world import MSGPACK, World
from tests.hub.world import world as open_world
from tests.topics import kit
from topics import codec
from topics.messages import Status

GATEWAY, ELSEWHERE = "10.1.2.3", "10.1.3.3"
OWN = "/devices/shop-1/desired"


class Behind:
    """A hub that believes one gateway, asked from addresses of one's choice."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.authenticator.gateways = Gateways(
            networks("192.0.2.1 10.1.2.0/24"), world.store, world.authorities, lambda: world.now
        )
        self.certificate = answer_of(world.register("shop-1", world.new_token())).certificate_pem
        self._address = GATEWAY
        self._client = TestClient(self._from)

    async def _from(self, scope: Any, receive: Any, send: Any) -> None:
        scope["client"] = (self._address, 40_000)
        await self.world.app(scope, receive, send)

    def ask(self, header: Any, address: str = GATEWAY, path: str = OWN, **more: Any) -> tuple[int, str]:
        """Return status and rule of a request with `Client-Cert` (one header, or several)."""
        self._address = address
        headers = [("Client-Cert", value) for value in ([header] if isinstance(header, str) else header)]
        headers += list(more.pop("headers", {}).items())
        answer = self._client.request(more.pop("method", "GET"), path, headers=headers, **more)
        return answer.status_code, answer.json().get("rule", "") if answer.status_code >= 400 else ""


def header(pem: str) -> str:
    return f":{base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()}:"


@pytest.fixture
def behind(world: World) -> Iterator[Behind]:
    yield Behind(world)


def test_a_device_that_the_gateway_let_in_reads_what_is_its_own_and_nothing_else(behind: Behind) -> None:
    behind.world.device("shop-2")
    shown = header(behind.certificate)
    assert behind.ask(shown) == (200, "")
    assert behind.ask(shown, "::ffff:10.1.2.9") == (200, "")
    assert behind.ask(shown, path="/devices/shop-2/desired") == (403, "own_device")
    assert behind.ask(shown, path="/devices/shop-1") == (403, "role")
    assert behind.ask(shown, path="/api-keys") == (403, "role")


def test_it_reports_without_a_token_as_often_as_it_likes(behind: Behind) -> None:
    for seq in (1, 2):
        status = Status(boot=(1, "0" * 8), at=1, seq=seq, role="kiosk", segment="canary", agent_version="1")
        body = codec.encode(status)
        asked = behind.ask(
            header(behind.certificate), path="/telemetry/status", method="POST", content=body, headers=MSGPACK
        )
        assert asked == (204, "")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One hub for tests that change nothing."""
    with open_world(tmp_path_factory.mktemp("hub")) as made:
        made.trust_root()
        made.device("shop-2")
        yield Behind(made)


@pytest.mark.parametrize("address", [ELSEWHERE, "127.0.0.1", "::1", "testclient", ""])
def test_from_anywhere_else_the_header_is_nothing(calm: Behind, address: str) -> None:
    shown = header(calm.certificate)
    assert calm.ask(shown, address) == (401, "gateway")
    own = bearer(calm.world, "shop-2", b"")
    assert calm.ask(shown, address, path="/devices/shop-2/desired", headers=own) == (200, "")
    assert calm.ask(shown, address, headers=own) == (403, "own_device")


def test_a_token_counts_for_more_than_the_header(behind: Behind) -> None:
    shown = header(behind.certificate)
    assert behind.ask(shown, headers={"Authorization": "Bearer nonsense"}) == (401, "unknown_token")
    admin = {"Authorization": f"Bearer {behind.world.token}"}
    assert behind.ask(shown, path="/api-keys", headers=admin) == (200, "")


def forged(behind: Behind, folder: Path) -> str:
    """The same name and key, by a CA that calls itself as ours does."""
    other = open_authorities(folder / "forged", kit.FLEET, now=behind.world.now // 1000)
    return header(other.device.issue_device(kit.public("shop-1"), "shop-1", now=behind.world.now // 1000))


def issued(behind: Behind, name: str, *, key: str = "shop-1", ago_days: int = 0, server: bool = False) -> str:
    authority, now = behind.world.authorities.device, behind.world.now // 1000 - ago_days * 86_400
    if server:
        return header(authority.issue_server([name], now=now)[0])
    return header(authority.issue_device(kit.public(key), name, now=now))


SPOOFED: list[Any] = [
    ("of a CA that calls itself as ours does", forged, "client_cert"),
    ("the broker's own, for servers", lambda b, _: issued(b, "shop-1", server=True), "client_cert"),
    ("expired", lambda b, _: issued(b, "shop-1", ago_days=398), "client_cert"),
    ("not valid yet", lambda b, _: issued(b, "shop-1", ago_days=-2), "client_cert"),
    ("of a device that nobody knows", lambda b, _: issued(b, "shop-9"), "device"),
    ("over another key than was registered", lambda b, _: issued(b, "shop-1", key="shop-2"), "device"),
    ("two of them", lambda b, _: [header(b.certificate)] * 2, "client_cert"),
    ("two in one", lambda b, _: f"{header(b.certificate)}, {header(b.certificate)}", "client_cert"),
    ("as PEM", lambda b, _: b.certificate.replace("\n", " "), "client_cert"),
    ("without colons", lambda b, _: header(b.certificate).strip(":"), "client_cert"),
    ("cut short", lambda b, _: header(b.certificate)[:200] + ":", "client_cert"),
    ("empty", lambda _b, _f: "", "client_cert"),
    ("nothing between colons", lambda _b, _f: "::", "client_cert"),
    ("no base64", lambda _b, _f: ":****:", "client_cert"),
    ("no certificate", lambda _b, _f: ":AAAA:", "client_cert"),
    ("endless", lambda _b, _f: ":" + "A" * 9000 + ":", "client_cert"),
]


@pytest.mark.parametrize(
    ("make", "rule"), [pytest.param(make, rule, id=name) for name, make, rule in SPOOFED]
)
def test_certificates_that_even_the_gateway_cannot_vouch_for(
    calm: Behind, tmp_path: Path, make: Any, rule: str
) -> None:
    assert calm.ask(make(calm, tmp_path)) == (401, rule)


def test_revocation_ends_it_at_the_next_request_and_withdrawn_certificates_stay_out(behind: Behind) -> None:
    world, first = behind.world, header(behind.certificate)
    world.client.patch("/devices/shop-1", json={"rekey_allowed": True})
    second = header(answer_of(world.register("shop-1", world.new_token())).certificate_pem)
    assert behind.ask(first) == (401, "device"), "the same key, and withdrawn"
    assert behind.ask(second) == (200, "")
    world.client.post("/devices/shop-1/revoke")
    assert behind.ask(second) == (401, "device")


@pytest.mark.parametrize("text", ["10.1.2.3/24", "gateway.example", "10.1.2", "0.0.0.0/0", "::/0"])
def test_networks_that_cannot_be_meant_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(SetupError, match="--gateway") as refused:
        networks(f"192.0.2.1 {text}")
    assert "\n" not in str(refused.value)
