"""Where the passphrase of a key comes from: a file, the environment, or whoever sits at the terminal."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from nacl.signing import SigningKey

from hub.cli import output
from hub.cli.files import read_small
from hub.cli.options import file_argument
from hub.errors import SetupError
from hub.identity import keys as keyfiles

VARIABLE: Final = "FLAGHOIST_PASSPHRASE"
LEAST: Final = 12
"""Characters of a new passphrase: argon2id makes a guess dear, not a short word long."""
_META: Final = "flaghoist.passphrase_file"


def _remember(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    ctx.meta[_META] = value


passphrase_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--passphrase-file",
    type=file_argument,
    expose_value=False,
    callback=_remember,
    help=f"File that holds the passphrase of the key; default ${VARIABLE}, else it is asked for.",
)


def load_key(path: Path) -> SigningKey:
    """Return the private key in a file, asking for its passphrase where it has one; raises `SetupError`."""
    if not keyfiles.is_sealed(path):
        key = keyfiles.load_private(path)
        output.remark(f"{path} has no passphrase; seal it with `flaghoist keys encrypt {path}`")
        return key
    given = _given()
    return keyfiles.load_private(path, given if given is not None else _ask(f"Passphrase of {path}"))


def new_passphrase(name: str) -> str:
    """Return the passphrase for a new key; raises `SetupError`, and `click.UsageError` when nobody gives one."""
    text = _given()
    if text is None and sys.stdin.isatty():
        text = click.prompt(f"Passphrase for {name}", hide_input=True, confirmation_prompt=True, err=True)
    if text is None:
        raise click.UsageError(
            f"no passphrase is given; set {VARIABLE} or give --passphrase-file (--no-passphrase makes a key that "
            "whoever reads the file can use)"
        )
    if len(text) < LEAST:
        raise SetupError(
            f"the passphrase has {len(text)} characters; use {LEAST} at least, several words for instance"
        )
    return str(text)


def _given() -> str | None:
    path: Path | None = click.get_current_context().meta.get(_META)
    if path is None:
        return os.environ.get(VARIABLE)
    data = read_small(path, "a passphrase file", limit=4096)
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        raise SetupError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); run chmod 600 {path}"
        )
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text; give a file that holds a passphrase") from None


def _ask(question: str) -> str | None:
    return str(click.prompt(question, hide_input=True, err=True)) if sys.stdin.isatty() else None
