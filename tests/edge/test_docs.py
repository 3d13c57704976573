"""The pages about the agent say what the agent does: commands, options, settings, exit codes, variables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edge import errors
from edge.config import Paths, Settings
from edge.diagnose.catalogue import CHECKS
from edge.updating.hooks import Hooks, Place, Verb
from edge.verbs import parser

DOCS = Path(__file__).parents[2] / "docs"
AGENT = (DOCS / "agent.md").read_text()
HOOKS = (DOCS / "hooks.md").read_text()
SIMULATE = (DOCS / "simulate.md").read_text()


def options() -> list[str]:
    verbs = next(a for a in parser.build()._actions if isinstance(a, argparse._SubParsersAction))
    listed = [action.dest for action in verbs._choices_actions]
    return [
        *listed,
        *(o for v in listed for a in verbs.choices[v]._actions for o in a.option_strings if o != "-h"),
    ]


@pytest.mark.parametrize("name", sorted(set(options()) - {"--help"}))
def test_every_command_and_option_is_documented(name: str) -> None:
    assert f"`{name}" in AGENT + SIMULATE


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_documented_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    settings = AGENT.split("\n## Settings\n")[1].split("\n## ")[0]
    row = next(line for line in settings.splitlines() if f"`{field.name}`" in line and line.startswith("| `"))
    value = field.default
    assert (f"{value:g}" if isinstance(value, float) else str(value)) in row.split("|")[2]


@pytest.mark.parametrize("kind", errors.EdgeError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_exit_code_is_documented(kind: type[errors.EdgeError]) -> None:
    assert f" {kind.exit_code} " in AGENT.split("Exit codes:")[1].split("\n\n")[0]


@pytest.mark.parametrize("verb", get_args(Verb))
def test_every_verb_is_documented(verb: str) -> None:
    assert f"| `{verb}` |" in HOOKS


def test_every_variable_is_documented(tmp_path: Path) -> None:
    hooks = Hooks(Paths(tmp_path), device_id="a", role="b", variables={}, seconds=1)
    for name in hooks.environment(Place("a", "b")):
        assert f"`{name}`" in HOOKS


def test_the_table_of_checks_is_the_list_of_them() -> None:
    table = AGENT.split("| check | looks at |\n| --- | --- |\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| `{name}` | {about} |" for name, about in CHECKS.items()]
