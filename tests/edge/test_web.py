"""Requests through a site's proxy, as `https_proxy` and its siblings name it."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import web
from edge.config import Settings
from edge.download.http import Client, SourceError, Sources
from edge.errors import NotReady, Unreachable
from hub.identity.ca import open_authorities
from tests.edge.world import Source
from tests.support.relay import Proxy, Relay

HUB = "hub.field.test"


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    made.files["/health/live"] = b"well"
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> ssl.SSLContext:
    """The context of a TLS server called `HUB`; its CA is in `ca.pem`."""
    made = open_authorities(tmp_path / "ca", "acme", now=int(time.time())).device
    key, certificate = made.issue_server([HUB], now=int(time.time()))
    (tmp_path / "server.pem").write_text(key + certificate)
    (tmp_path / "ca.pem").write_text(made.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def port_of(source: Source) -> int:
    return int(source.url.rpartition(":")[2])


def ask(url: str, tls: ssl.SSLContext | None = None) -> bytes:
    status, body = web.request("GET", url, tls=tls or web.unchecked(), limit=100, seconds=60)
    assert status == 200
    return body


def test_https_goes_through_the_proxy_by_connect_and_is_checked_end_to_end(
    source: Source, authority: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the proxy knows the hub's name: the device needs no name server."""
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with (
        Relay(port_of(source), tls=authority) as front,
        Proxy({HUB: front.port, "other.test": front.port}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert ask(f"https://{HUB}/health/live", trusting) == b"well"
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            ask("https://other.test/health/live", trusting)
        with pytest.raises(Unreachable, match="502"):
            ask("https://unknown.test/health/live", trusting)
        assert proxy.asked[0].startswith(f"CONNECT {HUB}:443 ")


def test_plain_http_goes_through_the_proxy_with_its_whole_url(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({HUB: port_of(source)}) as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert ask(f"http://{HUB}:8080/health/live") == b"well"
        assert proxy.asked == [f"GET http://{HUB}:8080/health/live HTTP/1.1"]
    assert source.requests[0]["Host"] == f"{HUB}:8080"


def test_a_proxy_that_wants_a_login_gets_the_one_of_its_url(
    source: Source, authority: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = base64.b64encode(b"shop:p@ss").decode()
    with Relay(port_of(source), tls=authority) as front, Proxy({HUB: front.port}, login) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable, match="407"):
            ask(f"https://{HUB}/health/live")
        monkeypatch.setenv("https_proxy", f"http://shop:p%40ss@127.0.0.1:{proxy.port}")
        assert ask(f"https://{HUB}/health/live") == b"well"
    with Proxy({HUB: port_of(source)}, login) as proxy:
        monkeypatch.setenv("http_proxy", f"http://shop:p%40ss@127.0.0.1:{proxy.port}")
        assert ask(f"http://{HUB}/health/live") == b"well"


def test_this_machine_and_what_no_proxy_names_are_asked_directly(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert ask(f"http://127.0.0.1:{port_of(source)}/health/live") == b"well"
        monkeypatch.setenv("no_proxy", "field.test")
        with pytest.raises(Unreachable):
            ask(f"http://{HUB}/health/live")
        assert proxy.asked == []


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "http://", "http://proxy:port"])
def test_what_is_no_proxy_is_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(NotReady, match="https_proxy names no proxy"):
        ask(f"https://{HUB}/health/live")
    sources = Sources(urls=[], hub=f"https://{HUB}", token=lambda _now: "", tls=web.unchecked)
    with pytest.raises(SourceError, match="https_proxy names no proxy"):
        Client(Settings(), sources, lambda: 0).document(
            f"https://{HUB}/x", 10, time.monotonic() + 60, packed=False
        )


def test_bundles_come_through_the_proxy_too(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy({HUB: port_of(source)}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        sources = Sources(urls=[], hub=f"http://{HUB}", token=lambda _now: "t", tls=web.unchecked)
        client = Client(Settings(), sources, lambda: 0)
        body = client.document(f"http://{HUB}/health/live", 10, time.monotonic() + 60, packed=False)
        assert (body, len(proxy.asked)) == (b"well", 1)
