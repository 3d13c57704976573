"""An exported folder behind a plain web server is enough: devices converge while hub and broker are gone."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until


class Site:
    """A static web server on a folder; `asked` are the paths of its requests."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        site = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def do_GET(self) -> None:
                site.asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


def _add_media(fleet: Fleet) -> None:
    """Something large that stays the same, so that there is a cheaper way to a later release."""
    (fleet.repo / "roles" / "kiosk" / "files" / "media.txt").write_text(
        "".join(f"{n * 2654435761 % 2**32:08x}\n" for n in range(20_000))
    )
    fleet.commit("media")


def _release(fleet: Fleet, sequence: int) -> str:
    """Publish a release that differs in one file and promote it to the canary."""
    (fleet.repo / "roles" / "kiosk" / "files" / "note.txt").write_text(f"release {sequence}\n")
    fleet.commit(f"release {sequence}")
    release = fleet.publish("kiosk", sequence)
    fleet.flaghoist("release", "promote", release, "--segment", "canary")
    return release


@pytest.mark.heavy
def test_the_hub_gives_a_small_change_file_by_file(fleet: Fleet) -> None:
    agent = fleet.enrol("shop-1", "canary")
    _add_media(fleet)
    first = _release(fleet, 1)
    fleet.start(agent)
    until("release one", lambda: fleet.progress(first, "canary").get("committed") == 1)
    whole = _answered(fleet, "/bundle")
    second = _release(fleet, 2)
    until("release two", lambda: fleet.progress(second, "canary").get("committed") == 1)
    assert _answered(fleet, "/bundle") == whole >= 1
    assert _answered(fleet, "/changes/{name}") == 1 and _answered(fleet, "/blobs/{sha256}") >= 1


def _answered(fleet: Fleet, tail: str) -> float:
    """How many artifact requests the hub answered well, by the end of their route."""
    request = urllib.request.Request(
        fleet.url + "/metrics", headers={"Authorization": f"Bearer {fleet.environment['FLAGHOIST_TOKEN']}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    good = [
        line for line in lines if line.startswith("flaghoist_http_requests_total") and 'status="200"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in good if f'{tail}"' in line)


@pytest.mark.heavy
def test_a_device_converges_from_exported_files_with_the_hub_switched_off(
    fleet: Fleet, tmp_path: Path
) -> None:
    agent = fleet.enrol("shop-1", "canary")
    _add_media(fleet)
    exports, releases = [tmp_path / "export-1", tmp_path / "export-2"], []
    for sequence, folder in enumerate(exports, 1):
        releases.append(_release(fleet, sequence))
        fleet.flaghoist("release", "export", folder, "--desired")
    fleet.kill_hub()

    asked: list[str] = []
    for release, folder in zip(releases, exports, strict=True):
        with serving(folder) as site:
            asked = site.asked
            said = fleet.edge(agent, "once", "--mirror", site.url)
            assert f"{release} runs: already_installed" in said
            assert agent.current == release
            until("the service", lambda r=release: agent.health().get("release") == r)  # type: ignore[misc]
            again = fleet.edge(agent, "once", "--mirror", site.url)
            assert f"{release} runs: already_installed" in again
    # The second release came file by file: most of it was there.
    assert not [path for path in asked if path.endswith("/bundle")]
    assert [path for path in asked if "/blobs/" in path]

    # An older export is a replay, and says so by its exit code.
    with serving(exports[0]) as site:
        assert "refused by check replayed" in fleet.edge(agent, "once", "--mirror", site.url, expect=5)
    assert "no hub answers" in fleet.edge(agent, "once", "--mirror", fleet.url, expect=4)
    assert agent.current == releases[1]
