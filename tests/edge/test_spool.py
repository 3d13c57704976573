"""Reports on disk: none lost, none counted twice, whatever happens to the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.storage import disk
from edge.storage.spool import Spool


def open_spool(path: Path, mark: str = "a") -> Spool:
    return Spool(path, lambda n: mark.encode() * n)


def add(spool: Spool, serial: int, source: str = "update:1") -> bool:
    return spool.append(source, serial, "update-result", lambda spool_id, n: f"{spool_id}:{n}".encode())


def numbers(spool: Spool) -> list[int]:
    return [entry.n for entry in spool.reports]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frames"


def test_reports_are_numbered_one_by_one_and_survive_a_restart(path: Path) -> None:
    spool = open_spool(path)
    for serial in (1, 2, 3):
        add(spool, serial)
    spool.close()
    again = open_spool(path, "b")
    assert [entry.body for entry in again.reports] == [f"{(b'a' * 8).hex()}:{n}".encode() for n in (1, 2, 3)]
    add(again, 4)
    assert numbers(again) == [1, 2, 3, 4]
    again.close()


def test_a_serial_is_taken_once_even_after_its_receipt_and_a_restart(path: Path) -> None:
    spool = open_spool(path)
    add(spool, 1)
    add(spool, 1)
    assert numbers(spool) == [1]
    spool.receipt(spool.reports[0].spool, 1)
    spool.close()
    again = open_spool(path, "b")
    assert add(again, 1)
    assert numbers(again) == []
    add(again, 2)
    assert numbers(again) == [2]
    again.close()


def test_sources_count_apart(path: Path) -> None:
    spool = open_spool(path)
    add(spool, 1, "update:1")
    add(spool, 1, "memory:1")
    assert numbers(spool) == [1, 2]
    spool.close()


@pytest.mark.parametrize(
    ("spool_id", "n", "left"),
    [
        pytest.param(None, 2, [3], id="up to n"),
        pytest.param(None, 0, [1, 2, 3], id="nothing yet"),
        pytest.param(None, 99, [], id="more than there is"),
        pytest.param("ffffffff", 3, [1, 2, 3], id="another spool"),
    ],
)
def test_a_receipt_forgets_exactly_what_it_names(
    path: Path, spool_id: str | None, n: int, left: list[int]
) -> None:
    spool = open_spool(path)
    for serial in (1, 2, 3):
        add(spool, serial)
    own = spool.reports[0].spool
    spool.receipt(spool_id or own, n)
    spool.receipt(spool_id or own, n)
    assert numbers(spool) == left
    spool.close()
    again = open_spool(path, "b")
    assert numbers(again) == left
    again.close()


DAMAGE: list[tuple[str, Callable[[bytes], bytes], int]] = [
    ("torn in the last frame", lambda data: data[:-3], 2),
    ("torn in a frame's head", lambda data: data + b"\0\0\0", 3),
    ("zeros after the end", lambda data: data + bytes(100), 3),
    ("garbage after the end", lambda data: data + b"\xff" * 40, 3),
    ("a bit in the last frame", lambda data: data[:-1] + bytes([data[-1] ^ 1]), 2),
    ("all zeros", lambda data: bytes(len(data)), 0),
    ("empty", lambda data: b"", 0),
    ("a length beyond belief", lambda data: b"\xff" * 8 + data, 0),
]


@pytest.mark.parametrize(("damage", "left"), [pytest.param(d, n, id=name) for name, d, n in DAMAGE])
def test_damage_costs_at_most_what_it_hit_and_no_number_comes_twice(
    path: Path, damage: Callable[[bytes], bytes], left: int
) -> None:
    spool = open_spool(path)
    for serial in (1, 2, 3):
        add(spool, serial)
    spool.close()
    path.write_bytes(damage(path.read_bytes()))
    again = open_spool(path, "b")
    assert numbers(again) == [1, 2, 3][:left]
    add(again, 10, "update:2")
    last = again.reports[-1]
    assert (last.spool, last.n) == ((b"b" * 8).hex(), 1)
    again.close()
    third = open_spool(path, "c")
    assert len(third) == left + 1
    add(third, 11, "update:2")
    assert (third.reports[-1].spool, third.reports[-1].n) == ((b"b" * 8).hex(), 2)
    third.close()


def test_a_full_spool_says_no_and_keeps_what_it_has(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are never thrown away; there is room again once the hub has them."""
    spool = open_spool(path)
    add(spool, 1)
    size = len(spool.reports[0].body)
    monkeypatch.setattr("edge.storage.spool.MAX_BYTES", 2 * size)
    assert [add(spool, serial) for serial in (2, 3)] == [True, False]
    assert numbers(spool) == [1, 2]
    spool.receipt(spool.reports[0].spool, 1)
    assert add(spool, 3)
    assert numbers(spool) == [2, 3]
    spool.close()


def test_the_file_does_not_grow_with_what_was_receipted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.storage.spool.SLACK", 1000)
    spool = open_spool(path)
    add(spool, 1)
    for serial in range(2, 200):
        add(spool, serial)
        spool.receipt(spool.reports[0].spool, serial - 1)
    assert numbers(spool) == [199]
    assert path.stat().st_size < 1500
    spool.close()
    again = open_spool(path, "b")
    assert numbers(again) == [199]
    add(again, 200)
    assert numbers(again) == [199, 200]
    again.close()


class Disk:
    """Lets chosen calls of the spool and of what it writes by fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: set[str] = set()
        for name in ("fsync", "truncate"):
            self._watch(monkeypatch, os, name)
        self._watch(monkeypatch, disk, "fsync_dir")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def watched(*arguments: Any) -> Any:
            if name in self.refuses:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments)

        monkeypatch.setattr(owner, name, watched)


@pytest.mark.parametrize(
    "refuses",
    [
        pytest.param({"fsync"}, id="cannot be forced to disk"),
        pytest.param({"fsync", "truncate"}, id="nor taken back"),
    ],
)
@pytest.mark.parametrize("restart", [pytest.param(False, id="goes on"), pytest.param(True, id="starts anew")])
def test_a_disk_that_refuses_leaves_no_half_frame(
    path: Path, monkeypatch: pytest.MonkeyPatch, refuses: set[str], restart: bool
) -> None:
    """D2: nothing that was taken is lost, and no number comes twice within a spool."""
    faulty = Disk(monkeypatch)
    spool = open_spool(path)
    add(spool, 1)
    faulty.refuses = refuses
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            add(spool, 2)
    faulty.refuses = set()
    if restart:
        spool.close()
        spool = open_spool(path, "b")
    add(spool, 2)
    add(spool, 3)
    told = [(entry.spool, entry.n, entry.serial) for entry in spool.reports]
    assert [serial for *_, serial in told] == [1, 2, 3]
    assert len({(where, n) for where, n, _ in told}) == 3
    spool.close()
    again = open_spool(path, "c")
    assert [(entry.spool, entry.n, entry.serial) for entry in again.reports] == told
    again.close()


def test_a_receipt_that_cannot_be_written_down_is_no_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has those reports, and counts them once when they come again."""
    faulty = Disk(monkeypatch)
    spool = open_spool(path)
    for serial in (1, 2, 3):
        add(spool, serial)
    own = spool.reports[0].spool
    for refuses, n in (({"fsync"}, 1), ({"fsync_dir"}, 3)):
        faulty.refuses = refuses
        with pytest.raises(OSError, match="No space"):
            spool.receipt(own, n)
        faulty.refuses = set()
    add(spool, 4)
    assert (spool.reports[0].spool, numbers(spool)) == (own, [4])
    spool.close()
    again = open_spool(path, "b")
    assert numbers(again) == [4]
    again.close()


REPORTS = st.lists(st.binary(max_size=40), max_size=6)


@given(bodies=REPORTS, tail=st.binary(max_size=60), cut=st.integers(0, 400))
def test_whatever_follows_the_whole_frames_costs_none_of_them(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], tail: bytes, cut: int
) -> None:
    """A tail of any bytes, or the file cut anywhere: reading never fails, and gives what stood whole before that."""
    path = tmp_path_factory.mktemp("spool") / "frames"
    spool = open_spool(path)
    sizes = [path.stat().st_size]
    for serial, body in enumerate(bodies, 1):
        spool.append("s", serial, "drift", lambda _spool, _n, body=body: body)  # type: ignore[misc]
        sizes.append(path.stat().st_size)
    spool.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + tail)
    left = max(sum(size <= cut for size in sizes) - 1, 0)
    assert [entry.body for entry in Spool.peek(path)][:left] == bodies[:left]
    again = open_spool(path, "b")
    assert [entry.body for entry in again.reports][:left] == bodies[:left]
    add(again, 99, "later")
    assert len({(entry.spool, entry.n) for entry in again.reports}) == len(again)
    again.close()


@given(data=st.binary(max_size=300))
def test_a_file_of_any_bytes_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("spool") / "frames"
    path.write_bytes(data)
    assert Spool.peek(path) == []
    spool = open_spool(path)
    add(spool, 1)
    assert numbers(spool) == [1]
    spool.close()
