"""What a compose file may say: images by digest, and no variable where it decides which code runs."""

from __future__ import annotations

import pytest

from hub.artifacts.lint import lines

PIN = "web:1@sha256:" + "0f" * 32


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"services:\n  web:\n    image: {PIN}\n", id="plain"),
        pytest.param(f'services:\n  web:\n    image: "{PIN}"  # why\n', id="quoted-with-comment"),
        pytest.param(f"services: {{web: {{image: {PIN}, command: serve}}}}\n", id="flow"),
        pytest.param(f'{{"services":{{"web":{{"image":"{PIN}"}}}}}}', id="json"),
        pytest.param("# image: nginx\nservices: {}\n", id="comment"),
        pytest.param(f"x:\n  image: registry.example.com:5000/a/{PIN}\n", id="registry-with-port"),
        pytest.param(
            f"web:\n  image: {PIN}\n  environment:\n    TOKEN: ${{TOKEN}}\n", id="variable-in-environment"
        ),
        pytest.param(f"web:\n  image: {PIN}\n  command: echo $$HOME\n", id="escaped-dollar"),
        pytest.param("web:\n  image-pull-policy: always\n", id="another-key"),
    ],
)
def test_accepted(text: str) -> None:
    assert lines.check(text, "compose.yaml", allow_unpinned=False) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("web:\n  image: nginx:1.27\n", 2, id="tag-only"),
        pytest.param("web:\n  image: nginx\n", 2, id="no-tag"),
        pytest.param("web:\n  image: nginx@sha256:abcd\n", 2, id="short-digest"),
        pytest.param("web:\n  image:\n    nginx\n", 2, id="value-on-the-next-line"),
        pytest.param("web:\n  image: >-\n    nginx\n", 2, id="folded-value"),
        pytest.param("x: &i nginx\nweb:\n  image: *i\n", 3, id="alias"),
        pytest.param('web:\n  "image" : nginx\n', 2, id="quoted-key"),
        pytest.param(f"a: {{image: {PIN}}}\nb: {{command: x, image: nginx}}\n", 2, id="second-in-flow"),
        pytest.param("command:\n  web:\n    image: nginx\n", 3, id="service-called-command"),
        pytest.param('{"services":{"web":{"image":"nginx"}}}', 1, id="json"),
        pytest.param(f"web:\n  image: nginx # {PIN}\n", 2, id="digest-only-in-a-comment"),
    ],
)
def test_an_image_without_a_digest_is_refused_by_its_line(text: str, line: int) -> None:
    (found,) = lines.check(text, "compose.yaml", allow_unpinned=False)
    assert (found.line, found.rule, found.severity) == (line, "image_digest", "error")
    assert lines.check(text, "compose.yaml", allow_unpinned=True) == []


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        pytest.param("web:\n  image: ${IMAGE}\n", 2, "image", id="image"),
        pytest.param(f"web:\n  image: $REGISTRY/{PIN}\n", 2, "image", id="registry"),
        pytest.param("web:\n  command: [run, $MODE]\n", 2, "command", id="command"),
        pytest.param("web:\n  command:\n    - run\n    - ${MODE:-x}\n", 4, "command", id="command-list"),
        pytest.param("web:\n  entrypoint:\n  - ${SHELL}\n", 3, "entrypoint", id="list-at-the-keys-depth"),
        pytest.param(
            "web:\n  volumes:\n    - type: bind\n      source: $D\n", 4, "volumes", id="long-volume"
        ),
        pytest.param("web:\n  command: $$$X\n", 2, "command", id="odd-dollars"),
        pytest.param("web: {environment: {A: 1}, command: $X}\n", 1, "command", id="flow"),
    ],
)
def test_a_variable_that_decides_what_runs_is_refused_even_unpinned(text: str, line: int, key: str) -> None:
    (found,) = lines.check(text, "compose.yaml", allow_unpinned=True)
    assert (found.line, found.detail) == (line, f"has a variable in '{key}'")
