"""`flaghoist audit`: who changed what, and whether the record of it is whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from hub.audit.chain import Account, Entry, Finding, examine, read
from hub.cli import output
from hub.cli.api import Hub
from hub.cli.errors import NotTrusted
from hub.cli.options import DEVICE, RELEASE, ROLE, file_argument, hub_options, json_option
from hub.cli.roots import read_root
from hub.errors import SetupError
from topics import trust

COLUMNS: Final = ("n", "at", "kind", "actor", "device_id", "release_id", "reason")
SHOWN: Final = 20
"""Findings that are printed for people; the rest is counted."""


@click.group()
def audit() -> None:
    """Show, export and prove the log of every change."""


@audit.command("list")
@click.option("--device", type=DEVICE, help="Only events of this device.")
@click.option("--release", type=RELEASE, help="Only events of this release.")
@click.option("--role", type=ROLE, help="Only events of this role.")
@click.option("--actor", help="Only what this person, key, device:ID or rule:NAME did.")
@click.option("--kind", help="Only events of this kind, like release.promoted.")
@click.option("--since", metavar="TIME", help="Only from this time on, like 2026-11-25T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Only before this time.")
@click.option(
    "--last", type=click.IntRange(1), default=50, show_default=True, help="How many, the newest first."
)
@json_option
@hub_options
def list_events(
    last: int, as_json: bool, hub: Hub, device: str | None, release: str | None, **query: Any
) -> None:
    """List events, the newest first."""
    found: list[dict[str, Any]] = []
    for item in hub.items("/audits", deviceId=device, releaseId=release, limit=min(last, 500), **query):
        found.append(item)
        if len(found) == last:
            break
    if as_json:
        output.emit_json(found)
        return
    output.table(
        [column.removesuffix("_id") for column in COLUMNS],
        [[output.seconds(item.get(column)) for column in COLUMNS] for item in found],
    )


@audit.command()
@click.argument("file", type=file_argument)
@click.option("--after", type=click.IntRange(0), default=0, help="Only events above this number.")
@hub_options
def export(file: Path, after: int, hub: Hub) -> None:
    """Write every event, with its hash and the hub's signed checkpoints, to FILE (`-` for standard output)."""
    chunks = hub.stream(f"/audits/export?after={after}")
    if str(file) == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        return
    # Beside it first: an export that broke off must not pass for a shorter one.
    partial = file.with_name(file.name + ".part")
    try:
        with partial.open("wb") as target:
            for chunk in chunks:
                target.write(chunk)
        partial.replace(file)
    except OSError as error:
        raise SetupError(f"cannot write {file} ({error.strerror}); check the folder and its space") from None
    finally:
        partial.unlink(missing_ok=True)
    output.emit(f"{file} written")


@audit.command()
@click.argument("file", type=file_argument)
@click.option(
    "--root",
    "roots",
    type=file_argument,
    multiple=True,
    help="Root document whose deployment keys sign checkpoints; several after a change of key.",
)
@click.option(
    "--against", type=file_argument, help="An earlier export, whose history this one must continue."
)
@json_option
def verify(file: Path, roots: tuple[Path, ...], against: Path | None, as_json: bool) -> None:
    """Prove an export offline: no event was changed, dropped, moved, or cut off. Exit code 5 when one was.

    Without `--root` the checkpoints' signatures are not looked at, so that a history rewritten whole is not noticed.
    """
    keys: dict[str, bytes] | None = {} if roots else None
    for path in roots:
        assert keys is not None  # noqa: S101  (for the type checker)
        keys |= trust.keys_of(read_root(path)[1], "deployment")[0]
    earlier = _examined(against, keys, to_the_end=False) if against else None
    account = _examined(file, keys)
    if against is not None and earlier is not None:
        _compare(account, earlier, _parting(file, against))
    if as_json:
        output.emit_json(_summary(account, signed=keys is not None))
    else:
        _tell(account, signed=keys is not None)
    if account.findings:
        first = account.findings[0]
        raise NotTrusted(f"{file} is not the log that was sealed: {_where(first)} {first.what}")


def _where(finding: Finding) -> str:
    if finding.n is None:
        return f"line {finding.line}"
    return f"event {finding.n} (line {finding.line})" if finding.line else f"event {finding.n}"


def _examined(
    path: Path,
    keys: dict[str, bytes] | None,
    *,
    to_the_end: bool = True,
) -> Account:
    with _opened(path) as lines:
        return examine(lines, keys, to_the_end=to_the_end)


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        with path.open("rb") as file:
            yield _lines(file)
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist; make it with `flaghoist audit export`") from None
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); check its owner and mode") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # A line without end is read in parts, each of which is then no line of an export.
    while line := file.readline(1024 * 1024 + 1):
        yield line.rstrip(b"\n")


def _parting(path: Path, against: Path) -> int | None:
    """Return the first event that both exports have and that has another hash in each, None without one."""
    with _opened(path) as ours, _opened(against) as theirs:
        earlier = _hashes(theirs)
        n, sealed = next(earlier, (0, ""))
        for ours_n, ours_hash in _hashes(ours):
            while n and n < ours_n:
                n, sealed = next(earlier, (0, ""))
            if n == ours_n and sealed != ours_hash:
                return n
    return None


def _hashes(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    return ((item.n, item.hash) for item in map(read, lines) if isinstance(item, Entry))


def _compare(account: Account, earlier: Account, parting: int | None) -> None:
    if earlier.findings:
        account.find(0, earlier.findings[0].n, "of the earlier export is not what was sealed either")
    elif parting is not None:
        what = "has another hash than in the earlier export: the history was rewritten, or goes two ways from here"
        account.findings.insert(0, Finding(0, parting, what))
    elif earlier.last >= account.first and earlier.last > account.last:
        account.find(
            0,
            account.last,
            f"is the last here, and the earlier export went on to {earlier.last}: the end was cut off",
        )


def _summary(account: Account, *, signed: bool) -> dict[str, Any]:
    return {
        "whole": not account.findings,
        "fleet": account.fleet,
        "events": account.entries,
        "first": account.first,
        "last": account.last,
        "head": account.head,
        "checkpoints": account.checkpoints,
        "signatures_checked": signed,
        "findings": [
            {"line": finding.line, "n": finding.n, "what": finding.what} for finding in account.findings
        ],
    }


def _tell(account: Account, *, signed: bool) -> None:
    signatures = "signatures good" if signed else "signatures not looked at, give --root"
    output.fields(
        [
            ("fleet", account.fleet),
            ("events", f"{account.entries}, {account.first} to {account.last}"),
            ("head", account.head),
            ("checkpoints", f"{account.checkpoints}, {signatures}"),
            ("findings", len(account.findings)),
        ]
    )
    for finding in account.findings[:SHOWN]:
        output.emit_row(
            [
                f"line {finding.line}" if finding.line else "-",
                "-" if finding.n is None else f"event {finding.n}",
                finding.what,
            ]
        )
