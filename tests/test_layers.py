"""Layers: who may import whom, with the reason beside each rule. A house whose doors are checked stays a house."""

from __future__ import annotations

import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter import cli

ROOT = Path(__file__).parents[1]
PACKAGES = ("topics", "hub", "edge")
MAX_LINES = 500


@cache
def graph() -> grimp.ImportGraph:
    """Return who imports whom, libraries included, without what only type checkers read."""
    return grimp.build_graph(
        *PACKAGES, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_contracts_of_pyproject_hold(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert exit_code == 0, capsys.readouterr().out


def test_contracts_of_pyproject_name_modules_that_exist() -> None:
    """A rule about a module that was renamed guards nothing."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {
        module
        for contract in contracts
        for module in [*contract.get("modules", []), *contract.get("source_modules", [])]
    }
    assert named - graph().modules == set()


ONLY = [
    pytest.param(
        ("paho",), ("edge.link", "hub.broker"),
        id="only edge.link imports paho in the agent, so that the rest of it runs without a network",
    ),
    pytest.param(
        ("aiomqtt", "mqtt5"), ("hub.broker",),
        id="only hub.broker talks MQTT in the hub, so that commit-before-acknowledge has one home",
    ),
    pytest.param(
        ("sqlite3", "sqlite_utils", "psycopg"), ("hub.store",),
        id="only hub.store knows SQL drivers, so that a second engine is one folder",
    ),
    pytest.param(
        ("apscheduler",), ("hub.jobs",),
        id="only hub.jobs imports APScheduler, so that jobs have one leader and one list",
    ),
    pytest.param(
        ("nacl",), ("topics", "hub", "edge.identity"),
        id="keys are read in few places of the agent, so that few can leak one",
    ),
    pytest.param(
        ("psutil",), ("edge.machine.probes",),
        id="only edge.machine.probes asks psutil, so that readings can be simulated",
    ),
    pytest.param(
        ("cryptography", "litestar", "structlog", "rich", "httpx2", "click"), ("hub",),
        id="what is large stays in the hub, so that the agent stays small",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("libraries", "allowed"), ONLY)
def test_library_is_imported_only_by(libraries: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    offenders = {
        f"{importer} imports {library}"
        for library in libraries
        if library in graph().modules
        for importer in graph().find_modules_that_directly_import(library)
        if not within(importer, allowed)
    }
    assert offenders == set()


def test_topics_is_pure() -> None:
    """What it imports is listed whole: a new entry needs a look at whether a decision could now differ by machine."""
    found = {
        library
        for module in graph().modules
        if within(module, ("topics",))
        for library in graph().find_modules_directly_imported_by(module)
        if not within(library, ("topics",))
    }
    assert found == {
        "__future__", "base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib",
        "hmac", "math", "msgpack", "msgspec", "nacl", "re", "typing", "unicodedata", "zlib",
    }  # fmt: skip


def test_nobody_imports_in_a_circle() -> None:
    """Two modules that need each other are one module, or one of them is in the wrong place."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for module in sorted(graph().modules):
        if within(module, PACKAGES):
            imported = graph().find_modules_directly_imported_by(module)
            sorter.add(module, *sorted(name for name in imported if within(name, PACKAGES)))
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("package", (*PACKAGES, "tests"))
def test_modules_stay_small_enough_to_read(package: str) -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert too_long == {}
