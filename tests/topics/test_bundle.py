"""What may stand in a bundle: paths, modes, and the two documents that describe it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from topics import bundle
from topics.bundle import Checksums, FileEntry, checksums_bytes, parse_checksums, parse_info
from topics.errors import DecodeError

GOOD_PATHS = [
    pytest.param("bundle.json", id="a file at the top"),
    pytest.param("files/app.py", id="a file below"),
    pytest.param("files/with space.txt", id="a space inside"),
    pytest.param("files/café.txt", id="a composed accent"),
    pytest.param("files/..data", id="a name that starts with two dots"),
    pytest.param("files/.hidden", id="a hidden file"),
    pytest.param("files/a:b", id="a colon"),
    pytest.param("/".join("d" * 32), id="32 levels"),
    pytest.param("f" * 255, id="a name of 255 bytes"),
]
BAD_PATHS = [
    pytest.param("", id="empty"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("//etc/passwd", id="absolute, twice"),
    pytest.param("../etc/passwd", id="upwards"),
    pytest.param("files/../../etc/passwd", id="upwards on the way"),
    pytest.param("files/..", id="upwards at the end"),
    pytest.param("./files", id="a dot at the start"),
    pytest.param("files/./app.py", id="a dot on the way"),
    pytest.param(".", id="a dot alone"),
    pytest.param("files//app.py", id="an empty level"),
    pytest.param("files/", id="a slash at the end"),
    pytest.param("files\\app.py", id="a backslash"),
    pytest.param("files/app.py\0", id="NUL"),
    pytest.param("files/app.py\n", id="a line end"),
    pytest.param("files/\x1b[31mapp", id="a terminal escape"),
    pytest.param("files/\u202eyp.ppa", id="text turned right to left"),
    pytest.param("files/a\u200bb", id="a zero-width space"),
    pytest.param(
        "files/cafe\u0301.txt", id="a decomposed accent, which equals the composed one on some disks"
    ),
    pytest.param("files/\udc80", id="a tar name that is not UTF-8"),
    pytest.param("files/\ud800", id="a lone surrogate"),
    pytest.param("/".join("d" * 33), id="33 levels"),
    pytest.param("f" * 256, id="a name of 256 bytes"),
    pytest.param("é" * 128, id="a name of 256 bytes in 128 characters"),
    pytest.param("/".join(["d" * 200] * 3), id="603 characters"),
]


@pytest.mark.parametrize("text", GOOD_PATHS)
def test_path_inside_a_bundle(text: str) -> None:
    assert bundle.path(text) == text


@pytest.mark.parametrize("text", BAD_PATHS)
def test_path_that_leaves_a_bundle_or_hides_in_it(text: str) -> None:
    with pytest.raises(DecodeError, match="is not a path inside a bundle"):
        bundle.path(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("files/App.py", "files/app.py", id="upper and lower case"),
        pytest.param("files/STRASSE", "files/straße", id="a sharp s"),
        pytest.param("files/café", "files/CAFÉ", id="an accent"),
        pytest.param("files/\u03a3", "files/\u03c2", id="the two small sigmas"),
    ],
)
def test_paths_that_collide(one: str, other: str) -> None:
    assert bundle.fold(one) == bundle.fold(other)


def entry(path: str = "files/app.py", **changes: Any) -> FileEntry:
    fields: dict[str, Any] = {"path": path, "sha256": "a" * 64, "size": 3, "mode": 0o644}
    return FileEntry(**{**fields, **changes})


ENTRIES = [entry("files/b"), entry("bundle.json"), entry("validate/10-http", mode=0o755)]


def test_checksums_come_back_sorted() -> None:
    document = parse_checksums(checksums_bytes(ENTRIES))
    assert [file.path for file in document.files] == ["bundle.json", "files/b", "validate/10-http"]


def test_checksums_of_the_same_files_are_the_same_bytes() -> None:
    """The signed release holds their hash, so neither order nor writer may matter."""
    data = checksums_bytes(ENTRIES)
    assert data == checksums_bytes(list(reversed(ENTRIES)))
    assert checksums_bytes(parse_checksums(data).files) == data
    assert data.startswith(b'{"files":[{"mode":420,"path":"bundle.json","sha256":"aaaa')
    digest = hashlib.sha256(data).hexdigest()
    assert digest == "bcf0e5dea397283f8a9ef160efdc95d3f19a7a4f7c9dc3e93f1eea74f69e8702"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param([entry("../x")], "not a path inside a bundle", id="a path upwards"),
        pytest.param([entry("/x")], "not a path inside a bundle", id="an absolute path"),
        pytest.param([entry(mode=0o4755)], "invalid", id="set-uid"),
        pytest.param([entry(mode=0o2755)], "invalid", id="set-gid"),
        pytest.param([entry(mode=0o666)], "has mode 666", id="writable by everybody"),
        pytest.param([entry(mode=0o600)], "has mode 600", id="a mode of its own"),
        pytest.param([entry(mode=-1)], "invalid", id="a negative mode"),
        pytest.param([entry("files/a"), entry("files/a")], "two paths are the same", id="a path twice"),
        pytest.param(
            [entry("files/a"), entry("files/A")], "differ only by case", id="paths that differ by case"
        ),
        pytest.param([entry(sha256="A" * 64)], "invalid", id="a hash in upper case"),
        pytest.param([entry(size=-1)], "invalid", id="a negative size"),
        pytest.param([entry("f" * 2000)], "invalid", id="an endless path"),
    ],
)
def test_bad_checksums_are_refused(files: list[FileEntry], said: str) -> None:
    data = checksums_bytes(files)
    with pytest.raises(DecodeError, match=said):
        parse_checksums(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'{"files":[]}x', id="trailing bytes"),
        pytest.param(b'{"files":[],"format":2}', id="a format of the future"),
        pytest.param(b" " * (bundle.CHECKSUMS_LIMIT + 1), id="endless"),
        pytest.param(b'{"files":' + b"[" * 5000, id="deep nesting"),
    ],
)
def test_what_is_no_checksums_document(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_checksums(data)


def test_more_files_than_a_bundle_may_have_are_refused() -> None:
    files = [entry(f"files/{number}") for number in range(bundle.MAX_FILES + 1)]
    with pytest.raises(DecodeError, match="invalid"):
        parse_checksums(checksums_bytes(files))
    assert len(parse_checksums(checksums_bytes(files[1:])).files) == bundle.MAX_FILES


def info(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"format": 1, "role": "kiosk", "version": "1.7.0", "hook": "exec"}
    return json.dumps({**fields, **changes}).encode()


def test_bundle_json_takes_defaults() -> None:
    parsed = parse_info(info(exec={"command": ["./run"]}))
    assert (parsed.probation_seconds, parsed.floor, parsed.allow_unpinned_images) == (30, 0, False)
    assert parsed.exec is not None
    assert parsed.exec.stop_seconds == 10


def test_feature_flags_keep_their_types() -> None:
    flags = {"menu": True, "retries": 3, "theme": "dark", "low": -(2**63), "high": 2**63 - 1}
    assert parse_info(info(feature_flags=flags)).feature_flags == flags
    assert parse_info(info(feature_flags={"menu": True})).feature_flags["menu"] is True


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(info(probation_second=5), id="a field misspelt: it would be passed over in silence"),
        pytest.param(info(format=2), id="a format of the future"),
        pytest.param(info(role="Kiosk"), id="a role in upper case"),
        pytest.param(info(hook="../exec"), id="a hook that is a path"),
        pytest.param(info(exec={"command": []}), id="no command"),
        pytest.param(info(exec={"command": ["./run"], "shell": True}), id="an unknown way to run"),
        pytest.param(info(exec={"command": ["./run"], "stop_seconds": 0}), id="no time to stop"),
        pytest.param(info(probation_seconds=-1), id="probation in the past"),
        pytest.param(info(probation_seconds=86_401), id="probation beyond a day"),
        pytest.param(info(feature_flags={"retries": 2**63}), id="a flag beyond 64 bits"),
        pytest.param(info(feature_flags={"retries": 10**400}), id="a flag beyond reason"),
        pytest.param(info(feature_flags={"ratio": 0.5}), id="a fraction as a flag"),
        pytest.param(info(feature_flags={"list": []}), id="a list as a flag"),
        pytest.param(info(requires={"min_agnet": "1.0"})[:-1], id="cut off"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x81\xa6format\x01", id="MessagePack"),
        pytest.param(info(migration="x" * 70_000), id="endless"),
    ],
)
def test_bad_bundle_json_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_info(data)


def test_an_empty_bundle_has_a_checksums_document_too() -> None:
    assert parse_checksums(checksums_bytes([])) == Checksums([])
