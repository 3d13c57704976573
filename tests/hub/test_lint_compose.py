"""What a compose file is held against: the specification, what a device can run, and what its bundle holds."""

from __future__ import annotations

import pytest

from hub.artifacts.lint import compose
from hub.artifacts.lint.findings import Finding

PIN = "example.com/web:1@sha256:" + "0f" * 32
PATHS = {"bundle.json", "compose.yaml", "files/site/index.html", "files/web.env"}


def found(text: str, *, allow_unpinned: bool = False) -> list[Finding]:
    return compose.check(text, "compose.yaml", allow_unpinned=allow_unpinned, paths=PATHS, variables={"PORT"})


def service(*lines: str, more: str = "") -> str:
    return "services:\n  web:\n" + "".join(f"    {line}\n" for line in (f"image: {PIN}", *lines)) + more


GOOD = [
    pytest.param(service(), id="one-service"),
    pytest.param(service('ports: ["8080:80"]', "restart: always"), id="ports"),
    pytest.param(service("ports:", "- 22:22"), id="ports-that-yaml-1.1-reads-as-a-number"),
    pytest.param(service("volumes:", "- data:/data", more="volumes: {data: {}}\n"), id="named-volume"),
    pytest.param(service("volumes:", "- ./files/site:/srv:ro"), id="folder-of-the-bundle"),
    pytest.param(service("volumes:", "- /data"), id="anonymous-volume"),
    pytest.param(service("env_file: ${FLAGHOIST_ENV_DIR}/web.env"), id="filled-template"),
    pytest.param(service("env_file: ./files/web.env"), id="env-file-of-the-bundle"),
    pytest.param(service("environment:", "  PORT: ${PORT}"), id="variable-of-a-template"),
    pytest.param(service("environment:", "  LEVEL: ${LEVEL:-info}"), id="variable-with-a-default"),
    pytest.param(service("environment:", "  PRICE: $$5"), id="a-dollar"),
    pytest.param(service("deploy: {replicas: '${PORT}'}"), id="a-variable-where-a-number-belongs"),
    pytest.param(service("networks: [default]"), id="default-network"),
    pytest.param(service("x-note: ours"), id="extension"),
    pytest.param(
        "x-base: &base\n  restart: always\nservices:\n  web:\n    <<: *base\n    image: " + PIN + "\n",
        id="merged-map",
    ),
    pytest.param(service("post_start: [{command: ./warm}]"), id="lifecycle-hook"),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_a_device_can_run_is_accepted(text: str) -> None:
    assert found(text) == []


REFUSED = [
    pytest.param("", None, "compose_specification", id="empty"),
    pytest.param("services: [", 1, "yaml", id="cut-short"),
    pytest.param("a: 1\n---\nb: 2\n", 2, "yaml", id="two-documents"),
    pytest.param("services: &a {b: *a}\n", 1, "yaml", id="alias-in-itself"),
    pytest.param("? [a]\n: b\n", 1, "yaml", id="key-that-is-a-list"),
    pytest.param("[" * 5000, None, "yaml", id="nested-without-end"),
    pytest.param(service(f"image: {PIN}"), 4, "yaml", id="key-twice"),
    pytest.param("<<: 3\nservices: {}\n", 1, "yaml", id="merge-of-no-map"),
    pytest.param("services: 3\n", 1, "compose_specification", id="services-a-number"),
    pytest.param("services:\n  web: null\n", 2, "compose_specification", id="service-null"),
    pytest.param(service("imagee: x"), 4, "compose_specification", id="misspelt-key"),
    pytest.param(service("ports:", "  80: 80"), 4, "compose_specification", id="ports-a-map"),
    pytest.param(service("tty: [yes]"), 4, "compose_specification", id="list-for-a-switch"),
    pytest.param(service(more="web: {image: x}\n"), 4, "compose_specification", id="service-at-the-top"),
    pytest.param("services:\n  web:\n    restart: always\n", 2, "image_missing", id="no-image"),
    pytest.param("services:\n  web:\n    build: .\n", 3, "build", id="build"),
    pytest.param(service("volumes: ['data:/data']"), 4, "undefined_reference", id="unknown-volume"),
    pytest.param(service("networks:", "  back: {}"), 5, "undefined_reference", id="unknown-network"),
    pytest.param(service("secrets: [key]"), 4, "undefined_reference", id="unknown-secret"),
    pytest.param(service("depends_on: [db]"), 4, "undefined_reference", id="unknown-service"),
    pytest.param(service("volumes:", "- ./site:/srv"), 5, "not_in_bundle", id="folder-not-in-the-bundle"),
    pytest.param(service("volumes:", "- ../x:/srv"), 5, "not_in_bundle", id="folder-above-the-bundle"),
    pytest.param(
        service("volumes:", "- {type: bind, source: ./x, target: /y}"), 5, "not_in_bundle", id="long-bind"
    ),
    pytest.param(service("env_file: [.env]"), 4, "not_in_bundle", id="env-file-not-in-the-bundle"),
    pytest.param(service("extends: {file: base.yaml, service: x}"), 4, "not_in_bundle", id="extends"),
    pytest.param(service(more="include: [other.yaml]\n"), 4, "not_in_bundle", id="include"),
    pytest.param(service("configs: [a]", more="configs: {a: {file: ./a}}\n"), 5, "not_in_bundle", id="config"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "rule"), REFUSED)
def test_what_a_device_cannot_run_is_refused_by_line_and_rule(text: str, line: int | None, rule: str) -> None:
    assert [(one.line, one.rule, one.severity) for one in found(text, allow_unpinned=True)] == [
        (line, rule, "error")
    ]


TOLD = [
    pytest.param(service("volumes:", "- /etc/hosts:/etc/hosts"), 5, "host_path", id="absolute-path"),
    pytest.param(service("volumes:", "- ~/data:/data"), 5, "host_path", id="home"),
    pytest.param(service("environment:", "  LEVEL: ${LEVEL}"), 5, "undefined_variable", id="undefined"),
]


@pytest.mark.parametrize(("text", "line", "rule"), TOLD)
def test_what_may_go_wrong_on_another_device_is_told(text: str, line: int, rule: str) -> None:
    assert [(one.line, one.rule, one.severity) for one in found(text)] == [(line, rule, "warning")]


def test_all_is_found_at_once() -> None:
    text = "services:\n  a:\n    image: nginx\n    imagee: x\n  b:\n    image: $B\n    restart: [x]\n"
    assert [(one.line, one.rule) for one in found(text)] == [
        (3, "image_digest"), (6, "variable_decides_code"), (4, "compose_specification"),
        (7, "compose_specification"),
    ]  # fmt: skip


def test_aliases_that_multiply_end_at_a_bound() -> None:
    layers = [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'])}]\n" for n in range(12)]
    (one,) = found("x-a:\n" + "".join(layers))
    assert (one.rule, one.detail) == ("yaml", "is not YAML (it has too many parts, or is nested too deeply)")


def test_a_file_of_errors_is_told_up_to_a_bound() -> None:
    text = "services:\n" + "".join(f"  s{n}: {{image: {PIN}, no: 1}}\n" for n in range(200))
    assert len(found(text)) == 100
