"""Hostile archives: everything but regular files and folders, plainly named, is refused, each with its reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.archive import Gunzip, Reader
from topics.errors import DecodeError

LIMIT = 1 << 20
Change = Callable[[tarfile.TarInfo], None]


def tar(*members: tuple[str, bytes, Change | None], form: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for name, content, change in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def of(kind: bytes, link: str = "") -> Change:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, link, 0

    return change


def mode(bits: int, kind: bytes = tarfile.REGTYPE) -> Change:
    def change(info: tarfile.TarInfo) -> None:
        info.mode, info.type = bits, kind

    return change


def read(data: bytes, limit: int = LIMIT) -> dict[str, bytes]:
    reader = Reader(io.BytesIO(data).read, max_bytes=limit)
    found = {member.path: b"".join(reader.content()) for member in reader.members()}
    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    return found


GOOD = tar(
    ("bundle.json", b"{}", None),
    ("files", b"", mode(0o755, tarfile.DIRTYPE)),
    ("files/a.py", b"a" * 999, None),
)


def test_files_and_folders_are_read_whole() -> None:
    assert read(GOOD) == {"bundle.json": b"{}", "files": b"", "files/a.py": b"a" * 999}


def test_a_long_or_foreign_name_travels_in_a_pax_header() -> None:
    name = "files/" + "déjà-vu/" * 20 + "a.py"
    assert list(read(tar((name, b"x", None)))) == [name]


def test_content_that_nobody_reads_is_hashed_all_the_same() -> None:
    reader = Reader(io.BytesIO(GOOD).read, max_bytes=LIMIT)
    assert [member.path for member in reader.members()] == ["bundle.json", "files", "files/a.py"]
    assert reader.sha256 == hashlib.sha256(GOOD).hexdigest()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(tar(("/etc/passwd", b"x", None)), "not a path", id="absolute path"),
        pytest.param(tar(("../up", b"x", None)), "not a path", id="parent folder"),
        pytest.param(tar(("a/../../b", b"x", None)), "not a path", id="parent folder within"),
        pytest.param(tar(("a//b", b"x", None)), "not a path", id="empty level"),
        pytest.param(tar(("./a", b"x", None)), "not a path", id="a dot"),
        pytest.param(tar(("a\\b", b"x", None)), "not a path", id="backslash"),
        pytest.param(tar(("a\nb", b"x", None)), "not a path", id="newline in a name"),
        pytest.param(tar(("x", b"", of(tarfile.SYMTYPE, "/etc"))), "neither", id="symbolic link"),
        pytest.param(tar(("x", b"", of(tarfile.LNKTYPE, "bundle.json"))), "neither", id="hard link"),
        pytest.param(tar(("x", b"", of(tarfile.CHRTYPE))), "neither", id="character device"),
        pytest.param(tar(("x", b"", of(tarfile.BLKTYPE))), "neither", id="block device"),
        pytest.param(tar(("x", b"", of(tarfile.FIFOTYPE))), "neither", id="named pipe"),
        pytest.param(tar(("x", b"", of(tarfile.CONTTYPE))), "neither", id="contiguous file"),
        pytest.param(tar(("x", b"", of(b"S"))), "neither", id="GNU sparse file"),
        pytest.param(tar(("x", b"", of(b"V"))), "neither", id="volume label"),
        pytest.param(tar(("x", b"x", mode(0o4755))), "mode", id="set-uid"),
        pytest.param(tar(("x", b"x", mode(0o2755))), "mode", id="set-gid"),
        pytest.param(tar(("x", b"x", mode(0o666))), "mode", id="world writable"),
        pytest.param(tar(("x", b"", mode(0o777, tarfile.DIRTYPE))), "mode", id="world writable folder"),
        pytest.param(tar(("a", b"x", None), ("a", b"y", None)), "twice", id="duplicate member"),
        pytest.param(tar(("a/B", b"x", None), ("a/b", b"y", None)), "case", id="case collision"),
        pytest.param(tar(("ß", b"x", None), ("SS", b"y", None)), "case", id="case collision by folding"),
        pytest.param(tar(("a", b"x", None), ("a/b", b"y", None)), "in a file", id="a file used as a folder"),
        pytest.param(tar(("a/b", b"y", None), ("a", b"x", None)), "twice", id="a folder replaced by a file"),
        pytest.param(tar(("big", b"x" * (LIMIT + 1), None)), "more content", id="more than the signed size"),
        pytest.param(tar(("y" * 120, b"x", None), form=tarfile.GNU_FORMAT), "ustar", id="GNU dialect"),
        pytest.param(GOOD[:600], "cut short", id="cut in a header"),
        pytest.param(GOOD[:1024], "cut short", id="no end mark"),
        pytest.param(GOOD + b"x", "after the end", id="trailing byte"),
        pytest.param(GOOD + GOOD, "after the end", id="a second archive behind"),
        pytest.param(GOOD[:100] + b"9" + GOOD[101:], "checksum", id="a header that was changed"),
        pytest.param(b"", "cut short", id="nothing"),
        pytest.param(b"\0" * 2048, "", id="an empty archive"),
    ],
)
def test_a_hostile_archive_is_refused(data: bytes, reason: str) -> None:
    if not reason:
        assert read(data) == {}
        return
    with pytest.raises(DecodeError, match=reason):
        read(data)


def test_a_pax_header_may_give_a_path_and_nothing_else() -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.mode = 0o644
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        archive.addfile(info)
    with pytest.raises(DecodeError, match="pax header"):
        read(raw.getvalue())


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        pytest.param(gzip.compress(GOOD)[:-9], "cut short", id="cut in mid-stream"),
        pytest.param(gzip.compress(GOOD) + b"x", "after the end", id="trailing byte"),
        pytest.param(gzip.compress(GOOD) * 2, "after the end", id="a second stream"),
        pytest.param(b"PK\x03\x04", "not a good gzip", id="another format"),
        pytest.param(gzip.compress(b"\0" * (LIMIT + 1)), "more than the signed", id="a bomb"),
    ],
)
def test_a_hostile_gzip_stream_is_refused(packed: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        reader = Reader(Gunzip(io.BytesIO(packed).read, max_bytes=LIMIT).read, max_bytes=LIMIT)
        for _ in reader.members():
            pass


@given(st.binary(max_size=4096))
def test_any_bytes_are_an_archive_or_our_error(data: bytes) -> None:
    try:
        read(data)
    except DecodeError:
        return


@given(st.integers(min_value=0, max_value=len(GOOD) - 1), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_changes_the_hash_or_is_refused(place: int, delta: int) -> None:
    changed = bytearray(GOOD)
    changed[place] = (changed[place] + delta) % 256
    reader = Reader(io.BytesIO(bytes(changed)).read, max_bytes=LIMIT)
    try:
        for _ in reader.members():
            pass
    except DecodeError:
        return
    assert reader.sha256 != hashlib.sha256(GOOD).hexdigest()
