"""Roots, signatures and `release verify`: what is trusted, and which check refuses what is not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.cli.conftest import FakeHub, Flaghoist, Ran, Signers
from topics import envelope, trust
from topics.documents import Root


def init(flaghoist: Flaghoist, signers: Signers, out: Path, *more: object) -> Ran:
    return flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"),
        "--release-key", signers.pub("one"), "--release-key", signers.pub("two"),
        "--deployment-key", signers.pub("hub"), "--out", out, *more,
    )  # fmt: skip


@pytest.fixture
def root(flaghoist: Flaghoist, signers: Signers, tmp_path: Path) -> Path:
    """A root under which two release keys must agree."""
    out = tmp_path / "root.1.dsse"
    ran = init(flaghoist, signers, out, "--threshold", "release=2")
    assert ran.code == 0, ran.err
    return out


def sign(flaghoist: Flaghoist, built: Path, *keys: Path) -> Ran:
    return flaghoist("release", "sign", built, *(part for key in keys for part in ("--key", key)))


def test_a_root_names_its_keys_and_is_pinned_by_its_hash(
    flaghoist: Flaghoist, signers: Signers, root: Path
) -> None:
    shown = flaghoist("root", "show", root, "--json").json
    document: Root = trust.pin_root(root.read_bytes(), shown["sha256"]).root
    assert (document.fleet, document.version) == ("acme", 1)
    assert document.roles["release"].threshold == 2
    keys, _ = trust.keys_of(document, "release")
    names = {json.loads(signers.pub(name).read_text())["keyid"] for name in ("one", "two")}
    assert set(keys) == names
    assert (shown["expired"], shown["expires_at"][-1]) == (False, "Z")


def test_a_root_made_with_several_root_keys_is_signed_by_each(
    flaghoist: Flaghoist, signers: Signers, tmp_path: Path
) -> None:
    out = tmp_path / "root.1.dsse"
    ran = init(flaghoist, signers, out, "--root-key", signers.key("two"), "--threshold", "root=2")
    assert ran.code == 0, ran.err
    assert len(envelope.open_envelope(out.read_bytes(), limit=trust.ROOT_LIMIT).signatures) == 2


def test_the_deployment_key_can_be_asked_of_the_hub(
    flaghoist: Flaghoist, signers: Signers, hub: FakeHub, tmp_path: Path
) -> None:
    pub = json.loads(signers.pub("hub").read_text())
    hub.on(
        "GET /trust/deployment-key",
        (200, {"fleet": "acme", "keyid": pub["keyid"], "public_key": pub["public_key"]}),
    )
    out = tmp_path / "root.1.dsse"
    ran = flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", hub.url, "--out", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert list(trust.keys_of(trust.open_root(out.read_bytes()), "deployment")[0]) == [pub["keyid"]]


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        pytest.param(
            {"fleet": "other", "keyid": "{keyid}", "public_key": "{public_key}"}, 2,
            "the hub at {url} serves fleet 'other', not 'acme' (see `flaghoist root init --help`)",
            id="other-fleet",
        ),
        pytest.param(
            {"fleet": "acme", "keyid": "0" * 32, "public_key": "{public_key}"}, 3,
            "the hub at {url} answers a deployment key whose keyid is not its own",
            id="keyid-of-another-key",
        ),
        pytest.param(
            {"hello": "world"}, 4,
            "{url} answers with something else, so it is not a hub that this command knows; check the address",
            id="not-a-hub",
        ),
    ],
)  # fmt: skip
def test_a_wrong_answer_about_the_deployment_key_is_refused(
    flaghoist: Flaghoist, signers: Signers, hub: FakeHub, tmp_path: Path,
    answer: dict[str, str], code: int, message: str,
) -> None:  # fmt: skip
    pub = json.loads(signers.pub("hub").read_text())
    hub.on("GET /trust/deployment-key", (200, {key: text.format(**pub) for key, text in answer.items()}))
    out = tmp_path / "root.1.dsse"
    ran = flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", hub.url, "--out", out,
    )  # fmt: skip
    assert (ran.code, ran.err) == (code, f"flaghoist: {message.format(url=hub.url)}\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        pytest.param(
            ["--threshold", "release=3"], 2,
            "threshold release=3 can never be reached with 2 release keys; give more keys or a lower threshold"
            " (see `flaghoist root init --help`)",
            id="threshold-out-of-reach",
        ),
        pytest.param(
            ["--threshold", "release=2", "--release-key", "{keys}/two.pub", "--threshold", "release=3"], 2,
            "threshold release=3 can never be reached with 2 release keys; give more keys or a lower threshold"
            " (see `flaghoist root init --help`)",
            id="one-key-twice-is-one-key",
        ),
        pytest.param(
            ["--threshold", "releases=1"], 2,
            "--threshold 'releases=1' is not ROLE=NUMBER; it looks like root=1,release=2,deployment=1"
            " (see `flaghoist root init --help`)",
            id="unknown-role",
        ),
        pytest.param(
            ["--threshold", "root=1,release=0"], 2,
            "--threshold 'release=0' is not ROLE=NUMBER; it looks like root=1,release=2,deployment=1"
            " (see `flaghoist root init --help`)",
            id="threshold-zero",
        ),
        pytest.param(
            ["--root-key", "{keys}/none.key"], 3,
            "{keys}/none.key does not exist; `flaghoist keys generate` makes a key",
            id="no-such-key",
        ),
        pytest.param(
            ["--root-key", "{keys}/open.key"], 3,
            "{keys}/open.key can be read by others (mode 0644); "
            "run chmod 600 {keys}/open.key, and replace the key if anybody may have seen it",
            id="open-key",
        ),
        pytest.param(
            ["--out", "{keys}/one.pub"], 3,
            "{keys}/one.pub already exists; devices may have pinned it, so choose another --out",
            id="out-exists",
        ),
    ],
)  # fmt: skip
def test_a_root_that_cannot_be_made_is_refused(
    flaghoist: Flaghoist, signers: Signers, tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    open_key = signers.folder / "open.key"
    open_key.write_bytes(signers.key("two").read_bytes())
    open_key.chmod(0o644)
    out = tmp_path / "root.1.dsse"
    ran = init(flaghoist, signers, out, *(arg.format(keys=signers.folder) for arg in args))
    assert (ran.code, ran.err) == (code, f"flaghoist: {message.format(keys=signers.folder)}\n")
    assert not out.exists()


def test_a_file_that_is_no_root_is_refused_as_not_trusted(flaghoist: Flaghoist, tmp_path: Path) -> None:
    path = tmp_path / "root"
    path.write_bytes(b"\x81\xa1a\x01")
    ran = flaghoist("root", "show", path)
    assert (ran.code, ran.err) == (
        5,
        f"flaghoist: {path} is not a root document signed by the keys it names "
        "(envelope: invalid: Object contains unknown field `a`); ask for the file again\n",
    )


def test_people_sign_one_after_another_until_the_threshold_is_reached(
    flaghoist: Flaghoist, signers: Signers, built: Path, root: Path
) -> None:
    assert sign(flaghoist, built, signers.key("one")).code == 0
    early = flaghoist("release", "verify", built, "--root", root)
    assert early.code == 5
    assert early.err == (
        f"flaghoist: {built} must not be published: release failed "
        "(1 of 2 needed signatures by known release keys)\n"
    )
    assert sign(flaghoist, built, signers.key("one")).code == 0, "signing twice changes nothing"
    assert flaghoist("release", "verify", built, "--root", root).code == 5
    assert sign(flaghoist, built, signers.key("two")).code == 0
    enough = flaghoist("release", "verify", built, "--root", root, "--json")
    assert (enough.code, enough.err) == (0, "")
    assert enough.json["trusted"] is True
    assert [(check["name"].split()[0], check["ok"]) for check in enough.json["checks"]] == [
        ("root", True), ("signature", True), ("signature", True), ("release", True),
        ("bundle", True), ("content", True), ("checksums", True),
    ]  # fmt: skip


def test_a_strangers_signature_is_told_and_counts_for_nothing(
    flaghoist: Flaghoist, signers: Signers, built: Path, root: Path
) -> None:
    sign(flaghoist, built, signers.key("one"), signers.key("stranger"))
    ran = flaghoist("release", "verify", built, "--root", root)
    assert ran.code == 5
    assert "FAILED\tnot a release key of this root" in ran.out
    assert "(1 of 2 needed signatures" in ran.err
    sign(flaghoist, built, signers.key("two"))
    assert flaghoist("release", "verify", built, "--root", root).code == 0


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_bundle(folder: Path) -> None:
    """The same files under another compression: only the archive's own hash can tell."""
    path = folder / "bundle.tar.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=0))


def _longer_checksums(folder: Path) -> None:
    path = folder / "checksums.json"
    path.write_bytes(path.read_bytes() + b"\n")


SPOILT: list[object] = [
    pytest.param(lambda folder: _flip(folder / "bundle.tar.gz"), "bundle", id="bundle-flipped"),
    pytest.param(_other_bundle, "bundle", id="bundle-compressed-anew"),
    pytest.param(lambda folder: (folder / "bundle.tar.gz").write_bytes(b""), "bundle", id="bundle-empty"),
    pytest.param(_longer_checksums, "checksums", id="checksums-changed"),
]


@pytest.mark.parametrize(("spoil", "check"), SPOILT)
def test_a_bundle_that_was_tampered_with_is_neither_verified_signed_nor_published(
    flaghoist: Flaghoist, signers: Signers, hub: FakeHub, built: Path, root: Path,
    spoil: Callable[[Path], None], check: str,
) -> None:  # fmt: skip
    sign(flaghoist, built, signers.key("one"), signers.key("two"))
    signed = (built / "release.dsse").read_bytes()
    spoil(built)
    verified = flaghoist("release", "verify", built, "--root", root)
    assert verified.code == 5
    assert verified.err.startswith(f"flaghoist: {built} must not be published: {check} failed (")
    for command in (["sign", built, "--key", signers.key("one")], ["publish", built]):
        ran = flaghoist("release", *command)
        assert ran.code == 5
        assert ran.err.startswith(
            f"flaghoist: {built}/bundle.tar.gz is not what {built.name} names ({check}: "
        )
        assert ran.err.count("\n") == 1
    assert (built / "release.dsse").read_bytes() == signed
    assert hub.asked() == []


@pytest.mark.parametrize(
    "spoil", [pytest.param(lambda path: _flip(path), id="flipped"),
              pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="trailing-byte"),
              pytest.param(lambda path: path.write_bytes(b""), id="empty")],
)  # fmt: skip
def test_a_signed_release_that_was_tampered_with_is_refused(
    flaghoist: Flaghoist, signers: Signers, built: Path, root: Path, spoil: Callable[[Path], None]
) -> None:
    sign(flaghoist, built, signers.key("one"), signers.key("two"))
    spoil(built / "release.dsse")
    ran = flaghoist("release", "verify", built, "--root", root)
    assert ran.code == 5
    assert ran.err.startswith(f"flaghoist: {built} must not be published: ")


@pytest.mark.parametrize("kind", ["release", "root"])
def test_signatures_of_another_document_are_not_added_to(
    flaghoist: Flaghoist, signers: Signers, built: Path, kind: str
) -> None:
    payload = b"\x80" if kind == "release" else (built / "release.msgpack").read_bytes()
    (built / "release.dsse").write_bytes(envelope.sign(payload, kind, []))
    ran = sign(flaghoist, built, signers.key("one"))
    assert (ran.code, ran.err) == (
        5,
        f"flaghoist: {built}/release.dsse is of another release than {built}/release.msgpack; "
        "delete it and sign anew\n",
    )


@pytest.mark.parametrize("command", ["sign", "publish"])
def test_what_is_no_envelope_is_named(
    flaghoist: Flaghoist, signers: Signers, hub: FakeHub, built: Path, command: str
) -> None:
    (built / "release.dsse").write_bytes(b"\x80")
    key = ["--key", signers.key("one")] if command == "sign" else []
    ran = flaghoist("release", command, built, *key)
    assert (ran.code, ran.err) == (
        5,
        f"flaghoist: {built}/release.dsse is not a signed release "
        "(envelope: invalid: Object missing required field `payload`); delete it and sign anew\n",
    )
    assert hub.asked() == []


def test_an_expired_root_trusts_nothing(
    flaghoist: Flaghoist, signers: Signers, built: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(flaghoist, built, signers.key("one"), signers.key("two"))
    later = trust.open_root(root.read_bytes()).expires_at
    monkeypatch.setattr("hub.cli.releases.now_ms", lambda: later)
    ran = flaghoist("release", "verify", built, "--root", root)
    assert ran.code == 5
    assert "root failed (version 1 of fleet acme, expired)" in ran.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(
            ["sign", "{tmp}", "--key", "{keys}/one.key"],
            "{tmp}/release.msgpack does not exist; give the path of a release built by `flaghoist release build`",
            id="sign-nothing",
        ),
        pytest.param(
            ["verify", "{tmp}", "--root", "{root}"],
            "{tmp}/release.dsse does not exist; give the path of a release signed by `flaghoist release sign`",
            id="verify-nothing",
        ),
        pytest.param(
            ["verify", "{tmp}", "--root", "{tmp}/none"],
            "{tmp}/none does not exist; give the path of a root document",
            id="no-root",
        ),
        pytest.param(
            ["verify", "{tmp}", "--root", "{keys}"],
            "{keys} is a folder; give the path of a root document",
            id="root-is-a-folder",
        ),
        pytest.param(
            ["sign", "{tmp}", "--key", "{keys}/one.pub"],
            "{keys}/one.pub is not a private key file; give the NAME.key that `flaghoist keys generate` wrote",
            id="sign-with-a-public-key",
        ),
    ],
)
def test_a_missing_file_is_named(
    flaghoist: Flaghoist, signers: Signers, root: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    names = {"tmp": tmp_path, "keys": signers.folder, "root": root}
    ran = flaghoist("release", *(part.format(**names) for part in command))
    assert (ran.code, ran.err) == (3, f"flaghoist: {message.format(**names)}\n")


def test_keys_are_made_shown_and_never_overwritten(flaghoist: Flaghoist, tmp_path: Path) -> None:
    made = flaghoist("keys", "generate", "ci", "--no-passphrase", "--out", tmp_path, "--json")
    assert made.code == 0, made.err
    assert flaghoist("keys", "show", made.json["public"], "--json").json["keyid"] == made.json["keyid"]
    assert flaghoist("keys", "show", made.json["private"]).out.split() == [
        "name", "ci", "keyid", made.json["keyid"], "public", "key",
        json.loads(Path(made.json["public"]).read_text())["public_key"],
    ]  # fmt: skip
    again = flaghoist("keys", "generate", "ci", "--no-passphrase", "--out", tmp_path)
    assert (again.code, again.err) == (
        3,
        f"flaghoist: {tmp_path}/ci.key already exists; choose another name or move it away first\n",
    )
    secret = json.loads(Path(made.json["private"]).read_text())["secret_key"]
    assert secret not in made.out + flaghoist("keys", "show", made.json["private"], "--json").out
