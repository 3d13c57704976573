"""A real Chromium, for the tests that look at the page as people do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.hub.ops import showcase
from tests.hub.ops.stage import Stage, stage

WAIT_MS = 60_000
"""How long anything may take to appear, on a machine that does much else."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no playwright for this machine")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium: .ci/setup all")
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox, since CI runs as root; it opens nothing but the hub of the test.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Stage]:
    """A hub without devices."""
    with stage(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hub with sixty devices in every condition, and a rollout half-way; made once."""
    folder = tmp_path_factory.mktemp("acme")
    with stage(folder) as made:
        showcase.fill(made)
    return folder


@pytest.fixture
def acme(filled: Path, tmp_path: Path) -> Iterator[Stage]:
    """A copy of that hub for the test alone."""
    folder = tmp_path / "hub"
    shutil.copytree(filled, folder)
    with stage(folder) as made:
        made.go_on()
        yield made


Open = Callable[..., Any]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens the page of a hub with a token, and fails the test for whatever the browser complained of."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(
        hub: Stage,
        view: str = "",
        *,
        token: str | None = None,
        width: int = 1280,
        scheme: str = "light",
        prefix: str = "",
        cookies: Mapping[str, str] | None = None,
    ) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_cookies(
            [{"name": name, "value": text, "url": hub.url} for name, text in (cookies or {}).items()]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: _note(complaints, message))
        page.goto(f"{hub.url}{prefix}#/{view}")
        if not cookies:
            page.fill("#token", token or hub.token)
            page.press("#token", "Enter")
        page.wait_for_selector("#live[data-state=live]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def _note(complaints: list[str], message: Any) -> None:
    # A hub that answers 401, 404 or nothing at all is what some tests are about; Chromium says so by itself.
    if message.type == "error" and not message.text.startswith("Failed to load resource"):
        complaints.append(message.text)
