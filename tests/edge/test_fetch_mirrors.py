"""Mirrors that stall, lie, refuse and come back: a download goes on elsewhere or ends with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from edge.config import Settings
from edge.download.fetch import Fetcher, Sources
from edge.download.turns import BRIEF, EARLIER, PATIENT, Patience, Turns
from edge.errors import Stop
from tests.edge.world import QUICK, Box, Source, build
from tests.support.ports import held_port

BIG = build(7, {"files/big": b"".join((n * 2654435761 % 2**32).to_bytes(4, "big") for n in range(50_000))})
HALF = len(BIG.archive) // 2
Fault = Callable[[BaseHTTPRequestHandler, bytes], None]


@pytest.fixture
def mirror() -> Iterator[Source]:
    """A mirror, as hostile as a row wants it, for as long as it lasts."""
    made = Source()
    made.add(BIG)
    yield made
    made.close()


def fetcher(
    urls: list[str],
    hub: str,
    sleep: Callable[[float], None] = lambda _seconds: None,
    settings: Settings = QUICK,
) -> Fetcher:
    sources = Sources(urls, hub, lambda now: f"t{now}", lambda: None)  # type: ignore[arg-type, return-value]
    return Fetcher(settings, sources, lambda: 1_000_000, sleep)


def begins(data: bytes, promised: int) -> Fault:
    """Answer with `promised` bytes in view and `data` to show, then hang up."""

    def fault(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(promised))
        handler.end_headers()
        handler.wfile.write(data)

    return fault


def hangs(data: bytes) -> Fault:
    """Answer with the first bytes of the right length and then nothing, for as long as the other side waits."""

    def fault(handler: BaseHTTPRequestHandler, whole: bytes) -> None:
        begins(data, len(whole))(handler, whole)
        handler.wfile.flush()
        handler.connection.settimeout(30)
        handler.rfile.read(1)

    return fault


def status(code: int) -> Fault:
    return lambda handler, _data: handler.send_error(code)


def ranges(text: str) -> Fault:
    """Answer a range as `text` says."""

    def fault(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", text)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return fault


def login_page(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
    """A captive portal."""
    begins(b"<html>please log in</html>", 26)(handler, b"")


MIRRORS: list[object] = [
    pytest.param(status(404), id="404"),
    pytest.param(status(403), id="403"),
    pytest.param(status(410), id="410"),
    pytest.param(status(416), id="416 to a whole request"),
    pytest.param(status(429), id="429"),
    pytest.param(status(500), id="500"),
    pytest.param(status(304), id="304 that nobody asked for"),
    pytest.param(begins(BIG.archive[:HALF], len(BIG.archive)), id="truncated body"),
    pytest.param(begins(BIG.archive, len(BIG.archive) + 10), id="a longer length than signed"),
    pytest.param(begins(BIG.archive[:10], 10), id="a shorter length than signed"),
    pytest.param(login_page, id="a captive portal"),
    pytest.param(begins(bytes(len(BIG.archive)), len(BIG.archive)), id="other bytes of the right length"),
    pytest.param(begins(bytes(HALF), len(BIG.archive)), id="wrong bytes, then gone"),
    pytest.param(hangs(BIG.archive[:HALF]), id="stalls in the middle"),
    pytest.param(hangs(bytes(HALF)), id="wrong bytes, then stalls"),
    pytest.param(ranges("bytes 5-9/10"), id="a range that nobody asked for"),
]


@pytest.mark.parametrize("fault", MIRRORS)
def test_whatever_a_mirror_does_the_hub_gives_the_bundle(
    source: Source, mirror: Source, tmp_path: Path, fault: Fault
) -> None:
    """The hub stands in although the manifest does not name it, and a mirror's wrong bytes cannot spoil its part."""
    source.add(BIG)
    mirror.faults = [fault] * 1000
    quick = msgspec.structs.replace(QUICK, stall_seconds=0.5)
    path = fetcher([mirror.template], source.url, settings=quick).fetch(BIG.release, tmp_path)
    assert path.read_bytes() == BIG.archive
    assert [request.get("Authorization") for request in mirror.requests] == [None] * len(mirror.requests)
    assert all(request["Authorization"] == "Bearer t1000" for request in source.requests)


@pytest.mark.parametrize("fault", MIRRORS)
def test_where_nobody_else_has_it_the_download_ends_with_the_mirrors_answer(
    source: Source, mirror: Source, tmp_path: Path, fault: Fault
) -> None:
    """Never for ever: a reason that names the source, nothing condemned, and what is right stays to resume from."""
    mirror.faults = [fault] * 1000
    quick = msgspec.structs.replace(QUICK, stall_seconds=0.1, download_seconds=0.5)
    hub = "http://127.0.0.1:1"
    with pytest.raises(Stop) as caught:
        fetcher([mirror.template], hub, settings=quick).fetch(BIG.release, tmp_path)
    assert not caught.value.lasting and not caught.value.full
    assert mirror.url in caught.value.reason or hub in caught.value.reason
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".part"])


def test_a_part_that_another_source_began_is_continued(
    source: Source, mirror: Source, tmp_path: Path
) -> None:
    """D3: a thin link does not pay twice."""
    source.add(BIG)
    mirror.faults = [begins(BIG.archive[:HALF], len(BIG.archive))]
    fetcher([mirror.template], source.url).fetch(BIG.release, tmp_path)
    assert [request["Range"] for request in source.requests] == [f"bytes={HALF}-"]


def test_a_restart_of_the_hub_in_mid_download_is_waited_out_and_resumed(tmp_path: Path) -> None:
    """D3: cut off, refused while it is away, then resumed where it stopped."""
    port = held_port()
    first = Source(port)
    first.add(BIG)
    first.faults = [begins(BIG.archive[:HALF], len(BIG.archive))]
    running = [first]

    def sleep(_seconds: float) -> None:
        if running == [first]:
            running.pop().close()
        elif not running:
            again = Source(port)
            again.add(BIG)
            running.append(again)

    try:
        path = fetcher([first.template], first.url, sleep).fetch(BIG.release, tmp_path)
        assert path.read_bytes() == BIG.archive
        assert [request["Range"] for request in running[0].requests] == [f"bytes={HALF}-"]
    finally:
        for each in running:
            each.close()


def test_a_link_that_always_breaks_still_ends_with_the_whole_bundle(source: Source, tmp_path: Path) -> None:
    """D3: every attempt brings a little; none begins anew."""
    source.add(BIG)
    step = len(BIG.archive) // 8 + 1

    def a_little(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : start + step])

    source.faults = [a_little] * 8
    assert fetcher([source.template], source.url).fetch(BIG.release, tmp_path).read_bytes() == BIG.archive
    assert len(source.requests) == 8


def test_a_signed_address_behind_a_proxy_is_asked_for_as_it_was_given(source: Source, tmp_path: Path) -> None:
    """H4: prefix, escapes and query of a redirect reach the other side byte for byte."""
    signed = f"/proxy/a%2Fb/{BIG.id}/bundle?expires=9&sig=x%2By%3D%3D&host=hub.example:8443"
    source.files[signed] = BIG.archive

    def redirect(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
        handler.send_response(307)
        handler.send_header("Location", signed)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    source.faults = [redirect]
    fetcher([source.template], source.url).fetch(BIG.release, tmp_path)
    assert [request["path"] for request in source.requests][1:] == [signed]


def test_an_archive_swapped_between_the_check_and_the_use_is_noticed(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D16: the bytes that are unpacked are hashed as they are unpacked; the check of the download decides nothing."""
    old, new = build(7), build(8)
    box.offer(old)
    real = Fetcher.fetch

    def swapped(self: Fetcher, release: object, folder: Path) -> Path:
        path = real(self, new.release, folder)
        path.write_bytes(build(8, {"files/app.txt": b"evil"}).archive)
        return path

    monkeypatch.setattr(Fetcher, "fetch", swapped)
    box.offer(new)
    update = box.state.update
    assert update is not None and update.state == "failed" and "not the one that was signed" in update.reason
    assert box.state.running_id == old.id
    assert [path.name for path in box.paths.releases.iterdir()] == [old.id]


# Turns


def test_a_source_that_was_wrong_twice_is_asked_no_more() -> None:
    turns = Turns(["a", "b"], PATIENT, begun=False)
    for _ in range(2):
        assert turns.begin() == ["a", "b"]
        turns.gave("a", 10)
        turns.mixed_or_wrong("a", "wrong")
        turns.failed("b", "away")
        assert not turns.over()
    assert turns.begin() == ["b"]
    assert not turns.corrupt


@pytest.mark.parametrize("other", [pytest.param("b", id="two sources"), pytest.param(EARLIER, id="earlier")])
def test_wrong_bytes_of_several_are_nobodys_and_make_each_start_anew(other: str) -> None:
    turns = Turns(["a", "b"], PATIENT, begun=other == EARLIER)
    turns.begin()
    if other != EARLIER:
        turns.gave(other, 5)
    assert not turns.starts_anew("a")
    turns.gave("a", 5)
    turns.mixed_or_wrong("a", "wrong")
    assert turns.begin() == ["a", "b"]
    turns.gave("a", 5)
    assert not turns.starts_anew("a")
    assert turns.starts_anew("b")


def test_a_source_that_begins_anew_answers_for_all_of_it() -> None:
    turns = Turns(["a", "b"], PATIENT, begun=False)
    for _ in range(2):
        turns.begin()
        turns.gave("a", 10)
        turns.gave("b", -5)
        turns.mixed_or_wrong("b", "wrong")
        turns.over()
    assert turns.begin() == ["a"]


ENDS = [
    pytest.param(PATIENT, "denied", PATIENT.denials, id="all deny it, patiently"),
    pytest.param(BRIEF, "denied", BRIEF.denials, id="all deny it, briefly"),
    pytest.param(BRIEF, "failed", BRIEF.barren, id="nothing comes in, briefly"),
    pytest.param(PATIENT, "wrong", 2, id="all are wrong"),
    pytest.param(PATIENT, "failed", None, id="nothing comes in, patiently"),
]


@pytest.mark.parametrize(("patience", "what", "rounds"), ENDS)
def test_rounds_end(patience: Patience, what: str, rounds: int | None) -> None:
    turns = Turns(["a", "b"], patience, begun=False)
    for number in range(1, 100):
        for url in turns.begin():
            getattr(turns, what)(url, "so it is")
        if reason := turns.over():
            assert (number, reason) == (rounds, "b: so it is")
            return
    assert rounds is None


def test_one_source_that_may_have_it_later_is_waited_for() -> None:
    turns = Turns(["a", "b"], PATIENT, begun=False)
    for _ in range(50):
        turns.begin()
        turns.denied("a", "404")
        turns.failed("b", "503")
        assert not turns.over()


def test_any_byte_that_comes_in_is_progress() -> None:
    turns = Turns(["a"], BRIEF, begun=False)
    for _ in range(50):
        turns.begin()
        turns.gave("a", 1)
        turns.failed("a", "cut")
        assert not turns.over()
