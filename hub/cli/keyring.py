"""`flaghoist keys`: make, seal and show signing keys. The hub never sees these commands' files."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli import output
from hub.cli.errors import Refused
from hub.cli.options import file_argument, json_option
from hub.cli.passphrase import new_passphrase, passphrase_option
from hub.identity import keys as keyfiles


@click.group()
def keys() -> None:
    """Make, seal and show the keys that sign roots and releases."""


@keys.command()
@click.argument("name")
@click.option("--out", "folder", type=file_argument, default=Path(), help="Folder; default the present one.")
@click.option("--no-passphrase", is_flag=True, help="Do not seal the key: whoever reads its file can sign.")
@passphrase_option
@json_option
def generate(name: str, folder: Path, no_passphrase: bool, as_json: bool) -> None:
    """Make NAME.key, which signs and stays with its owner, and NAME.pub, which is handed out."""
    passphrase = None if no_passphrase else new_passphrase(f"{name}.key")
    key = keyfiles.generate()
    private, public = keyfiles.save(folder, name, key, passphrase=passphrase)
    half = keyfiles.public(name, key)
    if as_json:
        output.emit_json(
            {
                "private": str(private),
                "public": str(public),
                "keyid": half.keyid,
                "sealed": passphrase is not None,
            }
        )
        return
    output.fields([("private key", private), ("public key", public), ("keyid", half.keyid)])


@keys.command()
@click.argument("file", type=file_argument)
@passphrase_option
@json_option
def encrypt(file: Path, as_json: bool) -> None:
    """Seal the private key in FILE, which has no passphrase yet."""
    if keyfiles.is_sealed(file):
        raise Refused(f"{file} is sealed already; make a new key if its passphrase has become known")
    key = keyfiles.load_private(file)
    keyfiles.encrypt(file, key, new_passphrase(file.name))
    half = keyfiles.load_public(file)
    if as_json:
        output.emit_json({"private": str(file), "keyid": half.keyid, "sealed": True})
        return
    output.fields([("private key", file), ("keyid", half.keyid), ("sealed", "yes")])


@keys.command()
@click.argument("file", type=file_argument)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the public half of a key file, NAME.pub or NAME.key; needs no passphrase."""
    half = keyfiles.load_public(file)
    if as_json:
        output.emit_json(half)
        return
    output.fields([("name", half.name), ("keyid", half.keyid), ("public key", half.public_key)])
