"""Reports on disk: none lost, none counted twice, whatever happens to the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.storage.spool import MAX_REPORTS, Spool


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
    monkeypatch.setattr("edge.storage.spool.MAX_REPORTS", 2)
    spool = open_spool(path)
    assert [add(spool, serial) for serial in (1, 2, 3)] == [True, True, False]
    spool.receipt(spool.reports[0].spool, 1)
    assert add(spool, 3)
    assert MAX_REPORTS > 1000
    spool.close()


def test_a_full_disk_leaves_no_half_frame(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2."""
    spool = open_spool(path)
    add(spool, 1)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.storage.spool.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            add(spool, 2)
    add(spool, 2)
    assert numbers(spool) == [1, 2]
    spool.close()
    again = open_spool(path, "b")
    assert numbers(again) == [1, 2]
    again.close()
