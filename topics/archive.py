"""Reads the tar inside a bundle, strictly: regular files and folders, nothing else, nothing hidden.

The library's reader follows many dialects (sparse files, links, devices, several ways to spell a name), and
every one of them is a way out of the folder or past a size. A bundle needs none, so this reader refuses what
it does not know. Rules:

1. POSIX ustar headers with a right checksum; a pax header may only give a long `path`.
2. Regular files (`0`) and folders (`5`); no link, device, FIFO, sparse or unknown type.
3. Paths as `topics.bundle.path` wants them, each once, none that differ only by case; a file is no folder.
4. Modes `topics.bundle.MODES` (folders 755): no set-uid, set-gid, sticky, group or world write.
5. At most `max_bytes` of content and `topics.bundle.MAX_FILES` members: endless data end here.
6. After the end mark only zero bytes, at most a megabyte; then nothing, in the tar and behind the gzip stream.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from topics import bundle
from topics.errors import DecodeError

BLOCK: Final = 512
CHUNK: Final = 64 * 1024
PAX_LIMIT: Final = 4 * 1024

Read = Callable[[int], bytes]
"""Returns up to that many bytes; fewer only at the end."""


class Gunzip:
    """Unpacks one gzip stream a piece at a time; `read` fits `Reader`. Raises `DecodeError`.

    `max_bytes` bounds what comes out, whatever the stream claims; never more than a chunk is held.
    """

    def __init__(self, read: Read, *, max_bytes: int) -> None:
        self._read = read
        self._left = max_bytes
        self._gunzip = zlib.decompressobj(wbits=31)
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the stream."""
        while len(self._buffer) < size and not self._gunzip.eof:
            packed = self._gunzip.unconsumed_tail or self._read(CHUNK)
            try:
                piece = self._gunzip.decompress(packed, CHUNK)
            except zlib.error as error:
                raise _bad(f"the bundle is not a good gzip file: {error}") from None
            if not packed and not piece and not self._gunzip.eof:
                raise _bad("the bundle is cut short")
            self._left -= len(piece)
            if self._left < 0:
                raise _bad("the bundle unpacks to more than the signed release allows")
            self._buffer += piece
        # Read at the end only: a second stream behind the first would be bytes that no hash of the tar covers.
        if self._gunzip.eof and (self._gunzip.unused_data or self._read(1)):
            raise _bad("data after the end of the bundle")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Member(msgspec.Struct, frozen=True):
    """A regular file (with its size in bytes) or a folder of a bundle."""

    path: str
    mode: int
    size: int
    is_folder: bool


class Reader:
    """Yields members in order; `content` of each must be read before the next. Raises `DecodeError`.

    `sha256` is the hash of the whole tar once `members` has ended.
    """

    def __init__(self, read: Read, *, max_bytes: int) -> None:
        self._read = read
        self._left = max_bytes
        self._hash = hashlib.sha256()
        self._unread = 0
        self._padding = 0
        self._seen: dict[str, bool] = {}

    @property
    def sha256(self) -> str:
        """Lower-case hex SHA-256 of all tar bytes read so far."""
        return self._hash.hexdigest()

    def members(self) -> Iterator[Member]:
        """Yield every member; after the last, everything up to the end of the data has been checked."""
        long_path: str | None = None
        while True:
            for _ in self.content():
                pass  # whoever skipped a file's content still pays for its hash
            header = self._exactly(BLOCK)
            if header == b"\0" * BLOCK:
                if long_path is not None:
                    raise _bad("a pax header with no member after it")
                self._check_end()
                return
            kind, name, mode, size = _parse_header(header)
            if kind == b"x":
                if long_path is not None or size > PAX_LIMIT:
                    raise _bad("a pax header out of place")
                long_path = _pax_path(self._exactly(size))
                self._exactly(-size % BLOCK)
                continue
            member = self._check(kind, long_path or name, mode, size)
            long_path = None
            self._unread, self._padding = member.size, -member.size % BLOCK
            yield member

    def content(self) -> Iterator[bytes]:
        """Yield the content of the member that `members` yielded last, in chunks."""
        while self._unread:
            chunk = self._exactly(min(CHUNK, self._unread))
            self._unread -= len(chunk)
            yield chunk
        self._exactly(self._padding)
        self._padding = 0

    def _check(self, kind: bytes, name: str, mode: int, size: int) -> Member:
        is_folder = kind == b"5"
        if not is_folder and kind not in (b"0", b"\0"):
            raise _bad(f"{name!r} is neither a regular file nor a folder")
        path = bundle.path(name.rstrip("/") if is_folder else name)
        if is_folder and (size or mode != 0o755):
            raise _bad(f"folder {path!r} has content or mode {mode:o}")
        if not is_folder and mode not in bundle.MODES:
            raise _bad(f"{path!r} has mode {mode:o}, a bundle holds 644 and 755 only")
        self._left -= size
        if self._left < 0:
            raise _bad("more content than the signed release allows")
        self._remember(path, is_folder)
        return Member(path, mode, size, is_folder)

    def _remember(self, path: str, is_folder: bool) -> None:
        folded = bundle.fold(path)
        if folded in self._seen:
            raise _bad(f"{path!r} stands twice, or differs from another path only by case")
        parent, slash, _ = folded.rpartition("/")
        while slash:
            if self._seen.setdefault(parent, True) is False:
                raise _bad(f"{path!r} lies in a file")
            parent, slash, _ = parent.rpartition("/")
        self._seen[folded] = is_folder
        if len(self._seen) > 2 * bundle.MAX_FILES:
            raise _bad(f"more than {bundle.MAX_FILES} members")

    def _check_end(self) -> None:
        zeros = 0
        while chunk := self._take(CHUNK):
            zeros += len(chunk)
            if chunk.strip(b"\0") or zeros > 1024 * 1024:
                raise _bad("data after the end of the archive")
        if zeros < BLOCK:
            raise _bad("the archive is cut short")

    def _exactly(self, size: int) -> bytes:
        data = self._take(size)
        if len(data) != size:
            raise _bad("the archive is cut short")
        return data

    def _take(self, size: int) -> bytes:
        data = self._read(size) if size else b""
        self._hash.update(data)
        return data


def _parse_header(header: bytes) -> tuple[bytes, str, int, int]:
    """Return (type, name, mode, size) of a ustar header block."""
    if header[257:263] != b"ustar\0" or header[263:265] != b"00":
        raise _bad("a header that is not POSIX ustar")
    unsigned = sum(header[:148]) + 8 * 0x20 + sum(header[156:])
    if _octal(header[148:156]) != unsigned:
        raise _bad("a header with a wrong checksum")
    try:
        name, prefix = _text(header[:100]), _text(header[345:500])
    except UnicodeDecodeError:
        raise _bad("a name that is not UTF-8") from None
    return (
        header[156:157],
        f"{prefix}/{name}" if prefix else name,
        _octal(header[100:108]),
        _octal(header[124:136]),
    )


def _octal(field: bytes) -> int:
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if not digits or digits.strip(b"01234567"):
        raise _bad("a number in a header is not octal")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode()


def _pax_path(record: bytes) -> str:
    """Return the path of a pax header that holds `path` and nothing else: `LENGTH path=VALUE\\n`."""
    length, _, rest = record.partition(b" ")
    if (
        not length.isdigit()
        or int(length) != len(record)
        or not rest.startswith(b"path=")
        or rest[-1:] != b"\n"
    ):
        raise _bad("a pax header that gives anything but one path")
    try:
        return rest[5:-1].decode()
    except UnicodeDecodeError:
        raise _bad("a name that is not UTF-8") from None


def _bad(detail: str) -> DecodeError:
    return DecodeError("invalid", detail)
