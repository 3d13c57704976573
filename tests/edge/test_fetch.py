"""Downloads: resumed, bounded in size, time and slowness, and believed by their hash alone."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from edge.config import Settings
from edge.download.fetch import Fetcher, Sources
from edge.download.turns import PATIENT
from edge.errors import Stop
from tests.edge.world import QUICK, Built, Source, build

BIG = build(7, {"files/big": bytes(range(256)) * 4096 + b"".join(n.to_bytes(4, "big") for n in range(65536))})


def fetcher(urls: list[str], hub: str = "", settings: Settings = QUICK, offset: int = 0) -> Fetcher:
    sources = Sources(urls, hub or urls[0].partition("/artifacts/")[0], lambda now: f"t{now}", lambda: None)  # type: ignore[arg-type, return-value]
    return Fetcher(settings, sources, lambda: 1_000_000 + offset, lambda _seconds: None)


def settings(**changes: float) -> Settings:
    return msgspec.structs.replace(QUICK, **changes)


def cut(after: int) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def fault(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])

    return fault


def status(code: int) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    return lambda handler, data: handler.send_error(code)


def body(content: bytes) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def fault(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return fault


def test_a_bundle_is_fetched_with_the_devices_token(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    path = fetcher([source.template]).fetch(BIG.release, tmp_path)
    assert path.read_bytes() == BIG.archive
    assert source.requests[0]["Authorization"] == "Bearer t1000"
    assert source.requests[0]["path"] == f"/artifacts/kiosk/{BIG.id}/bundle"


def test_only_the_hub_sees_the_token(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    fetcher([source.template], hub="http://hub.example").fetch(BIG.release, tmp_path)
    assert "Authorization" not in source.requests[0]


def test_an_interrupted_download_resumes_where_it_stopped(source: Source, tmp_path: Path) -> None:
    """D3."""
    source.add(BIG)
    source.faults = [cut(100_000)]
    assert fetcher([source.template]).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive
    assert [request.get("Range") for request in source.requests] == [None, "bytes=100000-"]
    assert source.requests[1]["If-Range"] == f'"{BIG.release.bundle.sha256}"'


def test_a_later_process_resumes_too(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    (tmp_path / f"{BIG.release.bundle.sha256}.part").write_bytes(BIG.archive[:5000])
    fetcher([source.template]).fetch(BIG.release, tmp_path)
    assert source.requests[0]["Range"] == "bytes=5000-"


FAULTS = [
    pytest.param(status(500), id="500"),
    pytest.param(status(503), id="503"),
    pytest.param(status(404), id="404"),
    pytest.param(body(b"x" * len(BIG.archive)), id="other bytes of the same size"),
    pytest.param(body(BIG.archive + b"more"), id="endless data"),
    pytest.param(cut(0), id="nothing"),
    pytest.param(lambda handler, data: handler.wfile.write(b"\x00\x01garbage\r\n\r\n"), id="not HTTP"),
    pytest.param(lambda handler, data: handler.connection.shutdown(socket.SHUT_RDWR), id="closed"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_fails_once_is_asked_again(
    source: Source, tmp_path: Path, fault: Callable[[BaseHTTPRequestHandler, bytes], None]
) -> None:
    source.add(BIG)
    source.faults = [fault]
    assert fetcher([source.template]).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_source_stands_in(
    source: Source, tmp_path: Path, fault: Callable[[BaseHTTPRequestHandler, bytes], None]
) -> None:
    source.add(BIG)
    source.faults = [fault]
    dead = "http://127.0.0.1:1/{role}/{release}"
    urls = [source.template, "ftp://x/y", "http://[bad", dead, source.template + "?mirror=2"]
    assert fetcher(urls).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


def test_a_range_that_the_source_no_longer_has_starts_anew(source: Source, tmp_path: Path) -> None:
    """D3: not resumed for ever against a refusal."""
    source.add(BIG)
    source.faults = [status(416)]
    (tmp_path / f"{BIG.release.bundle.sha256}.part").write_bytes(b"stale")
    assert fetcher([source.template]).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


def test_a_wrong_start_of_a_part_is_noticed_and_thrown_away(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    (tmp_path / f"{BIG.release.bundle.sha256}.part").write_bytes(b"evil" * 100)
    assert fetcher([source.template]).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


def test_a_tampered_bundle_is_given_up_on(source: Source, tmp_path: Path) -> None:
    other: Built = build(8)
    source.archives[BIG.id] = other.archive
    with pytest.raises(Stop, match=r"it offers .* were signed") as caught:
        fetcher([source.template]).fetch(BIG.release, tmp_path)
    assert caught.value.check == "bundle"
    source.archives[BIG.id] = bytes(len(BIG.archive))
    with pytest.raises(Stop, match="not the ones that were signed") as caught:
        fetcher([source.template]).fetch(BIG.release, tmp_path)
    assert caught.value.check == "bundle"


def test_a_bundle_that_nobody_has_is_given_up_on(source: Source, tmp_path: Path) -> None:
    """D3: not resumed for ever against a 404; not condemned either, for somebody may have it later."""
    with pytest.raises(Stop, match="answered 404") as caught:
        fetcher([source.template]).fetch(BIG.release, tmp_path)
    assert not caught.value.lasting
    assert len(source.requests) == PATIENT.denials


def test_a_bundle_that_does_not_come_in_time_is_given_up_on(source: Source, tmp_path: Path) -> None:
    source.faults = [status(500)] * 10_000
    with pytest.raises(Stop, match=r"not downloaded within 0.2 s; .* answered 500") as caught:
        fetcher([source.template], settings=settings(download_seconds=0.2)).fetch(BIG.release, tmp_path)
    assert not caught.value.lasting


def drip(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Send one byte, then nothing, for as long as the other side waits."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:1])
    handler.wfile.flush()
    handler.connection.settimeout(10)
    handler.rfile.read(1)


def silent(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Answer with a header that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    handler.wfile.flush()
    handler.connection.settimeout(10)
    handler.rfile.read(1)


@pytest.mark.parametrize(
    "stall", [pytest.param(drip, id="in the body"), pytest.param(silent, id="in a header")]
)
def test_a_source_that_stalls_is_left(
    source: Source, tmp_path: Path, stall: Callable[[BaseHTTPRequestHandler, bytes], None]
) -> None:
    source.add(BIG)
    source.faults = [stall]
    quick = settings(stall_seconds=0.2)
    assert fetcher([source.template], settings=quick).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


def trickle(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Send a byte now and then: no single read is ever late."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.connection.settimeout(0.02)
    for byte in data[:500]:
        try:
            handler.connection.sendall(bytes([byte]))
            if handler.connection.recv(1) == b"":
                return
        except TimeoutError:
            continue
        except OSError:
            return


def test_a_source_that_is_slower_than_the_floor_is_left(source: Source, tmp_path: Path) -> None:
    """Slow retrieval."""
    source.add(BIG)
    source.faults = [trickle]
    quick = settings(stall_seconds=0.3, floor_bytes_per_second=10_000)
    assert fetcher([source.template], settings=quick).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive
    assert len(source.requests) == 2


def unauthorised(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_error(401)


def test_a_wrong_clock_is_corrected_by_the_hubs(source: Source, tmp_path: Path) -> None:
    """D1: the token of a device that boots in 1970 is refused, then made by the hub's time."""
    source.add(BIG)
    source.faults = [unauthorised]
    fetcher([source.template]).fetch(BIG.release, tmp_path)
    first, second = (int(request["Authorization"].removeprefix("Bearer t")) for request in source.requests)
    assert first == 1000
    assert second > 1_700_000_000


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def fault(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def test_a_redirect_is_followed_without_the_token(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    mirror = Source()
    mirror.add(BIG)
    try:
        source.faults = [redirect(f"{mirror.url}/cdn/{BIG.id}/bundle")]
        fetcher([source.template]).fetch(BIG.release, tmp_path)
        assert "Authorization" not in mirror.requests[0]
    finally:
        mirror.close()


def test_redirects_in_a_circle_end(source: Source, tmp_path: Path) -> None:
    source.add(BIG)
    source.faults = [redirect("/artifacts/kiosk/x/bundle")] * 4
    assert fetcher([source.template]).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive


def test_a_full_disk_ends_the_download_and_leaves_nothing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2."""
    source.add(BIG)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.download.http.os.fsync", full)
        with pytest.raises(Stop, match="the disk is full") as caught:
            fetcher([source.template]).fetch(BIG.release, tmp_path)
        assert caught.value.full
    assert list(tmp_path.iterdir()) == []
    fetcher([source.template]).fetch(BIG.release, tmp_path)
