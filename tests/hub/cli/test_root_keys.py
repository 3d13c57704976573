"""Adding, removing and rotating one key of a root, and devices that follow however many roots they missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from edge.identity import trusting
from hub.identity import keys
from tests.hub.cli.conftest import Flaghoist, Ran, Signers
from topics import trust
from topics.documents import TrustRole
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


def keyid(signers: Signers, name: str) -> str:
    return str(json.loads(signers.pub(name).read_text())["keyid"])


def after(first: Path, ran: Ran) -> trust.TrustState:
    """What a device that trusts `first` believes once it has the root that was made."""
    assert ran.code == 0, ran.err
    data = first.read_bytes()
    return trust.advance_root(trust.pin_root(data, trust.sha256(data)), Path(ran.json["file"]).read_bytes())


def names(signers: Signers, state: trust.TrustState, role: TrustRole) -> set[str]:
    known = {keyid(signers, name): name for name in ("root", "one", "two", "hub", "stranger")}
    return {known[one] for one in trust.keys_of(state.root, role)[0]}


def test_a_key_is_added_with_a_higher_threshold(flaghoist: Flaghoist, signers: Signers, first: Path) -> None:
    ran = flaghoist(
        "root", "add-key", first, signers.pub("two"), "--role", "release", "--threshold", "release=2",
        "--key", signers.key("root"), "--json",
    )  # fmt: skip
    state = after(first, ran)
    assert names(signers, state, "release") == {"one", "two"}
    assert trust.keys_of(state.root, "release")[1] == 2
    assert (names(signers, state, "root"), names(signers, state, "deployment")) == ({"root"}, {"hub"})


def test_a_key_is_removed(flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path) -> None:
    added = flaghoist(
        "root", "add-key", first, signers.pub("two"), "--role", "release", "--key", signers.key("root"), "--json"
    )  # fmt: skip
    second = Path(added.json["file"])
    ran = flaghoist(
        "root", "remove-key", second, keyid(signers, "one"), "--role", "release", "--key", signers.key("root"),
        "--json",
    )  # fmt: skip
    assert ran.json["version"] == 3
    state = trusting.walk(after(first, added), [Path(ran.json["file"]).read_bytes()])
    assert names(signers, state, "release") == {"two"}


@pytest.mark.parametrize(
    ("role", "old", "new", "more"),
    [
        pytest.param("release", "one", "two", (), id="release"),
        pytest.param("deployment", "hub", "two", (), id="deployment"),
        pytest.param("root", "root", "two", ("two",), id="root-signed-by-both"),
    ],
)
def test_a_key_is_rotated(
    flaghoist: Flaghoist, signers: Signers, first: Path, role: TrustRole, old: str, new: str, more: tuple[str, ...]
) -> None:  # fmt: skip
    signing = [part for name in ("root", *more) for part in ("--key", signers.key(name))]
    ran = flaghoist(
        "root", "rotate", first, keyid(signers, old), signers.pub(new), "--role", role, *signing, "--json"
    )  # fmt: skip
    state = after(first, ran)
    assert names(signers, state, role) == {new}
    assert ran.json["missing"] == ""


REFUSED = [
    pytest.param(
        ["remove-key", "{first}", "{one}", "--role", "release"],
        "threshold release=1 can never be reached with 0 release key; give more keys or a lower threshold",
        id="the-last-key",
    ),
    pytest.param(
        ["remove-key", "{first}", "{two}", "--role", "release"],
        "{two} is no release key of this root; it has {one}",
        id="a-key-that-is-not-there",
    ),
    pytest.param(
        ["add-key", "{first}", "{keys}/one.pub", "--role", "release"],
        "{one} is a release key of this root already",
        id="a-key-that-is-there",
    ),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_a_change_that_changes_nothing_or_too_much_is_refused(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    words = {
        "first": first,
        "keys": signers.folder,
        "one": keyid(signers, "one"),
        "two": keyid(signers, "two"),
    }
    ran = flaghoist("root", *(part.format(**words) for part in command), "--key", signers.key("root"))
    assert ran.code == 2
    assert ran.err.startswith(
        f"flaghoist: {message.format(**words)} (see `flaghoist root {command[0]} --help`)"
    )
    assert not (tmp_path / "root.2.dsse").exists()


def test_a_device_that_missed_ten_rotations_goes_through_each_of_them(
    flaghoist: Flaghoist, signers: Signers, first: Path, tmp_path: Path
) -> None:
    chain, old = [first], signers.key("root")
    for number in range(2, 12):
        new, public = keys.save(tmp_path / "roots", f"root-{number}", SigningKey(bytes([100 + number]) * 32))
        ran = flaghoist(
            "root", "rotate", chain[-1], keys.load_public(old).keyid, public, "--role", "root", "--key", old,
            "--key", new, "--json",
        )  # fmt: skip
        assert (ran.code, ran.json["version"], ran.json["missing"]) == (0, number, "")
        chain.append(Path(ran.json["file"]))
        old = new
    data = [path.read_bytes() for path in chain]
    pinned = trust.pin_root(data[0], trust.sha256(data[0]))
    with pytest.raises(TrustError) as refused:
        trusting.walk(pinned, data[7:])
    assert refused.value.check in ("root_version", "root_threshold"), "no step may be left out"
    state = trusting.walk(pinned, data)
    assert state.root.version == 11
    assert set(trust.keys_of(state.root, "root")[0]) == {keys.load_public(old).keyid}
