"""Changes lead from any checksums to any others, and refuse what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics import bundle, changes
from topics.bundle import Checksums, FileEntry
from topics.errors import DecodeError

ENTRIES = st.dictionaries(
    st.sampled_from([f"files/{letter}" for letter in "abcdef"]),
    st.tuples(st.sampled_from(["0" * 64, "1" * 64]), st.integers(0, 9), st.sampled_from(bundle.MODES)),
).map(lambda files: Checksums([FileEntry(path, *rest) for path, rest in sorted(files.items())]))


@given(ENTRIES, ENTRIES)
def test_changes_lead_from_any_release_to_any_other(old: Checksums, new: Checksums) -> None:
    assert changes.apply(old, changes.difference(old, new)) == bundle.checksums_bytes(new.files)


def test_what_stayed_is_not_said_again() -> None:
    files = [FileEntry(f"files/{n}", f"{n:064x}", n, 0o644) for n in range(50)]
    new = [*files[:7], FileEntry("files/7", "f" * 64, 7, 0o644), *files[8:-1]]
    said = json.loads(changes.difference(Checksums(files), Checksums(new)))
    assert ([entry["path"] for entry in said["files"]], said["removed"]) == (["files/7"], ["files/49"])


BAD = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{}", id="no fields"),
    pytest.param(b'{"files":[],"removed":[],"format":2}', id="another format"),
    pytest.param(b'{"files":[{"path":"a"}],"removed":[]}', id="half an entry"),
    pytest.param(b"[" * 100_000, id="deep"),
]


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_changes_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        changes.apply(Checksums([]), data)
