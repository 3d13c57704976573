"""Hostile archives, made byte by byte: none writes outside, leaves a special file, or unpacks past its budget.

Every row is signed as it is, so that nothing but the reader stands in its way. Beside the refusal, what the device's
disk looks like afterwards is checked, and how much was ever on it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths
from edge.errors import Stop
from edge.storage import disk
from edge.updating import stage
from tests.edge.world import member, pack
from tests.topics import kit
from topics import archive, bundle
from topics.documents import Bundle
from topics.trust import sha256

BLOCK = 512
END = bytes(2 * BLOCK)


def block(
    name: bytes = b"files/a",
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: bytes = b"0000644",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    device: bytes = b"",
) -> bytes:
    """Return one tar header with a right checksum, whatever else it says."""
    length = b"%011o" % size if isinstance(size, int) else size
    head = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name, mode, b"0000000", b"0000000", length, b"00000000000", b" " * 8, kind, link, magic, b"", b"",
        device, device, prefix,
    )  # fmt: skip
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def entry(name: bytes, data: bytes = b"x", kind: bytes = b"0", **fields: Any) -> bytes:
    """Return header and content of one member."""
    return block(name, kind, size=len(data), **fields) + padded(data)


def pax(records: bytes, kind: bytes = b"x", size: int | None = None) -> bytes:
    """Return an extended header that says `records`."""
    return block(b"pax", kind, size=len(records) if size is None else size) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    """Return one record of an extended header, with its length in front."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


GOOD = entry(b"bundle.json", b"{}")
PLAIN = GOOD + entry(b"files/a") + END
GNU = b"ustar  \0"

TARS = [
    # Links and special files, in every dialect.
    ("a link out", entry(b"files/a", b"", b"2", link=b"/etc/passwd"), "neither"),
    ("a link out with content", entry(b"files/a", b"x", b"2", link=b"/etc/passwd"), "neither"),
    (
        "a link, then a file through it",
        entry(b"files/a", b"", b"2", link=b"../../..") + entry(b"files/a/out"),
        "neither",
    ),
    (
        "a link as the folder above",
        entry(b"files", b"", b"2", link=b"../../..") + entry(b"files/out"),
        "neither",
    ),
    ("a hard link out", entry(b"files/a", b"", b"1", link=b"../../state"), "neither"),
    ("a hard link with content", entry(b"files/a", b"x", b"1", link=b"bundle.json"), "neither"),
    ("a character device", entry(b"files/a", b"", b"3", device=b"0000001"), "neither"),
    ("a block device", entry(b"files/a", b"", b"4", device=b"0000010"), "neither"),
    ("a named pipe", entry(b"files/a", b"", b"6"), "neither"),
    ("a contiguous file", entry(b"files/a", b"x", b"7"), "neither"),
    ("a GNU sparse file", entry(b"files/a", b"x", b"S"), "neither"),
    ("a GNU multi-volume rest", entry(b"files/a", b"x", b"M"), "neither"),
    ("a GNU volume label", entry(b"files/a", b"", b"V"), "neither"),
    ("a GNU dump folder", entry(b"files", b"", b"D"), "neither"),
    ("a Solaris access list", entry(b"files/a", b"x", b"A"), "neither"),
    ("a type of nobody", entry(b"files/a", b"x", b"\xff"), "neither"),
    ("a GNU long name", entry(b"././@LongLink", b"../../out\0", b"L") + entry(b"files/a"), "neither"),
    ("a GNU long link", entry(b"././@LongLink", b"/etc/passwd\0", b"K") + entry(b"files/a"), "neither"),
    # Extended headers, which can say anything a second time.
    ("a global header", pax(record(b"path", b"../../out"), b"g") + entry(b"files/a"), "neither"),
    ("an extended absolute path", pax(record(b"path", b"/tmp/flaghoist-out/x")) + entry(b"files/a"), "not a path"),
    ("an extended path that climbs", pax(record(b"path", b"files/../../out")) + entry(b"files/a"), "not a path"),
    ("an extended path with a NUL", pax(record(b"path", b"files/a\0/../../out")) + entry(b"files/a"), "not a path"),
    ("an extended path that is not UTF-8", pax(record(b"path", b"files/\xff")) + entry(b"files/a"), "not UTF-8"),
    ("an extended size", pax(record(b"size", b"99999999999")) + entry(b"files/a"), "anything but one path"),
    ("an extended link", pax(record(b"linkpath", b"/etc")) + entry(b"files/a"), "anything but one path"),
    ("a sparse map", pax(record(b"GNU.sparse.major", b"1")) + entry(b"files/a"), "anything but one path"),
    ("an access list", pax(record(b"SCHILY.acl.access", b"user::rwx")) + entry(b"files/a"), "anything but one path"),
    ("an extended attribute", pax(record(b"SCHILY.xattr.security.capability", b"x")) + entry(b"files/a"), "anything"),
    (
        "two paths in one header",
        pax(record(b"path", b"files/b") + record(b"path", b"/etc/x")) + entry(b"files/a"),
        "anything but one path",
    ),
    ("two extended headers", pax(record(b"path", b"files/b")) * 2 + entry(b"files/a"), "out of place"),
    ("an extended header at the end", pax(record(b"path", b"files/b")), "no member after it"),
    ("a record whose length lies", pax(b"99 path=files/b\n") + entry(b"files/a"), "anything but one path"),
    ("a record without a length", pax(b"path=files/b\n") + entry(b"files/a"), "anything but one path"),
    ("an empty record", pax(b"") + entry(b"files/a"), "anything but one path"),
    ("an extended header without end", pax(b"", size=8**10) + entry(b"files/a"), "out of place"),
    # Paths.
    ("an absolute path", entry(b"/tmp/flaghoist-out/x"), "not a path"),
    ("a path that climbs", entry(b"../out"), "not a path"),
    ("a path that climbs later", entry(b"files/../../out"), "not a path"),
    ("a folder that climbs", entry(b"../out/", b"", b"5", mode=b"0000755"), "not a path"),
    ("the folder itself", entry(b"./", b"", b"5", mode=b"0000755"), "not a path"),
    ("no name", entry(b""), "not a path"),
    ("a name of dots", entry(b"files/.."), "not a path"),
    ("a doubled slash", entry(b"files//a"), "not a path"),
    ("a file called like a folder", entry(b"files/a/"), "not a path"),
    ("a prefix that climbs", entry(b"out", prefix=b"../.."), "not a path"),
    ("an absolute prefix", entry(b"out", prefix=b"/tmp/flaghoist-out"), "not a path"),
    ("a backslash", entry(b"files\\..\\out"), "not a path"),
    ("a line break", entry(b"files/a\nb"), "not a path"),
    ("an escape sequence", entry(b"files/\x1b[2J"), "not a path"),
    ("a path of 33 levels", pax(record(b"path", b"/".join([b"d"] * 33))) + entry(b"files/a"), "not a path"),
    ("a name of 256 bytes", pax(record(b"path", b"files/" + b"n" * 256)) + entry(b"files/a"), "not a path"),
    ("a path of 513 letters", pax(record(b"path", b"/".join([b"d" * 57] * 9)) ) + entry(b"files/a"), "not a path"),
    # Text that looks like other text.
    ("letters that turn the line around", entry("files/\u202etxt.exe".encode()), "not a path"),
    ("a letter of no width", entry("files/a\u200b".encode()), "not a path"),
    ("decomposed letters", entry(unicodedata.normalize("NFD", "files/é").encode()), "not a path"),
    ("bytes that are not UTF-8", entry(b"files/\xc3\x28"), "not UTF-8"),
    ("an overlong slash", entry(b"files\xc0\xaf..\xc0\xafout"), "not UTF-8"),
    ("a surrogate", entry(b"files/\xed\xa0\x80"), "not UTF-8"),
    # Collisions.
    ("the same file twice", entry(b"files/a") + entry(b"files/a", b"y"), "twice"),
    ("bundle.json twice", entry(b"bundle.json", b"[]"), "twice"),
    ("the same letters in capitals", entry(b"files/a") + entry(b"FILES/A"), "case"),
    ("a folder in capitals", entry(b"files/a") + entry(b"Files/b") + entry(b"files"), "twice"),
    ("a sharp s", entry("files/straße".encode()) + entry(b"files/strasse"), "case"),
    ("the sign of Kelvin", entry(b"files/k") + entry("files/\u212a".encode()), "not a path"),
    ("a file, then a folder of that name", entry(b"files/a") + entry(b"files/a/b"), "lies in a file"),
    ("a folder, then a file of that name", entry(b"files/a/b") + entry(b"files/a"), "twice"),
    ("a folder twice", entry(b"files/d/", b"", b"5", mode=b"0000755") * 2, "twice"),
    # Modes.
    ("set-uid", entry(b"files/a", mode=b"0004755"), "mode"),
    ("set-gid", entry(b"files/a", mode=b"0002755"), "mode"),
    ("sticky", entry(b"files/a", mode=b"0001644"), "mode"),
    ("writable by all", entry(b"files/a", mode=b"0000666"), "mode"),
    ("readable by nobody", entry(b"files/a", mode=b"0000000"), "mode"),
    ("a type inside the mode", entry(b"files/a", mode=b"0120777"), "mode"),
    ("a folder writable by all", entry(b"files/d/", b"", b"5", mode=b"0000777"), "mode"),
    ("a folder with content", block(b"files/d/", b"5", size=4, mode=b"0000755") + padded(b"data"), "has content"),
    # Numbers.
    ("a size in base 256", block(size=b"\x80" + bytes(10) + b"\x01") + padded(b"x"), "not octal"),
    ("a negative size in base 256", block(size=b"\xff" * 12), "not octal"),
    ("a size of minus one", block(size=b"-0000000001"), "not octal"),
    ("a size that is no number", block(size=b"0000000zz"), "not octal"),
    ("a size of nothing", block(size=b""), "not octal"),
    ("eight gigabytes to come", block(size=8**11 - 1), "more content"),
    ("a mode that is no number", block(mode=b"rw-r--r"), "not octal"),
    # Dialects.
    ("GNU's own format", entry(b"files/a", magic=GNU), "not POSIX ustar"),
    ("the format of 1979", entry(b"files/a", magic=b""), "not POSIX ustar"),
    ("a block of noise", bytes(range(256)) * 2, "not POSIX ustar"),
]  # fmt: skip

WHOLE: list[tuple[str, bytes, str]] = [
    ("a second tar behind the first", gzip.compress(PLAIN + PLAIN), "data after"),
    ("a member behind the end", gzip.compress(PLAIN + entry(b"files/b")), "data after"),
    ("a byte behind the end", gzip.compress(PLAIN + bytes(511) + b"x"), "data after"),
    ("two megabytes of nothing behind the end", gzip.compress(PLAIN + bytes(2 << 20)), "data after"),
    ("one zero block at the end", gzip.compress(PLAIN[:-BLOCK]), "cut short"),
    ("no end", gzip.compress(PLAIN[: -2 * BLOCK]), "cut short"),
    ("cut in a header", gzip.compress(PLAIN[:-1100]), "cut short"),
    ("cut in content", gzip.compress(GOOD + block(size=5000) + b"x"), "cut short"),
    ("no tar at all", gzip.compress(b""), "cut short"),
    ("gzip in gzip", gzip.compress(gzip.compress(PLAIN)), "cut short|not POSIX"),
    ("garbage behind gzip", gzip.compress(PLAIN) + b"garbage", "data after"),
    ("zeros behind gzip", gzip.compress(PLAIN) + bytes(512), "data after"),
    ("a second gzip member", gzip.compress(PLAIN) + gzip.compress(PLAIN), "data after"),
    ("an empty gzip member behind", gzip.compress(PLAIN) + gzip.compress(b""), "data after"),
    ("the tar split over two gzip members", gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]), "data after"),
    ("gzip cut off", gzip.compress(PLAIN)[:-5], "cut short"),
    ("gzip with a wrong sum", gzip.compress(PLAIN)[:-8] + bytes(4) + gzip.compress(PLAIN)[-4:], "gzip"),
    ("gzip with a wrong length", gzip.compress(PLAIN)[:-4] + bytes(4), "gzip"),
    ("gzip with reserved flags", gzip.compress(PLAIN)[:3] + b"\xe0" + gzip.compress(PLAIN)[4:], "gzip"),
    ("zlib", zlib.compress(PLAIN), "gzip"),
    ("bzip2", bz2.compress(PLAIN), "gzip"),
    ("xz", lzma.compress(PLAIN), "gzip"),
    ("a bare tar", PLAIN, "gzip"),
    ("nothing", b"", "cut short"),
    ("a zip", b"", "gzip"),
]  # fmt: skip


def zipped() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("../../out", "x")
    return raw.getvalue()


ROWS = [
    *(pytest.param(gzip.compress(GOOD + tar + END), reason, id=name) for name, tar, reason in TARS),
    *(pytest.param(zipped() if name == "a zip" else data, why, id=name) for name, data, why in WHOLE),
]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    places = Paths(tmp_path / "device" / "state")
    places.make()
    return places


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the bytes that unpacking writes."""
    count = {"bytes": 0}
    real = stage._write

    def counting(path: Path, mode: int, pieces: Any, *, most: int) -> tuple[str, int]:
        def passing() -> Iterator[bytes]:
            for piece in pieces:
                count["bytes"] += len(piece)
                yield piece

        return real(path, mode, passing(), most=most)

    monkeypatch.setattr(stage, "_write", counting)
    return count


def refuse(paths: Paths, data: bytes) -> Stop:
    """Stage the archive, expect a refusal, and look at what is left on the device."""
    before = sorted(
        path.relative_to(paths.root.parent.parent) for path in paths.root.parent.parent.rglob("*")
    )
    file = paths.downloads / "a.bundle"
    file.write_bytes(data)
    signed = Bundle(sha256=sha256(data), size=max(1, len(data)), tar_sha256="0" * 64)
    with pytest.raises(Stop) as caught:
        stage.stage(paths, kit.release(7, bundle=signed, hook="fake"), file, {})
    file.unlink()
    after = sorted(path.relative_to(paths.root.parent.parent) for path in paths.root.parent.parent.rglob("*"))
    assert after == before, "something is left"
    assert not Path("/tmp/flaghoist-out").exists()
    return caught.value


@pytest.mark.parametrize(("data", "reason"), ROWS)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    paths: Paths, written: dict[str, int], data: bytes, reason: str
) -> None:
    stop = refuse(paths, data)
    assert any(part in stop.reason for part in reason.split("|")), stop.reason
    assert stop.lasting and stop.check == "archive"
    assert written["bytes"] <= 64


def test_while_it_is_unpacked_nothing_but_files_and_folders_is_ever_there(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of archives that are refused at their last member only."""
    seen: list[int] = []
    real = disk.remove

    def looking(path: Path) -> None:
        seen.extend(each.lstat().st_mode for each in path.rglob("*"))
        real(path)

    monkeypatch.setattr(disk, "remove", looking)
    for _, tar, _ in TARS:
        refuse(paths, gzip.compress(GOOD + entry(b"files/d/first") + tar + END))
    assert len(seen) > len(TARS)
    assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode in seen)
    assert all(stat.S_IMODE(mode) & 0o7022 == 0 for mode in seen)


def bomb(*sizes: int) -> bytes:
    return pack([member(f"files/{n}", bytes(size)) for n, size in enumerate(sizes)])[0]


def endless_headers() -> bytes:
    """Extended headers are not content; they count all the same."""
    one = pax(record(b"path", b"files/" + b"n" * 200))
    return gzip.compress(GOOD + b"".join(one + entry(b"files/%d" % n) for n in range(400)) + END)


BOMBS: list[tuple[str, Callable[[], bytes], str]] = [
    ("one file", lambda: bomb(200_000), "more content"),
    ("many files", lambda: bomb(*[30_000] * 20), "more than|more content"),
    ("zeros before the end mark", lambda: gzip.compress(GOOD + bytes(200_000)), "more than|data after"),
    ("zeros behind the end mark", lambda: gzip.compress(PLAIN + bytes(900_000)), "more than"),
    ("headers", endless_headers, "more than|twice"),
    ("noise", lambda: gzip.compress(bytes(range(256)) * 4000), "not POSIX"),
]


@pytest.mark.parametrize(("make", "reason"), [pytest.param(make, why, id=name) for name, make, why in BOMBS])
def test_a_gzip_bomb_ends_at_the_signed_budget(
    paths: Paths,
    written: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], bytes],
    reason: str,
) -> None:
    monkeypatch.setattr("topics.bundle.unpacked_limit", lambda _packed: 100_000)
    stop = refuse(paths, make())
    assert any(part in stop.reason for part in reason.split("|")), stop.reason
    assert written["bytes"] <= 100_000


def test_a_bomb_of_the_real_budget_is_refused_before_it_is_written(
    paths: Paths, written: dict[str, int]
) -> None:
    """A thousand times its size: the header is enough to refuse it."""
    packed = gzip.compress(GOOD + block(size=8**11 - 1) + bytes(10 << 20))
    assert bundle.unpacked_limit(len(packed)) < 100 << 20
    assert "more content" in refuse(paths, packed).reason
    assert written["bytes"] <= 2


def test_members_without_number_end_at_their_limit(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files use up what a disk has of names."""
    monkeypatch.setattr("topics.bundle.MAX_FILES", 20)
    many = b"".join(entry(b"files/%d" % n, b"") for n in range(100))
    assert "members" in refuse(paths, gzip.compress(GOOD + many + END)).reason


def test_unpacking_holds_no_more_than_a_piece_however_well_it_packs() -> None:
    packed = io.BytesIO(gzip.compress(bytes(50 << 20)))
    gunzip = archive.Gunzip(packed.read, max_bytes=60 << 20)
    largest = 0
    while piece := gunzip.read(archive.CHUNK):
        largest = max(largest, len(piece), len(gunzip._buffer))
    assert largest <= 2 * archive.CHUNK


def test_a_plain_archive_of_the_same_making_is_taken(paths: Paths) -> None:
    """So that the rows above are refused for what they are, not for how they are made."""
    data = gzip.compress(PLAIN)
    file = paths.downloads / "a.bundle"
    file.write_bytes(data)
    signed = Bundle(sha256=sha256(data), size=len(data), tar_sha256=sha256(PLAIN))
    with pytest.raises(Stop) as caught:
        stage.stage(paths, kit.release(7, bundle=signed, hook="fake"), file, {})
    assert caught.value.check == "checksums"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["bundle.json", "files/a"]
