"""What an export of the event log proves, and where it stops being a proof. Pure: lines in, an account out.

An export is NDJSON. Its first line says what it follows (`after`, and the hash of that event) and where it ends (`end`,
a checkpoint of its last event that the hub signed for it); then come events in the order of their numbers, and behind
the event that each speaks of the checkpoints that the hub signed day by day. An event's hash covers the hash before it,
so nobody can change, drop or move one without changing every hash behind it; and a checkpoint holds one of those hashes
for good. What no hash covers has no place in an export: a line with an unknown field, or with a field twice, is none.

Where it stops: whoever cuts an export off at a checkpoint and takes `end` away has what the hub could have given out
then. Only another export tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hub.events import GENESIS, chain
from topics import codec, envelope
from topics.documents import Checkpoint
from topics.errors import DecodeError, TrustError
from topics.fields import Sha256

LINE_LIMIT: Final = 1024 * 1024
"""Largest line in bytes; an event's body is bounded far below."""
_LIMIT: Final = 4 * 1024
Number = Annotated[int, Meta(ge=0, le=2**62)]


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="export"):
    """The first line: of which fleet, and the number and hash of the event before the first one here.

    `end` is the envelope of a checkpoint of the last event here; None where there is none, or by an older hub.
    """

    fleet: str
    after: Number
    previous: Sha256
    end: bytes | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="event"):
    """One event as it was sealed; `at` is in ms."""

    n: Number
    at: int
    kind: str
    actor: str
    device_id: str | None
    release_id: str | None
    role: str | None
    reason: str
    body: dict[str, Any]
    request_id: str
    hash: Sha256


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="checkpoint"):
    """A signed checkpoint: the envelope in base64."""

    envelope: bytes


Line = Begin | Entry | Seal
_decoder: Final = msgspec.json.Decoder(Line)
_encode: Final = msgspec.json.Encoder().encode
_body: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was sealed. `line` counts from 1; `n` is the event it is about, if any."""

    line: int
    n: int | None
    what: str


@dataclass(slots=True)
class Account:
    """What an export holds. `head` is the hash of the last event; `findings` come in the order of the lines."""

    fleet: str = ""
    first: int = 0
    last: int = 0
    head: str = GENESIS
    entries: int = 0
    checkpoints: int = 0
    """Signed ones that were believed."""
    findings: list[Finding] = field(default_factory=list)

    def find(self, line: int, n: int | None, what: str) -> None:
        """Note something that is wrong."""
        self.findings.append(Finding(line, n, what))


def examine(
    lines: Iterable[bytes],
    keys: Mapping[str, bytes] | None = None,
    *,
    to_the_end: bool = True,
) -> Account:
    """Return the account of an export.

    `keys` are the deployment keys (id to public key) whose checkpoints are believed; with None their signatures are
    not looked at. `to_the_end` asks for a checkpoint of the last event.
    """
    account = Account()
    sealed: dict[int, tuple[int, Checkpoint]] = {}
    number = 0
    for number, line in enumerate(lines, 1):
        item = read(line)
        if item is None:
            account.find(number, None, "is not a line of an export")
            continue
        if isinstance(item, Begin):
            _begin(account, number, item)
            if number == 1 and item.end is not None and (end := _open(account, number, item.end, keys)):
                sealed[end.n] = (number, end)
                _hold(account, number, end)
        elif number == 1:
            account.find(1, None, "does not say what it follows: the first line of the export is missing")
        if isinstance(item, Entry):
            _follow(account, number, item)
            if item.n in sealed:
                _hold(account, number, sealed[item.n][1])
        elif isinstance(item, Seal) and (checkpoint := _open(account, number, item.envelope, keys)):
            sealed[checkpoint.n] = (number, checkpoint)
            _hold(account, number, checkpoint)
    if number == 0:
        account.find(1, None, "is missing: the file is empty, and an export has at least its first line")
    cut_off = [(where, checkpoint.n) for where, checkpoint in sealed.values() if checkpoint.n > account.last]
    for where, n in cut_off:
        what = f"is missing: a checkpoint seals event {n}, and the export ends before it: its end was cut off"
        account.find(where, account.last + 1, what)
    if to_the_end and account.entries and not cut_off and account.last not in sealed:
        account.find(number, account.last, "is the last here, and no checkpoint says so: the end was cut off")
    return account


def read(line: bytes) -> Line | None:
    """Return what a line of an export holds, None for what is none.

    Of a field that stands twice somebody else might read the other, and one that is unknown is covered by no hash.
    """
    if len(line) > LINE_LIMIT:
        return None
    try:
        item: Line = _decoder.decode(line)
        # What the hub wrote is written so again; only of what was not, names have to be looked at.
        if _encode(item) != line:
            json.loads(line, object_pairs_hook=_each_once)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return item


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found


def _begin(account: Account, line: int, item: Begin) -> None:
    if line > 1:
        account.find(line, None, "begins an export in the middle of another")
        return
    account.fleet, account.last, account.head = item.fleet, item.after, item.previous
    account.first = item.after + 1
    if item.after == 0 and item.previous != GENESIS:
        account.find(line, None, "says that something came before the first event")


def _follow(account: Account, line: int, item: Entry) -> None:
    if item.n <= account.last:
        account.find(line, item.n, f"stands behind event {account.last}: entries were moved or doubled")
        return
    if item.n > account.last + 1:
        missing = account.last + 1
        span = f"event {missing} is" if missing == item.n - 1 else f"events {missing} to {item.n - 1} are"
        account.find(line, item.n, f"follows event {account.last}: {span} missing")
    elif chain(account.head, item.n, _row(item)) != item.hash:
        account.find(line, item.n, "is not what was sealed: it, or the hash before it, was changed")
    account.entries += 1
    account.last, account.head = item.n, item.hash


def _open(account: Account, line: int, sealed: bytes, keys: Mapping[str, bytes] | None) -> Checkpoint | None:
    try:
        opened = envelope.open_envelope(sealed, limit=_LIMIT)
        payload = opened.payload
        if keys is not None:
            payload = envelope.verify(opened, "checkpoint", keys, 1, signer="deployment")
        checkpoint = codec.decode_signed(payload, Checkpoint, limit=_LIMIT)
    except (TrustError, DecodeError) as error:
        account.find(line, None, f"is no checkpoint to believe ({error.detail})")
        return None
    if checkpoint.fleet != account.fleet:
        account.find(line, checkpoint.n, f"was sealed for fleet {checkpoint.fleet}, not {account.fleet}")
        return None
    account.checkpoints += 1
    return checkpoint


def _hold(account: Account, line: int, checkpoint: Checkpoint) -> None:
    if checkpoint.n == account.last and checkpoint.hash != account.head:
        account.find(
            line,
            checkpoint.n,
            "has another hash in a signed checkpoint: what stands here up to it is not what the hub had",
        )
    elif account.first <= checkpoint.n < account.last:
        account.find(line, checkpoint.n, "has its checkpoint in another place: lines were moved")


def _row(item: Entry) -> Any:
    row = msgspec.structs.asdict(item)
    # The chain covers the body as text: JSON with sorted keys and no spaces.
    return {**row, "body": _body.encode(item.body).decode()}
