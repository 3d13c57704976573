"""A hub behind a reverse proxy: to the world it has another host, another port and a prefix."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from edge.config import Settings
from edge.download.fetch import Fetcher, Sources
from tests.hub.served import served
from tests.hub.world import World, make_bundle
from tests.hub.world import world as open_world
from topics import codec, envelope
from topics.documents import Release

PREFIX: Final = "/fleet/a"
FORGED: Final = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=https",
}


class ReverseProxy(ThreadingHTTPServer):
    """Answers below `PREFIX` with what the hub on `inner` says below `/`, as nginx's `proxy_pass` does."""

    inner: int
    seen: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}{PREFIX}"


class Forward(BaseHTTPRequestHandler):
    server: ReverseProxy

    def do_GET(self) -> None:
        if not self.path.startswith(PREFIX + "/"):
            self.send_error(404)
            return
        self.server.seen.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.inner, timeout=60)
        try:
            connection.request(
                self.command, self.path.removeprefix(PREFIX), body, {**headers, "Host": "inner.test:1"}
            )
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())
        finally:
            connection.close()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[ReverseProxy]:
    made = ReverseProxy()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def hub(proxy: ReverseProxy, tmp_path: Path) -> Iterator[World]:
    """A hub that was told `--public-http` as the proxy has it, served as `flaghoist-hub` serves it."""
    with open_world(tmp_path, public_url=proxy.url) as made:
        made.trust_root()
        with served(made.app) as port:
            proxy.inner = port
            yield made


def signed_url(hub: World, proxy: ReverseProxy, release: str, **headers: str) -> str:
    answer = httpx2.post(
        f"{proxy.url}/artifacts/kiosk/{release}/signed-url",
        headers={"Authorization": f"Bearer {hub.token}", **headers},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def test_h4_a_signed_url_opens_the_bundle_through_a_proxy_with_another_host_port_and_prefix(
    hub: World, proxy: ReverseProxy
) -> None:
    release = hub.publish(1)
    url = signed_url(hub, proxy, release)
    assert url.startswith(f"{proxy.url}/artifacts/kiosk/{release}/signed/")
    answer = httpx2.get(url, headers={"Range": "bytes=5-9"}, timeout=60)
    assert (answer.status_code, answer.content) == (206, make_bundle()[5:10])
    assert httpx2.head(url, timeout=60).status_code == 200
    # Another way to the same hub opens it too: no part of an address is signed.
    direct = f"http://127.0.0.1:{proxy.inner}{urlsplit(url).path.removeprefix(PREFIX)}"
    assert httpx2.get(direct, timeout=60).content == make_bundle()
    assert httpx2.get(url.replace("/bundle", "/checksums"), timeout=60).status_code == 404


def test_h4_headers_that_claim_another_address_change_nothing(hub: World, proxy: ReverseProxy) -> None:
    """Neither in what is signed nor in what is opened: a client could send them as well as a proxy."""
    release = hub.publish(1)
    url = signed_url(hub, proxy, release, **FORGED)
    assert url.startswith(proxy.url) and "evil" not in url
    assert httpx2.get(url, headers=FORGED, timeout=60).content == make_bundle()


def test_whoever_sends_a_proxys_headers_is_still_who_it_is() -> None:
    async def show(scope: Any, _receive: Any, send: Any) -> None:
        text = f"{scope['scheme']} {scope['client'][0]}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})

    with served(show) as port:
        answer = httpx2.get(f"http://127.0.0.1:{port}/", headers=FORGED, timeout=60)
    assert answer.text == "http 127.0.0.1"


def test_h4_a_device_takes_a_release_through_the_proxy(
    hub: World, proxy: ReverseProxy, tmp_path: Path
) -> None:
    """Its token is for the fleet and not for an address, and what lies beside a bundle is found below the prefix."""
    release_id = hub.publish(1)
    payload = envelope.open_envelope(hub.signed_release(1), limit=6144).payload
    release = codec.decode_signed(payload, Release, limit=6144)
    sources = Sources([], proxy.url, lambda _now: hub.token, lambda: None)  # type: ignore[arg-type, return-value]
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    fetcher = Fetcher(Settings(), sources, lambda: hub.now)
    assert fetcher.checksums(release, 100_000)
    assert fetcher.fetch(release, downloads).read_bytes() == make_bundle()
    top = f"{PREFIX}/artifacts/kiosk/{release_id}"
    assert proxy.seen == [f"{top}/checksums.gz", f"{top}/bundle"]
