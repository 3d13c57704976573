"""The style that a page has in it is allowed by its hash, as browsers compute it."""

from __future__ import annotations

import subprocess
from base64 import b64encode

import pytest

from hub.inline import style_sources

MARGIN = "p { margin: 0 }"


@pytest.mark.parametrize(
    ("page", "styles"),
    [
        pytest.param("<p>plain</p>", [], id="none"),
        pytest.param(f"<style>{MARGIN}</style>", [MARGIN], id="one"),
        pytest.param(f"<style>\n{MARGIN}\n</style><style>b</style>", [f"\n{MARGIN}\n", "b"], id="two, with lines"),
        pytest.param("<style>é</style>", ["é"], id="as UTF-8"),
    ],
)  # fmt: skip
def test_what_a_page_may_be_styled_by(page: str, styles: list[str]) -> None:
    def digest(style: str) -> bytes:
        command = ["sha256sum", "-b"]
        told = subprocess.run(command, input=style.encode(), capture_output=True, check=True).stdout
        return bytes.fromhex(told.split()[0].decode())

    expected = [f"'sha256-{b64encode(digest(style)).decode()}'" for style in styles]
    assert style_sources(page) == (" ".join(expected) or "'none'")
