"""The hook's own view of the running release, as lines that it adds to a file when it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import Paths
from edge.drift import services
from edge.updating.hooks import Hooks, Place
from edge.updating.secrets import Secrets

PLACE = Place("kiosk-8-b", "mine")


def shown(text: str) -> list[tuple[str, str, str]]:
    return [(item.path, item.expected, item.found) for item in services.parse(text)]


LINES = [
    pytest.param("", [], id="none"),
    pytest.param("\n \n", [], id="blank"),
    pytest.param('{"name":"web","expected":"a","found":"b"}', [("web", "a", "b")], id="all of it"),
    pytest.param('{"name":"web"}', [("web", "", "")], id="the name alone"),
    pytest.param('{"name":"web","more":[1]}', [("web", "", "")], id="fields of a later day"),
    pytest.param('{"name":"a"}\n{"name":"b"}\n', [("a", "", ""), ("b", "", "")], id="two"),
    pytest.param("web is down", [("?", "", "web is down")], id="not JSON"),
    pytest.param('{"name":7}', [("?", "", '{"name":7}')], id="a name that is no text"),
    pytest.param('{"name":"a\\u0000b"}', [("ab", "", "")], id="NUL"),
    pytest.param('{"name":"' + "x" * 999 + '"}', [("x" * 128, "", "")], id="too long"),
    pytest.param('{"name":"a"}\n{"na', [("a", "", ""), ("?", "", '{"na')], id="cut off"),
]


@pytest.mark.parametrize(("text", "found"), LINES)
def test_lines(text: str, found: list[tuple[str, str, str]]) -> None:
    assert shown(text) == found


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    places = Paths(tmp_path / "state", tmp_path / "hooks")
    places.make()
    places.hooks.mkdir()
    return places


SAYS = 'echo \'{"name": "web", "found": "exited"}\' >> "$FLAGHOIST_ITEMS"'
HOOKS = [
    pytest.param("", [], id="well"),
    pytest.param(SAYS, [("web", "", "exited")], id="well, and tells"),
    pytest.param(f"{SAYS}; exit 1", [("web", "", "exited")], id="fails, and tells why"),
    pytest.param("echo broken >&2; exit 1", [("mine", "running", "broken")], id="fails, and knows no items"),
    pytest.param("echo soon >&2; exit 75", [], id="later"),
    pytest.param('[ "$1" = probe ]', [], id="is asked by probe"),
    pytest.param("yes | head -c 200000 >> $FLAGHOIST_ITEMS", [("?", "", "y")], id="endless"),
]


@pytest.mark.parametrize(("script", "found"), HOOKS)
def test_a_hook(paths: Paths, script: str, found: list[tuple[str, str, str]]) -> None:
    program = paths.hooks / "mine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    hooks = Hooks(paths, device_id="shop-12", role="kiosk", variables={}, seconds=30)
    items = services.look(hooks, PLACE, paths.run)
    assert [(item.path, item.expected, item.found) for item in items[:1]] == found
    assert all(item.what == "service" for item in items)
    assert len(items) * 2 <= services.MAX_BYTES
    assert not list(paths.run.iterdir()), "nothing is left of it"


def test_a_hook_that_cannot_be_asked_is_told_of(paths: Paths) -> None:
    hooks = Hooks(paths, device_id="shop-12", role="kiosk", variables={}, seconds=30)
    (found,) = services.look(hooks, PLACE, paths.root / "nowhere")
    assert (found.path, found.found) == ("mine", "cannot be asked: No such file or directory")


def test_a_secret_that_a_hook_tells_is_masked(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "KEY").write_text("s3cret-key")
    program = paths.hooks / "mine"
    program.write_text('#!/bin/sh\necho \'{"name": "s3cret-key"}\' >> "$FLAGHOIST_ITEMS"\n')
    program.chmod(0o755)
    secrets = Secrets(((tmp_path, 0),))
    hooks = Hooks(paths, device_id="shop-12", role="kiosk", variables={}, seconds=30, secrets=secrets)
    assert [item.path for item in services.look(hooks, PLACE, paths.run)] == ["***"]


def test_probes_between_inspections_are_not_asked(paths: Paths) -> None:
    program = paths.hooks / "mine"
    program.write_text('#!/bin/sh\n[ -z "$FLAGHOIST_ITEMS" ]\n')
    program.chmod(0o755)
    hooks = Hooks(paths, device_id="shop-12", role="kiosk", variables={}, seconds=30)
    assert hooks.call("probe", PLACE).ok
