"""Signing keys in files: a private `NAME.key` that only its owner reads, and a public `NAME.pub` to hand out.

All are one JSON object, so that people can look inside:

    NAME.key   {"format": 2, "name", "keyid", "public_key": "<hex>", "sealed": {…}}   with a passphrase
    NAME.key   {"format": 1, "name", "keyid", "public_key": "<hex>", "secret_key": "<hex seed>"}   without
    NAME.pub   {"format": 1, "name", "keyid", "public_key": "<hex>"}

`sealed` is described in `hub.identity.sealing`. The hub's own key has no passphrase, since nobody is there to give it.
`keyid` and `public_key` follow from the seed and are checked against it, since a file put together from
two others would sign under a name that is not its own.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from nacl.signing import SigningKey

from hub.errors import SetupError
from hub.identity.files import write_atomic
from hub.identity.sealing import MODERATE, Cost, Sealed, seal, unseal
from topics.envelope import key_id
from topics.fields import KeyId, Name

FILE_LIMIT: Final = 4096
"""Bytes; a key file has at most about 600."""

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class PublicKey(msgspec.Struct, frozen=True):
    """A public key as its file holds it, or a private key's file of either format; `public_key` is 32 bytes in hex."""

    name: Name
    keyid: KeyId
    public_key: _Hex32
    format: Literal[1, 2] = 1

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the key."""
        return bytes.fromhex(self.public_key)


class _PrivateKey(msgspec.Struct, frozen=True, tag_field="format", tag=1):
    name: Name
    keyid: KeyId
    public_key: _Hex32
    secret_key: _Hex32


class _SealedKey(msgspec.Struct, frozen=True, tag_field="format", tag=2):
    name: Name
    keyid: KeyId
    public_key: _Hex32
    sealed: Sealed


class NeedsPassphrase(SetupError):  # noqa: N818  (named by outcome)
    """The key is sealed and no passphrase was given."""


def generate(random: Callable[[int], bytes] = secrets.token_bytes) -> SigningKey:
    """Return a new Ed25519 key; `random` returns that many unpredictable bytes."""
    return SigningKey(random(32))


def public(name: str, key: SigningKey) -> PublicKey:
    """Return the public half of `key` under `name`."""
    raw = bytes(key.verify_key)
    return PublicKey(name, key_id(raw), raw.hex())


def save(
    directory: Path,
    name: str,
    key: SigningKey,
    *,
    passphrase: str | None = None,
    cost: Cost = MODERATE,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Path, Path]:
    """Write `NAME.key` (0600) and `NAME.pub` (0644) into `directory`, made when missing; return their paths.

    The private half is sealed with `passphrase` where one is given.

    Each file appears whole or not at all. A key that is already there is never overwritten: whatever it has
    signed would be orphaned. Raises `SetupError`.
    """
    if not _NAME.match(name):
        raise SetupError(f"{name!r} cannot name a key; use 1 to 64 letters, digits, '.', '_' and '-'")
    half = public(name, key)
    whole = _private(half, key, passphrase, cost, random)
    private_path, public_path = directory / f"{name}.key", directory / f"{name}.pub"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (private_path, public_path):
            if path.exists():
                raise SetupError(f"{path} already exists; choose another name or move it away first")
        # The private half goes first: a public file without it would invite people to trust a lost key.
        _write_new(private_path, _text(whole), 0o600)
        _write_new(public_path, _text(half), 0o644)
    except OSError as error:
        raise SetupError(
            f"cannot write the key into {directory} ({error.strerror}); choose a folder you may write to"
        ) from None
    return private_path, public_path


def _private(
    half: PublicKey, key: SigningKey, passphrase: str | None, cost: Cost, random: Callable[[int], bytes]
) -> _PrivateKey | _SealedKey:
    if passphrase is None:
        return _PrivateKey(half.name, half.keyid, half.public_key, bytes(key).hex())
    return _SealedKey(half.name, half.keyid, half.public_key, seal(bytes(key), passphrase, cost, random))


def encrypt(
    path: Path,
    key: SigningKey,
    passphrase: str,
    *,
    cost: Cost = MODERATE,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> None:
    """Replace the file of `key` by one that `passphrase` seals; raises `SetupError`."""
    half = load_public(path)
    if half.raw != bytes(key.verify_key):
        raise SetupError(f"{path} is another key's file; give the file that the key came from")
    write_atomic(path, _text(_private(half, key, passphrase, cost, random)), 0o600)


def load_private(path: Path, passphrase: str | None = None) -> SigningKey:
    """Return the key in a private key file that nobody but its owner can read.

    Raises `SetupError`, and `NeedsPassphrase` for a sealed key without a `passphrase`.
    """
    data, mode = _read(path)
    try:
        whole = msgspec.json.decode(data, type=_PrivateKey | _SealedKey)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SetupError(
            f"{path} is not a private key file; give the NAME.key that `flaghoist keys generate` wrote"
        ) from None
    if mode & 0o077:
        raise SetupError(
            f"{path} can be read by others (mode {mode:04o}); "
            f"run chmod 600 {path}, and replace the key if anybody may have seen it"
        )
    key = SigningKey(_seed(path, whole, passphrase))
    half = public(whole.name, key)
    if (half.keyid, half.public_key) != (whole.keyid, whole.public_key):
        raise SetupError(f"{path} holds a secret that is not of its public key; restore it from a copy")
    return key


def is_sealed(path: Path) -> bool:
    """Return whether a key file's private half is sealed; raises `SetupError`."""
    return load_public(path).format == 2


def _seed(path: Path, whole: _PrivateKey | _SealedKey, passphrase: str | None) -> bytes:
    if isinstance(whole, _PrivateKey):
        return bytes.fromhex(whole.secret_key)
    if passphrase is None:
        raise NeedsPassphrase(
            f"{path} is sealed with a passphrase; give it with --passphrase-file or FLAGHOIST_PASSPHRASE"
        )
    seed = unseal(whole.sealed, passphrase)
    if seed is None:
        raise SetupError(f"the passphrase does not open {path}; give the one it was sealed with")
    return seed


def load_public(path: Path) -> PublicKey:
    """Return the public half from `NAME.pub` or `NAME.key`; raises `SetupError`."""
    data, _ = _read(path)
    try:
        half = msgspec.json.decode(data, type=PublicKey)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SetupError(
            f"{path} is not a public key file; give the NAME.pub that `flaghoist keys generate` wrote"
        ) from None
    if key_id(half.raw) != half.keyid:
        raise SetupError(f"{path} has a keyid that is not of its key; ask for the file again")
    return half


def _read(path: Path) -> tuple[bytes, int]:
    """Return a file's content and mode, both of the open file: it cannot be swapped between check and use."""
    try:
        # O_NONBLOCK: a FIFO by that name must be refused, not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SetupError(f"{path} is not a regular file; give the path of a key file")
            return os.read(descriptor, FILE_LIMIT), stat.S_IMODE(status.st_mode)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist; `flaghoist keys generate` makes a key") from None
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); check its owner and mode") from None


def _text(content: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"


def _write_new(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        # link, unlike rename, refuses when somebody else has made the file meanwhile.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
