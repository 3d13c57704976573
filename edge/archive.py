"""Reading a bundle's tar.gz member by member, believing nothing it says.

Only what a bundle may hold is known here: regular files and folders, named in ustar headers, with POSIX
(`path`) or GNU long names. Links, devices, pipes, sparse files, set-uid bits, paths out, repeated or
case-colliding names, and anything after the end are refused. Python's tarfile is made to accept more.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from edge.errors import Stop
from topics import bundle
from topics.errors import DecodeError

BLOCK: Final = 512
CHUNK: Final = 64 * 1024
_LONG_NAME_LIMIT: Final = 4096
_DIR_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Member:
    """One member: a file of `size` bytes and `mode`, or a folder."""

    path: str
    is_folder: bool
    size: int = 0
    mode: int = 0


class Tar:
    """A gzipped tar. Iterate over `members`; read each file with `content` before the next member.

    `budget` is the most bytes that it may unpack to. Everything wrong raises `Stop`, lasting.
    """

    def __init__(self, file: IO[bytes], budget: int) -> None:
        self._file = file
        self._gunzip = zlib.decompressobj(wbits=31)
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._budget = budget
        self._left = 0
        self._padding = 0

    @property
    def sha256(self) -> str:
        """Hash of the tar itself; complete once `members` is exhausted."""
        return self._digest.hexdigest()

    def members(self) -> Iterator[Member]:
        """Yield the members, each checked."""
        seen: dict[str, bool] = {}
        while True:
            header = self._take(BLOCK)
            if header == bytes(BLOCK):
                self._check_end()
                return
            member = self._member(header)
            folded = bundle.fold(member.path)
            if folded in seen:
                raise _bad(f"{member.path!r} stands twice in the bundle, or differs only by case")
            parents = folded.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                if seen.get("/".join(parents[:depth])) is False:
                    raise _bad(f"{member.path!r} lies below a file")
            seen[folded] = member.is_folder
            if len(seen) > 2 * bundle.MAX_FILES:
                raise _bad(f"more than {bundle.MAX_FILES} files in the bundle")
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member
            for _ in self.content():
                pass

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the file whose member was just yielded."""
        while self._left:
            piece = self._take(min(self._left, CHUNK))
            self._left -= len(piece)
            yield piece
        if self._padding:
            padding, self._padding = self._padding, 0
            self._take(padding)

    def _member(self, header: bytes, long_name: str | None = None) -> Member:
        _check_sum(header)
        kind, size = header[156:157], _octal(header[124:136])
        if kind in (b"x", b"L"):
            if long_name is not None or size > _LONG_NAME_LIMIT:
                raise _bad("a name in the bundle is longer than any path may be")
            data = self._take(size + -size % BLOCK)[:size]
            name = _pax_path(data) if kind == b"x" else _text(data.rstrip(b"\0"))
            return self._member(self._take(BLOCK), name)
        if long_name is None:
            prefix = _text(header[345:500].split(b"\0")[0]) if header[257:263] == b"ustar\0" else ""
            name = _text(header[:100].split(b"\0")[0])
            long_name = f"{prefix}/{name}" if prefix else name
        mode = _octal(header[100:108])
        if kind == b"5":
            if size or mode & 0o7777 != _DIR_MODE:
                raise _bad(f"folder {long_name!r} in the bundle has mode {mode:o}, a bundle holds 755 only")
            return Member(_path(long_name.rstrip("/")), is_folder=True)
        if kind not in (b"0", b"\0"):
            raise _bad(f"{long_name!r} is neither a regular file nor a folder (type {kind!r})")
        if mode not in bundle.MODES:
            raise _bad(f"{long_name!r} has mode {mode:o}, a bundle holds 644 and 755 only")
        if size > self._budget + len(self._buffer):
            raise _bad(f"{long_name!r} claims {size} bytes, more than the bundle may unpack to")
        return Member(_path(long_name), is_folder=False, size=size, mode=mode)

    def _check_end(self) -> None:
        """Read to the end of the file: nothing but zeros may follow, in the tar and after it."""
        while block := self._some(CHUNK):
            if block.count(0) != len(block):
                raise _bad("something follows the end of the bundle")
        if self._gunzip.unused_data or self._file.read(1):
            raise _bad("something follows the end of the bundle")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size and self._fill():
            pass
        if len(self._buffer) < size:
            raise _bad("the bundle ends in mid-file")
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _some(self, size: int) -> bytes:
        if not self._buffer:
            self._fill()
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _fill(self) -> bool:
        """Unpack at most `CHUNK` more bytes; False at the end."""
        while not self._gunzip.eof:
            packed = self._gunzip.unconsumed_tail or self._file.read(CHUNK)
            try:
                data = self._gunzip.decompress(packed, CHUNK)
            except zlib.error as error:
                raise _bad(f"the bundle is not a good gzip file: {error}") from None
            if not packed and not data and not self._gunzip.eof:
                raise _bad("the bundle ends in mid-file")
            if data:
                self._budget -= len(data)
                if self._budget < 0:
                    raise _bad("the bundle unpacks to more than its signed size allows")
                self._digest.update(data)
                self._buffer += data
                return True
        return False


def _bad(reason: str) -> Stop:
    return Stop(reason, lasting=True)


def _check_sum(header: bytes) -> None:
    expected = _octal(header[148:156])
    if sum(header[:148]) + 8 * 32 + sum(header[156:]) != expected:
        raise _bad("a header in the bundle is damaged")


def _octal(field: bytes) -> int:
    # Base-256 numbers (first bit set) are for files beyond 8 GiB; none is in a bundle.
    digits = field.split(b"\0")[0].strip()
    if not digits or digits.strip(b"01234567"):
        raise _bad(f"a header in the bundle holds {field!r} where a number belongs")
    return int(digits, 8)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _bad(f"{data!r} is not a path inside a bundle") from None


def _path(text: str) -> str:
    try:
        return bundle.path(text)
    except DecodeError as error:
        raise _bad(error.detail) from None


def _pax_path(data: bytes) -> str | None:
    """Return the `path` of a POSIX extended header. Keys that would change what is unpacked are refused."""
    name = None
    while data:
        size_text, _, rest = data.partition(b" ")
        size = int(size_text) if size_text.isdigit() and len(size_text) < 6 else 0
        record = data[:size]
        key, equals, value = record[len(size_text) + 1 : -1].partition(b"=")
        if not rest or len(record) != size or record[-1:] != b"\n" or not equals:
            raise _bad("an extended header in the bundle is damaged")
        if key == b"path":
            name = _text(value)
        elif key not in (b"mtime", b"atime", b"ctime", b"comment"):
            raise _bad(f"an extended header in the bundle sets {_text(key)!r}")
        data = data[size:]
    return name
