"""An event stream ends with the right to read it, though nobody asks anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hub import streams as streaming
from hub.events import Event, append, seal
from hub.streams import Filter, Streams
from tests.hub.access.browsing import Browser
from tests.hub.world import ADMIN, World

SESSION = "__Host-flaghoist-session"


def by_session(shop: World, browser: Browser) -> tuple[dict[str, Any], Callable[[], Any]]:
    browser.log_in(groups="fleet-viewers")
    session = browser.request("GET", "/session").json()["session"]
    found = shop.authenticator
    text = browser.cookies[SESSION]
    headers = [(b"cookie", f"{SESSION}={text}".encode())]
    scope = {"headers": headers, "method": "GET", "state": {}}
    asyncio.run(found.identify(scope))
    return scope, lambda: shop.client.delete(f"/sessions/{session}")


def by_key(shop: World, browser: Browser) -> tuple[dict[str, Any], Callable[[], Any]]:
    made = shop.client.post("/api-keys", json={"name": "board", "expires_in": 3600}).json()
    headers = [(b"authorization", f"Bearer {made['key']}".encode())]
    return {"headers": headers, "state": {}}, lambda: shop.client.delete(f"/api-keys/{made['id']}")


def by_token(shop: World, browser: Browser) -> tuple[dict[str, Any], Callable[[], Any]]:
    headers = [(b"authorization", f"Bearer {browser.issuer.token(shop.now // 1000)}".encode())]
    return {"headers": headers, "state": {}}, lambda: None


def tell(world: World, kind: str) -> None:
    with world.store.write() as tx:
        append(tx, Event(kind=kind), ADMIN, world.now)
        seal(tx)


async def read_on(shop: World, scope: dict[str, Any], happens: Callable[[], Any]) -> list[bytes]:
    """Open a stream, see one event on it, have something happen and one more event, and read to the stream's end."""
    streams = Streams(shop.store)
    streams.start()
    shop.store.on_commit(streams.wake)
    stream = streams.follow(streams.last(), Filter(), partial(shop.authenticator.still, scope))
    assert (await anext(stream)).startswith(b"retry")
    tell(shop, "before")
    while b"before" not in await asyncio.wait_for(anext(stream), 60):
        pass
    await asyncio.to_thread(happens)
    tell(shop, "after")

    async def rest() -> list[bytes]:
        return [chunk async for chunk in stream]

    return await asyncio.wait_for(rest(), 60)


@pytest.mark.parametrize(
    "way", [pytest.param(by_session, id="session-revoked"), pytest.param(by_key, id="key-revoked")]
)
def test_a_stream_ends_as_soon_as_its_right_is_withdrawn(
    shop: World, browser: Browser, way: Callable[[World, Browser], tuple[dict[str, Any], Callable[[], Any]]]
) -> None:
    scope, withdraw = way(shop, browser)
    assert not [chunk for chunk in asyncio.run(read_on(shop, scope, withdraw)) if b"after" in chunk]


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(by_session, id="session-not-used"),
        pytest.param(by_key, id="key-expired"),
        pytest.param(by_token, id="token-expired"),
    ],
)
def test_a_stream_ends_when_its_right_runs_out(
    shop: World,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[World, Browser], tuple[dict[str, Any], Callable[[], Any]]],
) -> None:
    monkeypatch.setattr(streaming, "PING_S", 0.0)
    scope, _ = way(shop, browser)

    def an_hour_passes() -> None:
        shop.now += 3_600_000

    assert not [chunk for chunk in asyncio.run(read_on(shop, scope, an_hour_passes)) if b"after" in chunk]


def test_a_stream_goes_on_while_the_provider_is_away(shop: World, browser: Browser) -> None:
    scope, _ = by_token(shop, browser)
    browser.issuer.is_away = True
    shop.now += 48 * 3_600_000
    assert asyncio.run(shop.authenticator.still(scope))
