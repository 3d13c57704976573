"""From a role's folder in a git commit to a folder with a bundle and an unsigned release."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.artifacts.lint import role as lint
from hub.artifacts.lint.findings import Finding, errors
from hub.artifacts.lint.source import TEXT_LIMIT
from hub.artifacts.verify import verify_bundle
from hub.cli import compress, members, pack
from hub.cli.errors import Refused
from hub.cli.gitrepo import Blobs, Commit, Entry, Repository
from hub.cli.releasefolder import BUNDLE, CHECKSUMS, PAYLOAD, POLICY
from hub.errors import Invalid, SetupError
from topics import bundle, codec
from topics.bundle import BundleInfo
from topics.channels import RELEASE_LIMIT
from topics.documents import Bundle, Release
from topics.names import make_release_id
from topics.trust import sha256

CHANGELOG_LIMIT: Final = 1024
SIGNATURES_ROOM: Final = 1024
"""Bytes that an envelope needs beside its payload, for several signatures."""


class Faulty(Refused):
    """The role has errors; `findings` are all that was found, warnings included."""

    def __init__(self, folder: str, findings: list[Finding]) -> None:
        first, *others = errors(findings)
        super().__init__(
            f"{folder} has {len(others) + 1} errors, the first: {first.sentence}"
            if others
            else first.sentence
        )
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Built:
    """A built release: its folder, itself, whether the folder is `new`, and what was found (warnings only)."""

    folder: Path
    release: Release
    new: bool
    findings: list[Finding]


def build(
    repository: Repository, commit: Commit, *, role: str, fleet: str, sequence: int, out: Path
) -> Built:
    """Build the release of `role` at `commit` below `out`.

    The same arguments give the same bytes, so a folder that is already there is left as it is, signatures
    included, when it holds the same release. Raises `Refused` and `SetupError`.
    """
    compress.check()
    folder = f"roles/{role}"
    entries = repository.entries(commit.oid, folder)
    chosen, found = members.choose(entries, folder)
    target = out / make_release_id(role, sequence, commit.oid)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=out) as scratch:
            made = Path(scratch) / target.name
            made.mkdir()
            with repository.blobs() as blobs:
                info, found = _judge(chosen, found, blobs, role, folder)
                policy = _policy(entries, folder, blobs)
                packed = _pack(made / BUNDLE, chosen, blobs)
            release = make_release(info, packed, commit, fleet=fleet, sequence=sequence)
            # The hub's own judgement, asked before anybody signs what it would not take.
            (made / CHECKSUMS).write_bytes(verify_bundle(made / BUNDLE, release))
            (made / PAYLOAD).write_bytes(codec.encode(release))
            if policy is not None:
                (made / POLICY).write_bytes(policy)
            return Built(target, release, _put(made, target), found)
    except Invalid as error:
        raise Refused(f"{folder} makes no bundle that a hub would take: {error.detail.rstrip('.')}") from None
    except OSError as error:
        raise SetupError(
            f"cannot write below {out} ({error.strerror}); choose another --out or free some space"
        ) from None


def _judge(
    chosen: list[members.Member], found: list[Finding], blobs: Blobs, role: str, folder: str
) -> tuple[BundleInfo, list[Finding]]:
    entries = {member.path: member.entry for member in chosen}
    judged = lint.judge(
        [member.source for member in chosen],
        lambda file: blobs.read(entries[file.path]),
        folder=f"{folder}/",
        role=role,
    )
    found = [*found, *judged.findings]
    if judged.info is None or errors(found):
        raise Faulty(folder, found)
    return judged.info, found


def make_release(
    info: BundleInfo, packed: pack.Packed, commit: Commit, *, fleet: str, sequence: int
) -> Release:
    """Return the release document. Its time is the commit's, so that building again gives the same bytes."""
    release = Release(
        fleet=fleet,
        id=make_release_id(info.role, sequence, commit.oid),
        role=info.role,
        commit=commit.oid,
        sequence=sequence,
        version=info.version,
        bundle=Bundle(sha256=packed.sha256, size=packed.size, tar_sha256=packed.tar_sha256),
        checksums=sha256(bundle.checksums_bytes(packed.files)),
        compose_sha256=packed.compose_sha256,
        hook=info.hook,
        created_at=commit.committed_at,
        floor=info.floor,
        feature_flags=info.feature_flags,
        migration=info.migration,
        requires=info.requires,
        changelog=_shortened(commit.message),
    )
    if info.floor > sequence:
        raise Refused(
            f"floor {info.floor} in bundle.json is above sequence {sequence}, so no device could take the release; "
            "lower the floor"
        )
    size = len(codec.encode(release))
    if size > RELEASE_LIMIT - SIGNATURES_ROOM:
        raise Refused(
            f"the release document has {size} bytes, devices read {RELEASE_LIMIT - SIGNATURES_ROOM}; "
            "shorten feature_flags and migration in bundle.json"
        )
    return release


def _shortened(message: str) -> str:
    # NUL and lone surrogates (a commit in another encoding) cannot stand in a document.
    text = message.replace("\0", "").encode(errors="replace").decode()
    return (
        text
        if len(text.encode()) <= CHANGELOG_LIMIT
        else text.encode()[: CHANGELOG_LIMIT - 3].decode(errors="ignore") + "…"
    )


def _pack(path: Path, chosen: list[members.Member], blobs: Blobs) -> pack.Packed:
    with path.open("wb") as file:
        return pack.write(file, chosen, lambda member: blobs.open(member.entry))


def _policy(entries: list[Entry], folder: str, blobs: Blobs) -> bytes | None:
    entry = next((entry for entry in entries if entry.path == members.POLICY), None)
    if entry is None:
        return None
    if entry.size > TEXT_LIMIT:
        raise Refused(f"{folder}/{members.POLICY} is larger than {TEXT_LIMIT} bytes; it is not a policy")
    data = blobs.read(entry)
    check_policy(data, f"{folder}/{members.POLICY}")
    return data


def check_policy(data: bytes, where: str) -> dict[str, object]:
    """Return the JSON object of a rollout policy; the hub judges its content. Raises `Refused`."""
    try:
        policy = json.loads(data)
    except (ValueError, RecursionError):
        policy = None
    if not isinstance(policy, dict):
        raise Refused(f"{where} is not a JSON object; docs/bundle.md shows a rollout policy")
    return policy


def _put(made: Path, target: Path) -> bool:
    if not target.exists():
        made.rename(target)
        return True
    for name in (BUNDLE, CHECKSUMS, PAYLOAD):
        there = target / name
        if not there.is_file() or there.read_bytes() != (made / name).read_bytes():
            raise Refused(f"{target} holds another build of this release; delete it, or choose another --out")
    # The policy is not part of what is signed, so the newest one counts.
    if (made / POLICY).exists():
        shutil.copyfile(made / POLICY, target / POLICY)
    return False
