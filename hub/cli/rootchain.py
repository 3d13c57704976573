"""`flaghoist root next` and `sign`: replace keys or renew a root, and gather the signatures that it needs.

A root is followed by the next version only, signed by the thresholds of both: devices go from one to the other
without having to be enrolled again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from hub.cli.errors import NotTrusted
from hub.cli.files import read_small
from hub.cli.options import file_argument, json_option
from hub.cli.passphrase import load_key, passphrase_option
from hub.cli.rootdoc import ROLES, make_root, parse_thresholds
from hub.cli.roots import DAY_MS, deployment_key, now_ms, read_root, show_root
from hub.errors import SetupError
from hub.identity import keys as keyfiles
from hub.identity.files import write_atomic
from topics import codec, envelope, trust
from topics.documents import Root, TrustRole
from topics.errors import DecodeError, TrustError


def signing_keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--key` and `--passphrase-file`."""
    key = click.option(
        "--key",
        "key_files",
        multiple=True,
        required=True,
        type=file_argument,
        help="Private root key that signs; may be given several times, and people may sign one after another.",
    )
    return key(passphrase_option(command))


def following_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command making the following root has."""
    for option in reversed(
        (
            signing_keys,
            click.option("--threshold", help="Thresholds that change, like release=2."),
            click.option("--expires-days", type=click.IntRange(1, 36_500), default=730, show_default=True),
            click.option("--out", type=file_argument, help="Where it goes; default root.N.dsse beside FILE."),
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command("next")
@click.argument("file", type=file_argument)
@click.option(
    "--root-key", "root_keys", multiple=True, type=file_argument, help="Public root keys from now on."
)
@click.option(
    "--release-key",
    "release_keys",
    multiple=True,
    type=file_argument,
    help="Public release keys from now on.",
)
@click.option(
    "--deployment-key",
    "deployment_keys",
    multiple=True,
    help="Deployment keys from now on, as for `root init`.",
)
@following_options
def next_root(
    file: Path,
    key_files: tuple[Path, ...],
    root_keys: tuple[Path, ...],
    release_keys: tuple[Path, ...],
    deployment_keys: tuple[str, ...],
    threshold: str | None,
    expires_days: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the root that follows FILE, with a new expiry and the keys that are given; others stay."""
    _, present = read_root(file)
    keys = _keys(present)
    thresholds = {role: trust.keys_of(present, role)[1] for role in ROLES}
    if root_keys:
        keys["root"] = [keyfiles.load_public(path).raw for path in root_keys]
    if release_keys:
        keys["release"] = [keyfiles.load_public(path).raw for path in release_keys]
    if deployment_keys:
        keys["deployment"] = [deployment_key(text, present.fleet) for text in deployment_keys]
    if threshold is not None:
        thresholds = parse_thresholds(threshold, thresholds)
    make_next(file, keys, thresholds, key_files, expires_days=expires_days, out=out, as_json=as_json)


def make_next(
    file: Path,
    keys: Mapping[TrustRole, list[bytes]],
    thresholds: Mapping[TrustRole, int],
    key_files: tuple[Path, ...],
    *,
    expires_days: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write and show the root that follows the one in `file`, signed by `key_files`; raises `SetupError`."""
    data, present = read_root(file)
    version = present.version + 1
    out = out or file.with_name(f"root.{version}.dsse")
    if out.exists():
        raise SetupError(f"{out} already exists; sign it with `flaghoist root sign`, or choose another --out")
    document = make_root(
        present.fleet, version, keys, thresholds, expires_at=now_ms() + expires_days * DAY_MS
    )
    signers = [load_key(path) for path in key_files]
    made = envelope.sign(codec.encode(document), "root", signers)
    write_atomic(out, made, 0o644)
    show_root(out, made, document, as_json=as_json, missing=missing(data, made))


def _keys(present: Root) -> dict[TrustRole, list[bytes]]:
    return {role: list(trust.keys_of(present, role)[0].values()) for role in ROLES}


@click.command()
@click.argument("file", type=file_argument)
@signing_keys
@click.option(
    "--previous", required=True, type=file_argument, help="The root before, whose keys have to sign too."
)
@json_option
def sign(file: Path, key_files: tuple[Path, ...], previous: Path, as_json: bool) -> None:
    """Add signatures to a root that needs several people's; show it and what it still lacks."""
    before, present = read_root(previous)
    data = read_small(file, "a root document", limit=trust.ROOT_LIMIT)
    keys = [load_key(path) for path in key_files]
    document = _following(file, data, present)
    for key in keys:
        data = envelope.add_signature(data, key, limit=trust.ROOT_LIMIT)
    write_atomic(file, data, 0o644)
    show_root(file, data, document, as_json=as_json, missing=missing(before, data))


def add_to(group: click.Group) -> None:
    """Add these commands to the `root` group."""
    for command in (next_root, sign):
        group.add_command(command)


def missing(before: bytes, data: bytes) -> str:
    """Return what a device that trusts the root `before` would still miss in `data`, "" for nothing."""
    try:
        trust.advance_root(trust.pin_root(before, trust.sha256(before)), data)
    except TrustError as error:
        return error.detail
    return ""


def _following(file: Path, data: bytes, present: Root) -> Root:
    """Return the root in `data`, whoever signed it, when it is one that may follow `present`."""
    try:
        opened = envelope.open_envelope(data, limit=trust.ROOT_LIMIT)
        if opened.payloadType != envelope.payload_type("root"):
            raise NotTrusted(f"{file} is a document of type {opened.payloadType}; root keys sign roots only")
        document = codec.decode_signed(opened.payload, Root, limit=trust.ROOT_LIMIT)
    except (TrustError, DecodeError) as error:
        raise NotTrusted(f"{file} is not a root document ({error.detail}); ask for the file again") from None
    if (document.fleet, document.version) != (present.fleet, present.version + 1):
        raise NotTrusted(
            f"{file} is root {document.version} of {document.fleet}, which cannot follow "
            f"root {present.version} of {present.fleet}; check --previous"
        )
    return document
