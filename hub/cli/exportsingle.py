"""`flaghoist release export-file`: one release as one file, for a technician's stick.

A plain tar of paths that the hub answers at, in the order in which `flaghoist-edge install` needs them: roots, the
signed release, its bundle. Nothing is written that the newest root does not vouch for.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import click

from hub.artifacts.verify import verify_bundle
from hub.cli import output
from hub.cli.api import Hub
from hub.cli.errors import NotTrusted
from hub.cli.export import open_roots, roots_of, trusted
from hub.cli.exportfiles import ExportFolder
from hub.cli.options import file_argument, hub_options, json_option, release_argument
from hub.cli.promotions import path_of
from hub.errors import Invalid, SetupError
from topics.documents import Release


@click.command("export-file")
@release_argument
@click.argument("file", metavar="FILE", type=file_argument)
@json_option
@hub_options
def export_file(release_id: str, file: Path, as_json: bool, hub: Hub) -> None:
    """Write one release with the roots that lead to it as one file, for a device without a network."""
    roots = roots_of(hub)
    role = hub.read(hub.get(path_of(release_id)), dict[str, Any]).get("role")
    base = f"artifacts/{role}/{release_id}"
    envelope = hub.get(f"/{base}/release")
    release = trusted(open_roots(roots), envelope)
    if (release.role, release.id) != (role, release_id):
        raise NotTrusted(f"the hub gives {release.id} for {release_id}; ask who runs it")
    folder = ExportFolder(file.parent)
    bundle, whole = folder.scratch(f"{file.name}.bundle"), folder.scratch(file.name)
    try:
        _fetch(hub, release, f"/{base}/bundle", bundle)
        with tarfile.open(whole, "w", format=tarfile.PAX_FORMAT) as tar:
            for version, data in enumerate(roots, 1):
                _add(tar, f"trust/roots/{version}", data)
            _add(tar, f"{base}/release", envelope)
            with bundle.open("rb") as content:
                tar.addfile(_member(f"{base}/bundle", release.bundle.size), content)
        folder.put(whole, file.name)
    except OSError as error:
        raise SetupError(f"cannot write {file} ({error.strerror}); choose another place") from None
    finally:
        bundle.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
    size = file.stat().st_size
    if as_json:
        output.emit_json({"file": str(file), "release": release.id, "roots": len(roots), "bytes": size})
        return
    output.fields([("file", file), ("release", release.id), ("roots", len(roots)), ("bytes", size)])


def _fetch(hub: Hub, release: Release, path: str, target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for chunk in hub.stream(path):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != release.bundle.sha256:
        raise NotTrusted(f"the bundle of {release.id} is not the one that was signed; publish it again")
    try:
        verify_bundle(target, release)
    except Invalid as error:
        raise NotTrusted(f"the bundle of {release.id} is refused: {error.detail.rstrip('.')}") from None


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


def _member(name: str, size: int) -> tarfile.TarInfo:
    # Owner, group and time stay 0: the same release gives the same file.
    member = tarfile.TarInfo(name)
    member.size = size
    return member
