"""Uploads and downloads over a real connection: what is too much ends early, what is slow is held back."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from hub.artifacts import service
from hub.artifacts.limits import MAX_BUNDLE
from hub.artifacts.pace import Ceiling
from hub.artifacts.serve import CHUNK
from tests.edge.world import wait_until
from tests.hub.served import served
from tests.hub.world import World, make_bundle
from topics.documents import Bundle

PIECE: Final = b"x" * 64 * 1024


@pytest.fixture
def port(world: World) -> Iterator[int]:
    with served(world.app) as found:
        yield found


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "artifacts" / "incoming"


class Upload:
    """A chunked POST, as far as one lets it go."""

    def __init__(self, world: World, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.putrequest("POST", path)
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.putheader("Authorization", f"Bearer {world.token}")
        self._connection.endheaders()

    def send(self, data: bytes) -> None:
        self._connection.send(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self) -> tuple[int, Any]:
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._connection.close()


def declared(world: World, **changes: Any) -> str:
    """Declare a release that has no bundle yet; return the path that takes it."""
    envelope = base64.b64encode(world.signed_release(1, **changes)).decode()
    answer = world.client.post("/releases", json={"envelope": envelope})
    assert answer.status_code == 201, answer.text
    return f"/artifacts/kiosk/{answer.json()['id']}"


def test_a_chunked_upload_ends_at_the_first_byte_over_what_was_signed(
    world: World, port: int, incoming: Path
) -> None:
    """Without a length to judge by, and without waiting for the end of what never ends."""
    path = declared(world)
    upload = Upload(world, port, path)
    upload.send(make_bundle())
    wait_until(lambda: list(incoming.iterdir()), what="the partial file")
    upload.send(b"x")
    status, problem = upload.answer()
    assert (status, problem["rule"]) == (413, "size"), problem
    assert list(incoming.iterdir()) == []
    upload.close()
    whole = httpx2.post(
        f"http://127.0.0.1:{port}{path}",
        content=make_bundle(),
        headers={"Authorization": f"Bearer {world.token}"},
        timeout=60,
    )
    assert whole.status_code == 201, whole.text


def test_a_bundle_over_the_hubs_own_limit_is_refused_before_it_is_sent(
    world: World, port: int, incoming: Path
) -> None:
    large = Bundle(sha256="0" * 64, size=MAX_BUNDLE + 1, tar_sha256="0" * 64)
    upload = Upload(world, port, declared(world, bundle=large))
    upload.send(PIECE)
    status, problem = upload.answer()
    assert (status, problem["rule"]) == (413, "max_bundle"), problem
    assert list(incoming.iterdir()) == []
    upload.close()


def test_an_archive_to_validate_ends_at_its_limit(
    world: World, port: int, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UPLOAD_LIMIT", len(PIECE))
    upload = Upload(world, port, "/artifacts/validate")
    upload.send(PIECE)
    upload.send(b"x")
    status, problem = upload.answer()
    assert (status, problem["rule"]) == (413, "size"), problem
    assert list(incoming.iterdir()) == []
    upload.close()


def test_nothing_stays_of_an_upload_whose_sender_goes_away(world: World, port: int, incoming: Path) -> None:
    upload = Upload(world, port, declared(world))
    upload.send(make_bundle()[:50])
    wait_until(lambda: list(incoming.iterdir()), what="the partial file")
    upload.close()
    wait_until(lambda: not list(incoming.iterdir()), what="the end of the partial file")


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_all_downloads_together_take_as_long_as_the_ceiling_says(world: World, port: int) -> None:
    """By a clock of the test's own: every byte of three downloads at once was booked, and none twice."""
    packed = make_bundle(**{"files/a": random.Random(1).randbytes(2 * CHUNK + 1000)})
    release = world.publish(1, packed=packed)
    clock = Clock()
    world.artifacts.ceiling = Ceiling(1000, lambda: clock.now, clock.sleep)
    url = f"http://127.0.0.1:{port}/artifacts/kiosk/{release}/bundle"
    headers = {"Authorization": f"Bearer {world.token}"}
    bodies: list[bytes] = []

    def download() -> None:
        bodies.append(httpx2.get(url, headers=headers, timeout=60).content)

    threads = [threading.Thread(target=download) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [packed] * 3
    # What goes last has waited for all the rest, and waits for itself no more.
    assert clock.now == pytest.approx((3 * len(packed) - len(packed) % CHUNK) / 1000)
