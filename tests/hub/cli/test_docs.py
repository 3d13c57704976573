"""docs/cli.md and docs/bundle.md say what the command has: every command, option, setting, exit code and field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from hub import usage
from hub.cli import errors
from hub.cli.main import cli
from hub.cli.rollouts import SETTLED, STATES
from topics.bundle import BundleInfo, ExecSpec
from topics.documents import Requires

DOCS = Path(__file__).parents[3] / "docs"
CLI = (DOCS / "cli.md").read_text()
BUNDLE = (DOCS / "bundle.md").read_text()


def commands(group: click.Command = cli, path: str = "flaghoist") -> Iterator[tuple[str, click.Command]]:
    for name, command in getattr(group, "commands", {}).items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(path: str) -> str:
    """The part of the page whose heading names the command; a heading may name several, `show ID, list`."""
    group, name = path.rsplit(" ", 1)
    for part in CLI.split("\n### ")[1:]:
        heading = part.partition("\n")[0]
        if heading.startswith(group + " ") and re.search(rf"\b{name}\b", heading.removeprefix(group)):
            return part
    return ""


@pytest.mark.parametrize(("path", "command"), [pytest.param(*row, id=row[0]) for row in commands()])
def test_every_command_and_option_is_documented_and_has_help(path: str, command: click.Command) -> None:
    text = section(path)
    assert text, f"docs/cli.md has no heading for {path}"
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in ("as_json", "url", "token_file"):
            assert any(name in text for name in option.opts), f"{path} {option.opts} is not in its section"


def test_no_heading_names_a_command_that_is_gone() -> None:
    known = {path for path, _ in commands()}
    for heading in re.findall(r"^### (flaghoist .*)$", CLI, re.M):
        group = " ".join(heading.split()[:2])
        for name in re.findall(r"\b[a-z]+(?:-[a-z]+)*\b", heading.removeprefix(group)):
            assert f"{group} {name}" in known


@pytest.mark.parametrize(
    "word",
    [
        "--url",
        "--token-file",
        "--json",
        "FLAGHOIST_URL",
        "FLAGHOIST_TOKEN",
        "FLAGHOIST_DEBUG",
        "NO_COLOR",
        "SSL_CERT_FILE",
    ],
)
def test_every_setting_is_documented(word: str) -> None:
    assert f"`{word}`" in CLI


@pytest.mark.parametrize("state", [*STATES, SETTLED])
def test_every_state_to_wait_for_is_documented(state: str) -> None:
    assert f"`{state}`" in section("flaghoist rollout watch")


def test_the_exit_codes_are_those_of_the_command() -> None:
    table = CLI.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    codes |= {0, click.UsageError.exit_code, usage.INTERRUPTED}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == codes


def test_every_field_of_bundle_json_is_documented_with_its_default() -> None:
    rows = dict(
        re.findall(
            r"^\| `([a-z_.]+)` \| ([^|]+?) \|",
            BUNDLE.partition("## bundle.json")[2].partition("## env")[0],
            re.M,
        )
    )
    expected: dict[str, object] = {}
    for prefix, kind in (("", BundleInfo), ("exec.", ExecSpec), ("requires.", Requires)):
        for entry in msgspec.structs.fields(kind):
            default = entry.default_factory() if callable(entry.default_factory) else entry.default
            expected[prefix + entry.name] = default
    del expected["exec"], expected["requires"]
    assert rows.keys() == expected.keys()
    for name, default in expected.items():
        if default is msgspec.NODEFAULT:
            assert rows[name].startswith("required"), name
        else:
            assert rows[name] == msgspec.json.encode(default).decode(), name
