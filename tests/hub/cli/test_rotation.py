"""Following one root with the next: devices go along when both roots' keys have signed, and only then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.cli.rootdoc import MAX_KEYS
from tests.hub.cli.conftest import Flaghoist, Signers
from topics import envelope, trust
from topics.errors import TrustError


@pytest.fixture
def first(flaghoist: Flaghoist, signers: Signers, tmp_path: Path) -> Path:
    out = tmp_path / "root.1.dsse"
    ran = flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", signers.pub("hub"), "--out", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return out


def pinned(first: Path) -> trust.TrustState:
    return trust.pin_root(first.read_bytes(), trust.sha256(first.read_bytes()))


def keyid(signers: Signers, name: str) -> str:
    return str(json.loads(signers.pub(name).read_text())["keyid"])


def test_a_root_is_renewed_with_the_same_keys(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    ran = flaghoist("root", "next", first, "--key", signers.key("root"), "--expires-days", 900, "--json")
    assert (ran.code, ran.json["missing"]) == (0, "")
    state = trust.advance_root(pinned(first), (tmp_path / "root.2.dsse").read_bytes())
    before = pinned(first).root
    assert (state.root.version, state.root.roles, state.root.keys) == (2, before.roles, before.keys)
    assert state.root.expires_at > before.expires_at
    again = flaghoist("root", "next", first, "--key", signers.key("root"))
    assert (again.code, again.err) == (
        3,
        f"flaghoist: {tmp_path}/root.2.dsse already exists; sign it with `flaghoist root sign`, "
        "or choose another --out\n",
    )


def test_a_release_key_is_replaced_and_the_others_stay(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    flaghoist(
        "root", "next", first, "--key", signers.key("root"), "--release-key", signers.pub("two"), "--out", out
    )  # fmt: skip
    state = trust.advance_root(pinned(first), out.read_bytes())
    assert set(trust.keys_of(state.root, "release")[0]) == {keyid(signers, "two")}
    assert set(trust.keys_of(state.root, "deployment")[0]) == {keyid(signers, "hub")}
    assert keyid(signers, "one") not in state.root.keys


def test_a_new_root_key_needs_the_old_one_too(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    out = tmp_path / "root.2.dsse"
    ran = flaghoist(
        "root", "next", first, "--key", signers.key("two"), "--root-key", signers.pub("two"), "--json"
    )  # fmt: skip
    assert (ran.code, ran.json["missing"]) == (0, "0 of 1 needed signatures by known root keys")
    with pytest.raises(TrustError):
        trust.advance_root(pinned(first), out.read_bytes())
    signed = flaghoist("root", "sign", out, "--previous", first, "--key", signers.key("root"))
    assert (signed.code, signed.out.splitlines()[-1]) == (0, "missing\tnothing")
    assert trust.advance_root(pinned(first), out.read_bytes()).root.version == 2


def test_people_sign_a_root_one_after_another(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    out = tmp_path / "root.2.dsse"
    ran = flaghoist(
        "root", "next", first, "--key", signers.key("root"), "--threshold", "root=2",
        "--root-key", signers.pub("root"), "--root-key", signers.pub("two"), "--json",
    )  # fmt: skip
    assert ran.json["missing"] == "1 of 2 needed signatures by known root keys"
    shown = flaghoist("root", "show", out)
    assert (shown.code, shown.err) == (
        5,
        f"flaghoist: {out} is not a root document signed by the keys it names "
        "(1 of 2 needed signatures by known root keys); ask for the file again\n",
    )
    assert flaghoist("root", "sign", out, "--previous", first, "--key", signers.key("two")).code == 0
    assert flaghoist("root", "show", out).code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"\x80",
            "{path} is not a root document (envelope: invalid: Object missing required field `payload`); "
            "ask for the file again",
            id="no-envelope",
        ),
        pytest.param(
            envelope.sign(b"\x80", "release", []),
            "{path} is a document of type application/vnd.flaghoist.release+msgpack;v=1; root keys sign roots only",
            id="a-release",
        ),
        pytest.param(
            envelope.sign(b"\x80", "root", []),
            "{path} is not a root document (Object missing required field `fleet`); ask for the file again",
            id="an-empty-root",
        ),
        pytest.param(
            None,
            "{path} is root 1 of acme, which cannot follow root 1 of acme; check --previous",
            id="the-same-root",
        ),
    ],
)
def test_root_keys_sign_nothing_but_the_root_that_follows(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "other"
    path.write_bytes(content or first.read_bytes())
    before = path.read_bytes()
    ran = flaghoist("root", "sign", path, "--previous", first, "--key", signers.key("root"))
    assert (ran.code, ran.err) == (5, f"flaghoist: {message.format(path=path)}\n")
    assert path.read_bytes() == before


def test_more_keys_than_a_root_may_name_are_refused(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    options: list[object] = []
    for number in range(MAX_KEYS + 1):
        flaghoist("keys", "generate", f"k{number}", "--no-passphrase", "--out", tmp_path / "many")
        options += ["--release-key", tmp_path / "many" / f"k{number}.pub"]
    ran = flaghoist("root", "next", first, "--key", signers.key("root"), *options)
    assert (ran.code, ran.err) == (
        2,
        "flaghoist: 17 release keys are too many; a root names 16 at most (see `flaghoist root next --help`)\n",
    )
