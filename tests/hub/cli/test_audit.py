"""`flaghoist audit`: what the hub is asked, and what is proved offline."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hub import events
from hub.audit.chain import Begin, Entry, Seal
from hub.signer import Signer
from tests.hub.cli.conftest import FakeHub, Flaghoist
from tests.topics import kit
from topics.documents import Checkpoint

encode = msgspec.json.Encoder().encode
SIGNER = Signer(kit.FLEET, kit.key("hub-1"))


def export(path: Path, count: int, *, signer: Signer = SIGNER, fork: int = 1_000) -> Path:
    """A whole export with a checkpoint at its end; from event `fork` on it is another history."""
    made, previous = [encode(Begin(kit.FLEET, 0, events.GENESIS))], events.GENESIS
    for n in range(1, count + 1):
        row = {
            "at": n, "kind": "device.changed", "actor": "mallory" if n >= fork else "alice",
            "device_id": None, "release_id": None,
            "role": None, "reason": "", "body": "{}", "request_id": "",
        }  # fmt: skip
        previous = events.chain(previous, n, row)
        made.append(encode(Entry(n=n, hash=previous, **{**row, "body": {}})))  # type: ignore[arg-type]
    checkpoint = Checkpoint(fleet=kit.FLEET, n=count, hash=previous, at=count)
    made.append(encode(Seal(signer.sign(checkpoint, "checkpoint"))))
    path.write_bytes(b"\n".join(made) + b"\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.1.dsse"
    path.write_bytes(kit.signed_root())
    return path


def test_a_whole_export_is_proved_with_the_root_that_names_the_hubs_key(
    flaghoist: Flaghoist, tmp_path: Path, root: Path
) -> None:
    ran = flaghoist("audit", "verify", str(export(tmp_path / "log", 3)), "--root", str(root))
    assert (ran.code, ran.err) == (0, "")
    assert "events\t3, 1 to 3\n" in ran.out and "signatures good" in ran.out
    summary = flaghoist("audit", "verify", str(tmp_path / "log"), "--json").json
    assert (summary["whole"], summary["signatures_checked"], summary["last"]) == (True, False, 3)


def test_an_export_that_was_touched_ends_with_5_and_names_the_first_bad_entry(
    flaghoist: Flaghoist, tmp_path: Path, root: Path
) -> None:
    path = export(tmp_path / "log", 3)
    path.write_bytes(path.read_bytes().replace(b'"actor":"alice"', b'"actor":"mallo"', 1))
    ran = flaghoist("audit", "verify", str(path), "--root", str(root))
    assert ran.code == 5
    assert "event 1 (line 2) is not what was sealed" in ran.err and "findings\t1\n" in ran.out


def test_an_export_that_was_cut_off_or_emptied_ends_with_5(flaghoist: Flaghoist, tmp_path: Path) -> None:
    path = export(tmp_path / "log", 3)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    ran = flaghoist("audit", "verify", str(path))
    assert ran.code == 5 and "event 2 (line 3) is the last here, and no checkpoint says so" in ran.err
    path.write_bytes(b"")
    ran = flaghoist("audit", "verify", str(path))
    assert ran.code == 5 and "the file is empty" in ran.err


def test_an_earlier_export_need_not_be_sealed_to_be_held_against_a_later_one(
    flaghoist: Flaghoist, tmp_path: Path
) -> None:
    earlier, now = export(tmp_path / "earlier", 3), export(tmp_path / "now", 5)
    earlier.write_bytes(b"".join(earlier.read_bytes().splitlines(keepends=True)[:-1]))
    assert flaghoist("audit", "verify", str(now), "--against", str(earlier)).code == 0


def test_a_checkpoint_of_a_key_that_the_root_does_not_name_is_not_believed(
    flaghoist: Flaghoist, tmp_path: Path, root: Path
) -> None:
    path = export(tmp_path / "log", 3, signer=Signer(kit.FLEET, kit.key("forger")))
    assert flaghoist("audit", "verify", str(path), "--root", str(root)).code == 5


@pytest.mark.parametrize(
    ("later", "words"),
    [
        pytest.param({"count": 5}, "", id="goes-on"),
        pytest.param({"count": 2}, "the end was cut off", id="shorter"),
        pytest.param({"count": 5, "fork": 2}, "event 2 has another hash", id="forked"),
        pytest.param({"count": 2, "fork": 2}, "event 2 has another hash", id="forked-and-shorter"),
        pytest.param({"count": 5, "fork": 1}, "event 1 has another hash", id="rewritten"),
    ],
)
def test_a_later_export_must_continue_an_earlier_one(
    flaghoist: Flaghoist, tmp_path: Path, later: dict[str, object], words: str
) -> None:
    earlier, now = export(tmp_path / "earlier", 3), export(tmp_path / "now", **later)  # type: ignore[arg-type]
    ran = flaghoist("audit", "verify", str(now), "--against", str(earlier))
    assert (ran.code == 0) == (not words) and words in ran.err


def test_an_export_is_written_whole_or_not_at_all(flaghoist: Flaghoist, hub: FakeHub, tmp_path: Path) -> None:
    hub.on("GET /audits/export?after=7", (200, b"lines\n"))
    ran = flaghoist("audit", "export", str(tmp_path / "log"), "--after", "7")
    assert (ran.code, ran.err) == (0, "")
    hub.on("GET /audits/export?after=0", (503, {"detail": "The store is busy."}))
    assert flaghoist("audit", "export", str(tmp_path / "other")).code == 4
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["log"]


def test_events_are_listed_as_asked(flaghoist: Flaghoist, hub: FakeHub) -> None:
    item = {
        "n": 7,
        "at": "2026-11-25T09:30:00.000Z",
        "kind": "device.changed",
        "actor": "alice",
        "device_id": "shop-1",
    }
    hub.on("GET /audits?deviceId=shop-1&limit=50&actor=alice", (200, {"items": [item], "next_cursor": None}))
    ran = flaghoist("audit", "list", "--device", "shop-1", "--actor", "alice")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].split("\t")[:5] == [
        "7",
        "2026-11-25T09:30:00Z",
        "device.changed",
        "alice",
        "shop-1",
    ]


def test_a_file_that_is_no_export_is_told(flaghoist: Flaghoist, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    assert flaghoist("audit", "verify", str(tmp_path / "x")).code == 5
    assert flaghoist("audit", "verify", str(tmp_path / "gone")).code == 3
    assert flaghoist("audit", "verify", str(tmp_path)).code == 3
