"""`flaghoist release build`, `sign`, `verify`, `publish`: from a git commit to a release that the hub knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
from nacl.signing import SigningKey
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from hub.cli import builder, compress, output, releasefolder, verify
from hub.cli.api import Hub
from hub.cli.errors import NotTrusted, Refused
from hub.cli.export import export
from hub.cli.exportsingle import export_file
from hub.cli.files import read_small
from hub.cli.gitrepo import Repository
from hub.cli.options import (
    FLEET,
    ROLE,
    connect,
    file_argument,
    hub_options,
    json_option,
    token_file_option,
    url_option,
)
from hub.cli.passphrase import load_key, passphrase_option
from hub.cli.promotions import add_to, path_of, show_release
from hub.cli.roots import now_ms, read_root
from hub.errors import SetupError
from hub.identity.files import write_atomic
from topics import codec, envelope
from topics.channels import RELEASE_LIMIT
from topics.documents import Release
from topics.errors import DecodeError

CHUNK = 256 * 1024


@click.group()
def release() -> None:
    """Build, sign, verify, publish and steer releases."""


@release.command()
@click.option(
    "--role", required=True, type=ROLE, help="Role to build: the folder roles/ROLE of the repository."
)
@click.option(
    "--repo", type=file_argument, default=Path(), show_default=True, help="The fleet's git repository."
)
@click.option(
    "--commit", "revision", default="HEAD", show_default=True, help="Commit to build, not the work tree."
)
@click.option(
    "--sequence",
    type=click.IntRange(1, 2**53),
    help="Number of the release; default the hub's highest, plus one.",
)
@click.option("--fleet", required=True, type=FLEET, help="Name of the fleet.")
@click.option(
    "--out", type=file_argument, default=Path("releases"), show_default=True, help="Folder to build below."
)
@url_option
@token_file_option
@json_option
def build(
    role: str,
    repo: Path,
    revision: str,
    sequence: int | None,
    fleet: str,
    out: Path,
    url: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Build the bundle and the unsigned release of a role; the same commit gives the same bytes."""
    repository = Repository(repo)
    commit = repository.commit(revision)
    if sequence is None:
        if not url:
            raise click.UsageError(
                "no sequence is given; give --sequence, or set FLAGHOIST_URL to ask the hub"
            )
        hub = connect(url, token_file)
        sequence = 1 + max((int(item["sequence"]) for item in hub.items("/releases", role=role)), default=0)
    try:
        built = builder.build(repository, commit, role=role, fleet=fleet, sequence=sequence, out=out)
    except builder.Faulty as error:
        if as_json:
            output.emit_json({"findings": error.findings})
        elif len(error.findings) > 1:
            output.findings(error.findings)
        raise
    made = built.release
    if as_json:
        output.emit_json(
            {
                "id": made.id,
                "folder": str(built.folder),
                "new": built.new,
                "release": made,
                "findings": built.findings,
                "compressor": compress.NAME,
            }
        )
        return
    output.findings(built.findings)
    output.fields(
        [
            ("release", made.id),
            ("folder", built.folder),
            ("commit", made.commit),
            ("version", made.version),
            ("bundle", f"{made.bundle.size} bytes, sha256 {made.bundle.sha256}"),
            ("packed by", compress.NAME),
        ]
    )
    if not built.new:
        output.remark("it was there already, with the same bytes")


@release.command()
@click.argument("folder", type=file_argument)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    required=True,
    type=file_argument,
    help="Private release key; may be given several times, and people may sign one after another.",
)
@passphrase_option
@json_option
def sign(folder: Path, key_files: tuple[Path, ...], as_json: bool) -> None:
    """Sign a built release, after checking that its bundle is the one it names."""
    keys = [load_key(path) for path in key_files]
    payload, made = verify.read_payload(folder)
    verify.require_bundle(folder, made)
    data = _signed(folder, payload, keys)
    signers = [entry.keyid for entry in verify.open_signed(folder, data).signatures]
    write_atomic(folder / releasefolder.ENVELOPE, data, 0o644)
    if as_json:
        output.emit_json({"id": made.id, "file": str(folder / releasefolder.ENVELOPE), "signatures": signers})
        return
    output.fields([("release", made.id), ("signed by", " ".join(signers))])


@release.command("verify")
@click.argument("folder", type=file_argument)
@click.option("--root", "root_file", required=True, type=file_argument, help="Root of trust to judge by.")
@json_option
def verify_command(folder: Path, root_file: Path, as_json: bool) -> None:
    """Make every check that the hub and the devices will make, and say what came of each."""
    _, root = read_root(root_file)
    checks, made = verify.signature_checks(verify.read_envelope(folder), root, now=now_ms())
    if made is not None:
        checks += verify.bundle_checks(folder, made)
    # A signature by a stranger is told, but takes nothing away from the others.
    failed = [check for check in checks if not check.ok and not check.name.startswith("signature ")]
    if as_json:
        output.emit_json(
            {
                "trusted": not failed,
                "release": made.id if made else None,
                "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
            }
        )
    else:
        output.table(
            ("check", "result", "detail"),
            [(check.name, "ok" if check.ok else "FAILED", check.detail) for check in checks],
        )
    if failed:
        raise NotTrusted(f"{folder} must not be published: {failed[0].name} failed ({failed[0].detail})")


@release.command()
@click.argument("folder", type=file_argument)
@click.option(
    "--policy",
    "policy_file",
    type=file_argument,
    help="Rollout policy; default the role's rollout.json as it was built.",
)
@json_option
@hub_options
def publish(folder: Path, policy_file: Path | None, as_json: bool, hub: Hub) -> None:
    """Declare a signed release to the hub and upload its bundle; nothing is offered to devices yet."""
    data = verify.read_envelope(folder)
    made = _declared(folder, data)
    verify.require_bundle(folder, made)
    body: dict[str, Any] = {"envelope": data}
    policy = _policy(folder, policy_file)
    if policy is not None:
        body["policy"] = policy
    answer = hub.read(hub.post("/releases", body), dict[str, Any])
    # The hub answers the release it has when the same envelope comes again: after a broken upload, or when its disk
    # has lost the bundle since, go on there.
    if answer.get("state") in ("draft", "validated") or not _is_held(hub, made):
        _upload(hub, folder / releasefolder.BUNDLE, made)
        if not _is_held(hub, made):
            raise Refused(
                f"the hub took the bundle of {made.id} and does not hold it whole; look at its disk and its log"
            )
        answer = hub.read(hub.get(path_of(made.id)), dict[str, Any])
    show_release(answer, as_json=as_json)


def _signed(folder: Path, payload: bytes, keys: list[SigningKey]) -> bytes:
    path = folder / releasefolder.ENVELOPE
    if not path.exists():
        return envelope.sign(payload, "release", keys)
    data = verify.read_envelope(folder)
    opened = verify.open_signed(folder, data)
    if (opened.payload, opened.payloadType) != (payload, envelope.payload_type("release")):
        raise NotTrusted(
            f"{path} is of another release than {folder / releasefolder.PAYLOAD}; delete it and sign anew"
        )
    for key in keys:
        data = envelope.add_signature(data, key, limit=RELEASE_LIMIT)
    return data


def _declared(folder: Path, data: bytes) -> Release:
    """Return what the envelope says, unverified: whom to trust is the hub's decision."""
    payload = verify.open_signed(folder, data).payload
    try:
        return codec.decode_signed(payload, Release, limit=RELEASE_LIMIT)
    except DecodeError as error:
        raise NotTrusted(
            f"{folder / releasefolder.ENVELOPE} holds no release ({error.detail}); sign it again"
        ) from None


def _policy(folder: Path, given: Path | None) -> dict[str, object] | None:
    path = given or folder / releasefolder.POLICY
    if given is None and not path.exists():
        return None
    return builder.check_policy(read_small(path, "a rollout policy"), str(path))


def _is_held(hub: Hub, made: Release) -> bool:
    return hub.holds(f"/artifacts/{made.role}/{made.id}/bundle", f'"{made.bundle.sha256}"')


def _upload(hub: Hub, path: Path, made: Release) -> None:
    try:
        with path.open("rb") as file:
            chunks = _with_progress(file, made) if sys.stderr.isatty() else _chunks(file)
            hub.post_bytes(f"/artifacts/{made.role}/{made.id}", chunks, made.bundle.size, "application/gzip")
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); build the release again") from None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _with_progress(file: IO[bytes], made: Release) -> Iterator[bytes]:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"uploading {made.id}", total=made.bundle.size)
        for chunk in _chunks(file):
            yield chunk
            progress.advance(task, len(chunk))


add_to(release)
release.add_command(export)
release.add_command(export_file)
