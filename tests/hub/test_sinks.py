"""Sinks of raw lines: what arrives, what is lost and counted, and that ingest never waits."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.telemetry.sinks import Line, Lines, Ndjson, Sink
from hub.telemetry.sinks.queue import Queue
from hub.telemetry.sinks.render import Rendered, UnreadableError, render
from tests.support.mosquitto import wait_until
from topics.codec import JSON, MSGPACK

AT = 1_790_000_000_000  # 2026-09-21T14:13:20Z
HOUR = 3_600_000


def line(number: int, *, kind: str = "status", device: str = "shop-1", at: int = AT) -> Line:
    return (kind, device, msgspec.msgpack.encode({"seq": number}), MSGPACK, at)


def numbered(first: int, count: int) -> list[Line]:
    return [line(number) for number in range(first, first + count)]


# The queue


def drained(queue: Queue) -> list[int]:
    found: list[int] = []
    while lines := queue.take(3, 10_000):
        found += [msgspec.msgpack.decode(body)["seq"] for _, _, body, _, _ in lines]
    return found


@pytest.mark.parametrize(
    ("bounds", "batches", "kept", "lost"),
    [
        pytest.param({"max_lines": 5}, [numbered(0, 5)], [0, 1, 2, 3, 4], 0, id="as many as it holds"),
        pytest.param(
            {"max_lines": 5}, [numbered(0, 4), numbered(4, 3)], [2, 3, 4, 5, 6], 2, id="the oldest go"
        ),
        pytest.param(
            {"max_lines": 2}, [numbered(0, 7)], [5, 6], 5, id="one batch that is more than it holds"
        ),
        pytest.param(
            {"max_bytes": 3 * 6}, [numbered(0, 2), numbered(2, 2)], [1, 2, 3], 1, id="bounded by bytes"
        ),
        pytest.param({"max_bytes": 5}, [numbered(0, 2)], [], 2, id="a body larger than all it may hold"),
    ],
)
def test_a_full_queue_loses_its_oldest_lines_and_counts_them(
    bounds: dict[str, int], batches: list[list[Line]], kept: list[int], lost: int
) -> None:
    queue = Queue(**bounds)
    for batch in batches:
        queue.put(batch)
    assert (drained(queue), queue.overflowed, len(queue)) == (kept, lost, 0)


def test_lines_of_many_threads_are_each_taken_or_counted_as_lost() -> None:
    queue = Queue(max_lines=50)
    taken = 0

    def write() -> None:
        for _ in range(500):
            queue.put(numbered(0, 3))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or len(queue):
        taken += len(queue.take(7, 10_000))
    assert taken + queue.overflowed == 4 * 500 * 3


def test_a_body_larger_than_a_batch_goes_alone() -> None:
    queue = Queue()
    queue.put(numbered(0, 3))
    assert len(queue.take(10, 1)) == 1 and len(queue) == 2


# One line


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        pytest.param(b'{"a":\n [1,\r\n 2]}', JSON, {"a": [1, 2]}, id="JSON over several lines becomes one"),
        pytest.param(b'{"a": 1}', None, {"a": 1}, id="JSON that says so by its first byte"),
        pytest.param(msgspec.msgpack.encode({"a": "b\nc"}), None, {"a": "b\nc"}, id="MessagePack"),
        pytest.param(
            msgspec.msgpack.encode({"a": b"\x00\x01"}), MSGPACK, {"a": "AAE="}, id="bytes as base64"
        ),
        pytest.param(
            msgspec.msgpack.encode({"a": 2**64 - 1}), MSGPACK, {"a": 2**64 - 1}, id="beyond 63 bits"
        ),
        pytest.param(
            msgspec.msgpack.encode({"a": float("nan")}), MSGPACK, {"a": None}, id="no number becomes null"
        ),
    ],
)
def test_a_report_is_one_line_of_json(body: bytes, content_type: str | None, expected: Any) -> None:
    (found,) = render(("status", "shop-1", body, content_type, AT))
    assert b"\n" not in found.text
    assert json.loads(found.text) == {
        "at": "2026-09-21T14:13:20.000Z",
        "device_id": "shop-1",
        "kind": "status",
        "body": expected,
    }


def test_a_batch_of_log_lines_is_a_line_each() -> None:
    body = msgspec.json.encode({"at": 5, "lines": [{"text": "one"}, {"text": "two"}]})
    found = render(("log", "shop-1", body, JSON, AT))
    assert [json.loads(each.text)["body"] for each in found] == [{"text": "one"}, {"text": "two"}]


UNREADABLE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\xc1", id="no MessagePack"),
    pytest.param(b"{", id="JSON cut short"),
    pytest.param(msgspec.msgpack.encode([1]), id="a list"),
    pytest.param(b"\x81\xa1a\xa1\xff", id="text that is not UTF-8"),
    pytest.param(b"\x81\xa1a" * 100_000, id="nested without end"),
    pytest.param(b"\x81\x80\x01", id="a map as a key"),
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_cannot_be_said_in_json_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        render(("status", "shop-1", body, None, AT))


# Every sink


class Memory(Sink):
    """Keeps lines, or does what it is told."""

    NAME = "memory"
    LINGER_S = 0.0

    def __init__(self, queue: Queue | None = None) -> None:
        super().__init__(queue)
        self.lines: list[Rendered] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.closed = False

    def write(self, lines: list[Rendered]) -> None:
        self.gate.wait(20)
        if self.fault:
            raise self.fault
        self.lines += lines

    def close(self) -> None:
        self.closed = True


@contextmanager
def running(*sinks: Sink) -> Iterator[Lines]:
    lines = Lines(sinks)
    lines.start()
    try:
        yield lines
    finally:
        lines.stop()


def test_ingest_never_waits_for_a_sink_that_hangs() -> None:
    sink = Memory(Queue(max_lines=100))
    with running(sink) as lines:
        sink.gate.clear()
        begin = time.monotonic()
        for number in range(50):
            lines.extend(numbered(number * 100, 100))
        lines.offer("status", "shop-1", b"{}", JSON, AT)
        assert time.monotonic() - begin < 60
        assert sink.queued == 100
        lost = sink.dropped["overflow"]
        sink.gate.set()
        wait_until(lambda: sink.sent == 5_001 - lost, what="all that was not lost")
    assert sink.closed and sum(sink.dropped.values()) == lost


def test_what_is_queued_at_the_end_is_still_written() -> None:
    sink = Memory()
    with running(sink) as lines:
        lines.extend(numbered(0, 2_500))
    assert sink.sent == len(sink.lines) == 2_500 and sink.closed


def test_the_hub_stops_in_time_whatever_a_sink_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.telemetry.sinks.lines.STOP_S", 0.2)
    sink = Memory()
    sink.gate.clear()
    lines = Lines([sink])
    lines.start()
    lines.offer("status", "shop-1", b"{}", JSON, AT)
    wait_until(lambda: not sink.queued, what="the sink holding the line")
    begin = time.monotonic()
    lines.stop()
    assert time.monotonic() - begin < 60
    sink.gate.set()


def test_a_sink_that_cannot_finish_in_time_counts_what_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.telemetry.sinks.sink.STOP_S", 0.0)
    sink = Memory()
    sink.gate.clear()
    lines = Lines([sink])
    lines.start()
    lines.offer("status", "shop-1", b"{}", JSON, AT)
    wait_until(lambda: not sink.queued, what="the sink holding the line")
    lines.extend(numbered(0, 5_000))
    sink.end()
    sink.gate.set()
    lines.stop()
    assert sink.sent + sink.dropped["stopped"] == 5_001 and sink.dropped["stopped"] >= 4_000


def test_an_unreadable_report_is_counted_and_the_next_one_written() -> None:
    sink = Memory()
    with running(sink) as lines:
        lines.extend([("status", "shop-1", b"\xc1", None, AT), line(1)])
    assert (sink.sent, sink.dropped["unreadable"]) == (1, 1)


def test_a_fault_of_ours_costs_one_batch_and_not_the_sink() -> None:
    sink = Memory()
    with running(sink) as lines:
        sink.fault = ZeroDivisionError("oops")
        lines.offer("status", "shop-1", b"{}", JSON, AT)
        wait_until(lambda: sink.dropped["fault"] == 1, what="the fault counted")
        assert "ZeroDivisionError" in sink.problem
        sink.fault = None
        lines.offer("status", "shop-1", b"{}", JSON, AT)
        wait_until(lambda: sink.sent == 1, what="the next line")
        wait_until(lambda: not sink.problem, what="the end of the problem")


# Files


class Clock:
    now = AT


def files(folder: Path) -> dict[str, list[int]]:
    return {
        path.name: [json.loads(text)["body"]["seq"] for text in path.read_bytes().splitlines()]
        for path in sorted(folder.iterdir())
    }


def rendered(numbers: Sequence[int]) -> list[Rendered]:
    return [found for number in numbers for found in render(line(number))]


def test_lines_are_in_a_file_of_their_hour_in_order(tmp_path: Path) -> None:
    with running(Ndjson(tmp_path / "lines", now=lambda: AT, reserve=0)) as lines:
        lines.extend(numbered(0, 1_200))
    assert files(tmp_path / "lines") == {"2026-09-21T14-0001.ndjson": list(range(1_200))}
    (path,) = (tmp_path / "lines").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_ends_with_its_hour_at_its_size_and_with_the_hub(tmp_path: Path) -> None:
    size = len(rendered([0])[0].text) + 1
    clock = Clock()

    def sink() -> Ndjson:
        return Ndjson(tmp_path, now=lambda: clock.now, file_bytes=3 * size, reserve=0)

    first = sink()
    first.write(rendered([0, 1]))
    first.write(rendered([2]))
    first.write(rendered([3]))
    clock.now += HOUR
    first.write(rendered([4]))
    first.close()
    second = sink()
    second.write(rendered([5]))
    second.close()
    assert files(tmp_path) == {
        "2026-09-21T14-0001.ndjson": [0, 1, 2],
        "2026-09-21T14-0002.ndjson": [3],
        "2026-09-21T15-0001.ndjson": [4],
        "2026-09-21T15-0002.ndjson": [5],
    }


def test_a_file_is_on_disk_before_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert sorted(path.name for path in tmp_path.iterdir())[-1] == synced[-1]
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    clock = Clock()
    sink = Ndjson(tmp_path, now=lambda: clock.now, reserve=0)
    sink.write(rendered([0]))
    sink.idle()
    assert synced == []
    clock.now += HOUR
    sink.write(rendered([1]))
    clock.now += HOUR
    sink.idle()
    assert synced == ["2026-09-21T14-0001.ndjson", "2026-09-21T15-0001.ndjson"]


def test_all_files_stay_below_the_cap_and_the_oldest_go(tmp_path: Path) -> None:
    size = len(rendered([0])[0].text) + 1
    (tmp_path / "notes.txt").write_text("mine")
    sink = Ndjson(tmp_path, now=lambda: AT, cap=6 * size, file_bytes=2 * size, reserve=0)
    for number in range(9):
        sink.write(rendered([number]))
        total = sum(path.stat().st_size for path in tmp_path.glob("*.ndjson"))
        assert total <= 6 * size
    sink.close()
    (tmp_path / "notes.txt").unlink()
    assert files(tmp_path) == {
        "2026-09-21T14-0003.ndjson": [4, 5],
        "2026-09-21T14-0004.ndjson": [6, 7],
        "2026-09-21T14-0005.ndjson": [8],
    }


def test_the_last_of_the_disk_is_left_to_the_database(tmp_path: Path) -> None:
    room = 0
    sink = Ndjson(tmp_path, now=lambda: AT, reserve=1_000, free=lambda _folder: room)
    with running(sink) as lines:
        lines.extend(numbered(0, 3))
        wait_until(lambda: sink.dropped["disk"] == 3, what="lines dropped")
        assert "free" in sink.problem and sink.failures == 1
        room = 1_000_000
        lines.extend(numbered(3, 2))
        wait_until(lambda: sink.sent == 2, what="lines written when there is room")
    assert files(tmp_path) == {"2026-09-21T14-0001.ndjson": [3, 4]} and not sink.problem


def test_a_line_that_was_not_written_whole_is_cut_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Ndjson(tmp_path, now=lambda: AT, reserve=0)
    with running(sink) as lines:
        lines.extend(numbered(0, 1))
        wait_until(lambda: sink.sent == 1, what="the first line")
        real, writes = os.write, iter([10, -errno.ENOSPC])

        def write(descriptor: int, data: bytes) -> int:
            if not threading.current_thread().name.startswith("sink-"):
                return real(descriptor, data)
            told = next(writes)
            if told < 0:
                monkeypatch.undo()
                raise OSError(-told, os.strerror(-told))
            return real(descriptor, data[:told])

        monkeypatch.setattr("os.write", write)
        lines.extend(numbered(1, 1))
        wait_until(lambda: sink.dropped["disk"] == 1, what="the line dropped")
        assert "No space left" in sink.problem
        lines.extend(numbered(2, 1))
    assert files(tmp_path) == {"2026-09-21T14-0001.ndjson": [0, 2]}


def test_a_folder_that_cannot_be_made_drops_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a file")
    sink = Ndjson(tmp_path / "lines", now=lambda: AT)
    with running(sink) as lines:
        lines.extend(numbered(0, 2))
    assert sink.dropped["disk"] == 2 and str(tmp_path / "lines") in sink.problem


# Loki
