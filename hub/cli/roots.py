"""`flaghoist root`: make, show and publish the root of trust, which says whose signatures count."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.errors import NotTrusted
from hub.cli.files import read_small
from hub.cli.options import FLEET, file_argument, hub_options, json_option
from hub.cli.passphrase import load_key, passphrase_option
from hub.cli.rootdoc import ROLES, make_root, parse_thresholds
from hub.errors import SetupError
from hub.identity import keys as keyfiles
from hub.identity.files import write_atomic
from topics import codec, envelope, trust
from topics.documents import Root, TrustRole
from topics.errors import TrustError

DAY_MS: Final = 86_400_000


class DeploymentKey(msgspec.Struct, frozen=True):
    """What `GET /trust/deployment-key` answers."""

    fleet: str
    keyid: str
    public_key: str


@click.group()
def root() -> None:
    """Make, show and publish the root of trust."""


@root.command()
@click.option("--fleet", required=True, type=FLEET, help="Name of the fleet.")
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    required=True,
    type=file_argument,
    help="Private key that signs this root and the next; may be given several times.",
)
@click.option(
    "--release-key",
    "release_keys",
    multiple=True,
    required=True,
    type=file_argument,
    help="Public key whose owner may sign releases; may be given several times.",
)
@click.option(
    "--deployment-key",
    "deployment_keys",
    multiple=True,
    required=True,
    help="Public key file of the hub, or the hub's address to ask it there.",
)
@click.option(
    "--threshold",
    default="root=1,release=1,deployment=1",
    show_default=True,
    help="How many keys of each role must agree.",
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), default=730, show_default=True)
@click.option("--out", type=file_argument, default=Path("root.1.dsse"), show_default=True)
@passphrase_option
@json_option
def init(
    fleet: str,
    root_keys: tuple[Path, ...],
    release_keys: tuple[Path, ...],
    deployment_keys: tuple[str, ...],
    threshold: str,
    expires_days: int,
    out: Path,
    as_json: bool,
) -> None:
    """Make version 1 of a fleet's root of trust, signed by the root keys."""
    thresholds = parse_thresholds(threshold, dict.fromkeys(ROLES, 1))
    if out.exists():
        raise SetupError(f"{out} already exists; devices may have pinned it, so choose another --out")
    signers = [load_key(path) for path in root_keys]
    publics: dict[TrustRole, list[bytes]] = {
        "root": [bytes(key.verify_key) for key in signers],
        "release": [keyfiles.load_public(path).raw for path in release_keys],
        "deployment": [deployment_key(text, fleet) for text in deployment_keys],
    }
    document = make_root(fleet, 1, publics, thresholds, expires_at=now_ms() + expires_days * DAY_MS)
    data = envelope.sign(codec.encode(document), "root", signers)
    write_atomic(out, data, 0o644)
    show_root(out, data, document, as_json=as_json)


@root.command()
@click.argument("file", type=file_argument)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show a root document: its keys, thresholds and expiry."""
    show_root(file, *read_root(file), as_json=as_json)


@root.command()
@click.argument("file", type=file_argument)
@json_option
@hub_options
def publish(file: Path, as_json: bool, hub: Hub) -> None:
    """Give a root document to the hub, which hands it on to devices."""
    data, document = read_root(file)
    answer = hub.post_bytes("/trust/roots", data, len(data), "application/octet-stream")
    if as_json:
        output.emit_json(hub.read(answer, dict))
        return
    output.emit(f"root {document.version} of {document.fleet} published, sha256 {trust.sha256(data)}")


def read_root(path: Path) -> tuple[bytes, Root]:
    """Return a root document's bytes and content; raises `SetupError`, and `NotTrusted` for anything else."""
    data = read_small(path, "a root document", limit=trust.ROOT_LIMIT)
    try:
        return data, trust.open_root(data)
    except TrustError as error:
        raise NotTrusted(
            f"{path} is not a root document signed by the keys it names ({error.detail}); ask for the file again"
        ) from None


def now_ms() -> int:
    """Return the time in ms."""
    return time.time_ns() // 1_000_000


def deployment_key(text: str, fleet: str) -> bytes:
    """Return the public key in a file, or of the hub at an address; raises `SetupError` and `click.UsageError`."""
    if "://" not in text:
        return keyfiles.load_public(Path(text)).raw
    hub = Hub(text, "")
    try:
        answer = hub.read(hub.get("/trust/deployment-key"), DeploymentKey)
    finally:
        hub.close()
    if answer.fleet != fleet:
        raise click.UsageError(f"the hub at {hub.url} serves fleet {answer.fleet!r}, not {fleet!r}")
    try:
        raw = bytes.fromhex(answer.public_key)
    except ValueError:
        raw = b""
    if len(raw) != 32 or envelope.key_id(raw) != answer.keyid:
        raise SetupError(f"the hub at {hub.url} answers a deployment key whose keyid is not its own")
    output.remark(f"deployment key {answer.keyid} came from {hub.url}; compare it with what the hub printed")
    return raw


def show_root(file: Path, data: bytes, document: Root, *, as_json: bool, missing: str | None = None) -> None:
    """Print a root document; `missing`, where it is asked for, says which signatures it lacks, "" for none."""
    expires = datetime.fromtimestamp(document.expires_at / 1000, UTC)
    expired = now_ms() >= document.expires_at
    if as_json:
        roles = {
            role: {"threshold": entry.threshold, "keyids": entry.keyids}
            for role, entry in document.roles.items()
        }
        output.emit_json(
            {
                "file": str(file),
                "fleet": document.fleet,
                "version": document.version,
                "roles": roles,
                "sha256": trust.sha256(data),
                "expires_at": expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "expired": expired,
                **({} if missing is None else {"missing": missing}),
            }
        )
        return
    pairs: list[tuple[str, object]] = [
        ("file", file),
        ("fleet", document.fleet),
        ("version", document.version),
        ("expires", f"{expires:%Y-%m-%d %H:%M} UTC{' (EXPIRED)' if expired else ''}"),
        ("sha256", trust.sha256(data)),
    ]
    for role in ROLES:
        entry = document.roles.get(role)
        if entry is not None:
            pairs.append((role, f"{entry.threshold} of {len(entry.keyids)}: {' '.join(entry.keyids)}"))
    if missing is not None:
        pairs.append(("missing", missing or "nothing"))
    output.fields(pairs)
