"""`flaghoist release export`: what devices read from the hub as plain files, for a CDN or a Git mirror.

The layout is docs/reference/export.md. Blobs, bundles and releases are written first, roots next, manifests last:
whoever reads meanwhile finds no manifest whose release is not there. Nothing is written that the newest root does
not vouch for.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from hub.artifacts.packing import pack
from hub.artifacts.verify import verify_bundle
from hub.cli import output
from hub.cli.api import Hub, HubRefused
from hub.cli.errors import NotTrusted
from hub.cli.exportfiles import ExportFolder
from hub.cli.options import file_argument, hub_options, json_option
from hub.errors import Invalid, SetupError
from topics import bundle, changes, codec, envelope, trust
from topics.bundle import Checksums
from topics.channels import MANIFEST_LIMIT
from topics.documents import Desired, Manifest, Release, Root
from topics.errors import DecodeError, TrustError
from topics.names import SEGMENTS


@dataclass
class Exported:
    """What an export holds: roots by version, documents, releases and their checksums by id."""

    roots: list[bytes] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    checksums: dict[str, Checksums] = field(default_factory=dict)


@click.command("export")
@click.argument("folder", metavar="DIR", type=file_argument)
@click.option("--desired", is_flag=True, help="Export every device's desired state too.")
@click.option("--prune", is_flag=True, help="Remove files of earlier exports that nothing names any longer.")
@json_option
@hub_options
def export(folder: Path, desired: bool, prune: bool, as_json: bool, hub: Hub) -> None:
    """Write manifests, releases, bundles and blobs as plain files that any web server can serve."""
    target = ExportFolder(folder)
    made = Exported(roots=roots_of(hub))
    root = open_roots(made.roots)
    envelopes = _read_documents(hub, root, made, desired=desired)
    names: list[str] = []
    for data in envelopes:
        release = trusted(root, data)
        if release.id not in made.releases:
            made.releases[release.id] = release
            names += _export_release(hub, target, release, data, made)
    names += _export_changes(target, made)
    for version, data in enumerate(made.roots, 1):
        names.append(f"trust/roots/{version}")
        target.write(names[-1], data)
    for name, data in made.documents.items():
        names.append(name)
        target.write(name, data)
    manifests = sorted(name for name in made.documents if name.startswith("manifests/"))
    summary = {
        "format": 1,
        "fleet": root.fleet,
        "releases": sorted(made.releases),
        "manifests": manifests,
        "roots": root.version,
    }
    target.write("export.json", msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    removed = target.prune(names) if prune else 0
    if as_json:
        output.emit_json({**summary, "written": target.written, "removed": removed})
        return
    output.fields(
        [
            ("folder", folder),
            ("releases", len(made.releases)),
            ("manifests", len(manifests)),
            ("written", f"{target.written} files"),
            ("removed", f"{removed} files"),
        ]
    )


def roots_of(hub: Hub) -> list[bytes]:
    """Return every root of the hub, oldest first."""
    found: list[bytes] = []
    while True:
        try:
            found.append(hub.get(f"/trust/roots/{len(found) + 1}"))
        except HubRefused as error:
            if error.status == 404 and found:
                return found
            raise


def open_roots(roots: list[bytes]) -> Root:
    """Return the last of `roots`; raises `NotTrusted` when one does not follow from that before it."""
    try:
        state = trust.pin_root(roots[0], trust.sha256(roots[0]))
        for data in roots[1:]:
            state = trust.advance_root(state, data)
    except TrustError as error:
        raise NotTrusted(
            f"the hub's roots do not follow each other ({error.detail}); ask who runs it"
        ) from None
    return state.root


def _read_documents(hub: Hub, root: Root, made: Exported, *, desired: bool) -> list[bytes]:
    """Read manifests and desired states into `made`; return the release envelopes that they name."""
    envelopes: list[bytes] = []
    roles = sorted({str(item["role"]) for item in hub.items("/releases")})
    for role in roles:
        for segment in SEGMENTS:
            name = f"manifests/{role}/{segment}"
            try:
                data = hub.get(f"/{name}")
            except HubRefused as error:
                if error.status == 404:
                    continue
                raise
            manifest = _document(root, data, "manifest", Manifest, name)
            made.documents[name] = data
            envelopes += [
                one for one in (manifest.stable, manifest.candidate, *manifest.waypoints) if one is not None
            ]
    if desired:
        for item in hub.items("/devices"):
            name = f"devices/{item['device_id']}/desired"
            data = hub.get(f"/{name}")
            made.documents[name] = data
            lock = _document(root, data, "desired", Desired, name).version_lock
            envelopes += [] if lock is None else [lock]
    return envelopes


def _document(root: Root, data: bytes, kind: str, type_: type[Any], name: str) -> Any:
    keys, threshold = trust.keys_of(root, "deployment")
    try:
        opened = envelope.open_envelope(data, limit=MANIFEST_LIMIT)
        payload = envelope.verify(opened, kind, keys, threshold, signer="deployment")
        return codec.decode_signed(payload, type_, limit=MANIFEST_LIMIT)
    except (TrustError, DecodeError) as error:
        raise NotTrusted(f"{name} of the hub is not trusted ({error.detail}); ask who runs it") from None


def trusted(root: Root, data: bytes) -> Release:
    """Return the release in `data`; raises `NotTrusted` when the root's release keys have not signed it."""
    try:
        return trust.open_release(root, data)
    except TrustError as error:
        raise NotTrusted(f"a release that the hub offers is not trusted ({error.detail})") from None


def _export_changes(target: ExportFolder, made: Exported) -> Iterable[str]:
    """Write what leads from each release to each other of its role: devices may go either way."""
    for new, old in itertools.permutations(made.releases.values(), 2):
        if new.role == old.role:
            name = f"artifacts/{new.role}/{new.id}/changes/{old.id}.gz"
            target.write(name, pack(changes.difference(made.checksums[old.id], made.checksums[new.id])))
            yield name


def _export_release(
    hub: Hub, target: ExportFolder, release: Release, data: bytes, made: Exported
) -> Iterable[str]:
    """Write what belongs to one release, blobs first; return the names of its files."""
    base = f"artifacts/{release.role}/{release.id}"
    checksums = hub.get(f"/{base}/checksums")
    if hashlib.sha256(checksums).hexdigest() != release.checksums:
        raise NotTrusted(f"the checksums of {release.id} are not those that were signed; publish it again")
    made.checksums[release.id] = bundle.parse_checksums(checksums)
    files = {entry.sha256: entry.size for entry in made.checksums[release.id].files}
    whole = target.holds(f"{base}/bundle", release.bundle.size)
    if not whole or not all(target.holds(f"artifacts/blobs/{sha}", size) for sha, size in files.items()):
        _fetch(hub, target, release, base)
    for sha256 in files:
        target.link(f"artifacts/blobs/{sha256}", f"{base}/blobs/{sha256}")
    target.write(f"{base}/checksums", checksums)
    target.write(f"{base}/checksums.gz", pack(checksums))
    target.write(f"{base}/release", data)
    return [
        f"{base}/bundle",
        f"{base}/checksums",
        f"{base}/checksums.gz",
        f"{base}/release",
        *(f"{place}/{sha256}" for sha256 in files for place in (f"{base}/blobs", "artifacts/blobs")),
    ]


def _fetch(hub: Hub, target: ExportFolder, release: Release, base: str) -> None:
    scratch = target.scratch(f"{base}/bundle")
    unpacking = _Unpacking(target)
    try:
        digest = hashlib.sha256()
        with scratch.open("wb") as file:
            for chunk in hub.stream(f"/{base}/bundle"):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != release.bundle.sha256:
            raise NotTrusted(f"the bundle of {release.id} is not the one that was signed; publish it again")
        verify_bundle(scratch, release, unpacking)
        unpacking.keep()
        target.put(scratch, f"{base}/bundle")
    except Invalid as error:
        raise NotTrusted(f"the bundle of {release.id} is refused: {error.detail.rstrip('.')}") from None
    except OSError as error:
        raise SetupError(f"cannot write below {scratch.parent} ({error.strerror}); free some space") from None
    finally:
        scratch.unlink(missing_ok=True)
        unpacking.drop()


class _Unpacking:
    """Writes the files of a bundle as blobs that get their names only once all of it was verified."""

    def __init__(self, target: ExportFolder) -> None:
        self._target = target
        self._done: dict[str, Path] = {}
        self._next = target.scratch("artifacts/blobs/next")
        self._file = self._next.open("wb")

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def end(self, sha256: str) -> None:
        self._file.close()
        self._done[sha256] = self._next.replace(self._target.scratch(f"artifacts/blobs/{sha256}"))
        self._file = self._next.open("wb")

    def keep(self) -> None:
        for sha256, path in self._done.items():
            self._target.put(path, f"artifacts/blobs/{sha256}")

    def drop(self) -> None:
        self._file.close()
        for path in (self._next, *self._done.values()):
            path.unlink(missing_ok=True)
