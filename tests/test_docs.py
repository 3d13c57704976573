"""Pages that lag the code fail: routes and roles, options, files, links and make targets that they name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

import edge.verbs.parser
from hub.cli.main import cli
from hub.config import Settings
from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from hub.http import Services, application
from hub.main import cli as hub_main
from hub.registry.rules import DevicePatch
from hub.throttle import Throttle
from topics.trust import CHECKS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HTTP = (DOCS / "reference" / "http.md").read_text()
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
OURS = r"(?:topics|hub|edge|firmware_hooks|tests|docs|systemd|dashboards|\.ci)"


def _pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def pages() -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in _pages()]


# Routes


@cache
def routes() -> dict[str, str]:
    """Every route of the application, `METHOD /path`, with the least role that may call it."""
    services = SimpleNamespace(**dict.fromkeys(Services.__struct_fields__))
    app = application(cast(Any, services), cast(Any, None), Throttle(), version="0")
    found = {}
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in set(handler.http_methods) - {"OPTIONS"}:
                if not route.path_format.startswith("/docs"):
                    found[f"{method} {route.path_format}"] = handler.opt.get("access", "admin")
    return found


@cache
def documented_routes() -> dict[str, str]:
    return dict(re.findall(r"^\| `([A-Z]+ /[^`]*)` \| ([a-z-]+) \|", HTTP, re.M))


def test_the_application_has_routes_to_look_at() -> None:
    assert routes()["GET /health/live"] == "public" and len(routes()) > 20


@pytest.mark.parametrize("route", [pytest.param(route, id=route) for route in sorted(routes())])
def test_every_route_is_documented_with_its_least_role(route: str) -> None:
    assert documented_routes().get(route) == routes()[route]


def test_no_documented_route_is_gone() -> None:
    assert documented_routes().keys() - routes().keys() == set()


def test_every_field_of_a_rollout_policy_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.<>]+)` \| ([^|]+?) \|", HTTP.partition("### Policy")[2], re.M))
    expected = {}
    for prefix, kind in (("segments.<segment>.", SegmentPolicy), ("failure.", FailurePolicy), ("", Policy)):
        for name in kind.__struct_fields__:
            if kind is not Policy or name not in ("segments", "failure"):
                value = getattr(kind(), name)
                expected[prefix + name] = "null" if value is None else str(value)
    assert rows == expected


def test_every_field_that_operators_may_change_is_documented() -> None:
    (row,) = re.findall(r"^\| `PATCH /devices/\{device_id\}` .*$", HTTP, re.M)
    assert set(DevicePatch.__struct_fields__) - set(re.findall(r"`([a-z_]+)`", row)) == set()


def test_every_trust_check_is_documented() -> None:
    named = re.findall(
        r"`([a-z_]+)`", (DOCS / "trust.md").read_text().partition("## What a device checks")[2]
    )
    assert set(CHECKS) - set(named) == set()


# Commands


def _click_options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len)
    for child in getattr(command, "commands", {}).values():
        yield from _click_options(child)


def _argparse_options(
    parser: argparse.ArgumentParser, *, only: str = "", leave_out: str = ""
) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            # What is not listed in the help is the agent's own.
            for listed in action._choices_actions:
                if listed.dest != leave_out and only in ("", listed.dest):
                    yield from _argparse_options(action.choices[listed.dest])
        else:
            yield from (option for option in action.option_strings if option.startswith("--"))


OPTIONS = [
    pytest.param(page, option, id=f"{page} {option}")
    for page, options in (
        ("hub.md", _click_options(hub_main)),
        ("cli.md", _click_options(cli)),
        ("agent.md", _argparse_options(edge.verbs.parser.build(), leave_out="simulate")),
        ("simulate.md", _argparse_options(edge.verbs.parser.build(), only="simulate")),
    )
    for option in sorted(set(options))
    if option not in ("--help", "--version")
]


@pytest.mark.parametrize(("page", "option"), OPTIONS)
def test_every_option_is_documented(page: str, option: str) -> None:
    assert re.search(rf"{option}\b", (DOCS / page).read_text()), f"docs/{page} says nothing of {option}"


def test_options_of_the_hub_are_documented_with_their_defaults() -> None:
    rows = dict(
        re.findall(
            r"^\| `(--[a-z-]+)` \| (.+?) \|",
            (DOCS / "hub.md").read_text().partition("## Options")[2].partition("\n## ")[0],
            re.M,
        )
    )
    (up,) = hub_main.commands.values()
    for option in up.params:
        assert isinstance(option, click.Option)
        if option.required:
            assert rows[option.opts[0]] == "required"
        elif isinstance(option.default, bool):
            assert rows[option.opts[0]] == ("on" if option.default else "off")
        elif option.default != "":
            assert rows[option.opts[0]].strip("`") == str(option.default)
        else:
            assert rows[option.opts[0]].startswith(("as ", "nowhere", "none"))
    assert {name[2:].replace("-", "_") for name in rows} == set(Settings.__struct_fields__)


@pytest.mark.parametrize("page", pages())
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^\$ |`)(?:[A-Z]+=\S+ )?make ([a-z-]+)", page.read_text(), re.M))
    assert named <= targets


# Files and links


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_to_something_in_the_repository(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }


@pytest.mark.parametrize("page", pages())
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    named = re.findall(rf"`({OURS}/[\w./-]*)(?:`|[^\w./-])", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_every_module_in_the_drawings_of_the_architecture_exists() -> None:
    drawings = FENCE.findall((DOCS / "architecture.md").read_text())
    named = set(re.findall(r"\b(?:topics|hub|edge)/[a-z_]+(?:/[a-z_]+)*", "\n".join(drawings)))
    assert len(named) > 20
    assert {
        name for name in named if not ((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file())
    } == set()


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", index)}
    expected = {path for path in _pages() if path.is_relative_to(DOCS)} - {DOCS / "README.md"}
    assert expected - linked == set()


def test_decisions_are_numbered_without_gaps_and_dated() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}: ")
        assert re.match(r"\d{4}-\d\d-\d\d$", text.splitlines()[2])
        assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Consequences"]
