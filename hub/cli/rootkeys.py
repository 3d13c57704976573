"""`flaghoist root add-key`, `remove-key` and `rotate`: the following root with one change of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from hub.cli.options import file_argument
from hub.cli.rootchain import following_options, make_next
from hub.cli.rootdoc import ROLES, parse_thresholds
from hub.cli.roots import deployment_key, read_root
from topics import envelope, trust
from topics.documents import Root, TrustRole

_role = click.option(
    "--role", required=True, type=click.Choice(ROLES), help="Whose keys change: root, release or deployment."
)
_new: Final = "Public key file; for the deployment role the hub's address will do too."


@click.command("add-key")
@click.argument("file", type=file_argument)
@click.argument("new", metavar="KEY")
@_role
@following_options
def add_key(file: Path, new: str, role: TrustRole, **following: Any) -> None:
    """Make the root that follows FILE and names KEY as well."""
    _change(file, role, lambda root, keys: [*keys, _added(root, keys, new, role)], following)


@click.command("remove-key")
@click.argument("file", type=file_argument)
@click.argument("keyid")
@_role
@following_options
def remove_key(file: Path, keyid: str, role: TrustRole, **following: Any) -> None:
    """Make the root that follows FILE and no longer names the key KEYID."""
    _change(file, role, lambda _, keys: _without(keys, keyid, role), following)


@click.command()
@click.argument("file", type=file_argument)
@click.argument("keyid")
@click.argument("new", metavar="KEY")
@_role
@following_options
def rotate(file: Path, keyid: str, new: str, role: TrustRole, **following: Any) -> None:
    """Make the root that follows FILE and names KEY in the place of the key KEYID."""
    _change(
        file,
        role,
        lambda root, keys: [*_without(keys, keyid, role), _added(root, keys, new, role)],
        following,
    )


def add_to(group: click.Group) -> None:
    """Add these commands to the `root` group."""
    for command in (add_key, remove_key, rotate):
        group.add_command(command)


def _change(
    file: Path,
    role: TrustRole,
    change: Callable[[Root, Sequence[bytes]], list[bytes]],
    following: dict[str, Any],
) -> None:
    _, present = read_root(file)
    keys = {one: list(trust.keys_of(present, one)[0].values()) for one in ROLES}
    thresholds = {one: trust.keys_of(present, one)[1] for one in ROLES}
    threshold = following.pop("threshold")
    if threshold is not None:
        thresholds = parse_thresholds(threshold, thresholds)
    keys[role] = change(present, keys[role])
    make_next(file, keys, thresholds, **following)


def _added(root: Root, keys: Sequence[bytes], text: str, role: TrustRole) -> bytes:
    key = deployment_key(text, root.fleet)
    if key in keys:
        raise click.UsageError(f"{envelope.key_id(key)} is a {role} key of this root already")
    return key


def _without(keys: Sequence[bytes], keyid: str, role: TrustRole) -> list[bytes]:
    left = [key for key in keys if envelope.key_id(key) != keyid]
    if len(left) == len(keys):
        known = " ".join(sorted(envelope.key_id(key) for key in keys))
        raise click.UsageError(f"{keyid} is no {role} key of this root; it has {known}")
    return left
