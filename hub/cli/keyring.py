"""`flaghoist keys`: make and show signing keys. The hub never sees these commands' files."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli import output
from hub.cli.options import file_argument, json_option
from hub.identity import keys as keyfiles


@click.group()
def keys() -> None:
    """Make and show the keys that sign roots and releases."""


@keys.command()
@click.argument("name")
@click.option("--out", "folder", type=file_argument, default=Path(), help="Folder; default the present one.")
@json_option
def generate(name: str, folder: Path, as_json: bool) -> None:
    """Make NAME.key, which signs and stays with its owner, and NAME.pub, which is handed out."""
    key = keyfiles.generate()
    private, public = keyfiles.save(folder, name, key)
    half = keyfiles.public(name, key)
    if as_json:
        output.emit_json({"private": str(private), "public": str(public), "keyid": half.keyid})
        return
    output.fields([("private key", private), ("public key", public), ("keyid", half.keyid)])


@keys.command()
@click.argument("file", type=file_argument)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the public half of a key file, NAME.pub or NAME.key."""
    half = keyfiles.load_public(file)
    if as_json:
        output.emit_json(half)
        return
    output.fields([("name", half.name), ("keyid", half.keyid), ("public key", half.public_key)])
