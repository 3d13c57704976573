"""The watch over logs finds what it should: it judges every fleet of these tests when that ends."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from edge.identity.identity import key_pem
from tests.e2e import leaks

SEED = bytes(range(32))
KEYS = ["hub.log holds deployment.key", "hub.log holds key.pem"]


@pytest.mark.parametrize(
    ("line", "leak"),
    [
        pytest.param("all is well", [], id="nothing"),
        pytest.param("Bearer fh_0123456789abcdef", ["hub.log holds admin.token"], id="the admin's token"),
        pytest.param(SEED.hex(), KEYS, id="a key in hex"),
        pytest.param(base64.b64encode(SEED).decode(), KEYS, id="a key in base64"),
        pytest.param("token=enrolment-secret-text", ["hub.log holds a token"], id="a token that was given out"),
    ],
)  # fmt: skip
def test_what_stands_in_a_log_is_found(tmp_path: Path, line: str, leak: list[str]) -> None:
    (tmp_path / "admin.token").write_text("fh_0123456789abcdef\n")
    (tmp_path / "deployment.key").write_text(json.dumps({"secret_key": SEED.hex()}))
    (tmp_path / "key.pem").write_bytes(key_pem(SEED))
    (tmp_path / "hub.log").write_text(f"before\n{line}\nafter\n")
    assert leaks.found(tmp_path, ["enrolment-secret-text"]) == leak
