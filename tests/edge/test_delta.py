"""A release from the files that stand here and the few that do not, believed by the same signed hashes."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.config import Paths
from edge.download import delta
from edge.download.fetch import Fetcher, Sources
from edge.errors import Stop
from edge.updating import stage
from tests.edge.blobs import by_path, contents, layout, lead, offer
from tests.edge.world import QUICK, Box, Built, Source, build, tree
from topics.bundle import Checksums, FileEntry
from topics.changes import difference
from topics.documents import Bundle

CHANCE = random.Random(5)
SIZE = 6000
FILES = {f"files/lib/{n:02}.bin": CHANCE.randbytes(SIZE) for n in range(12)}
CHANGED = "files/lib/07.bin"
OLD = build(7, FILES)
NEW = build(8, FILES | {CHANGED: CHANCE.randbytes(SIZE)})
MOVED = by_path(NEW)[CHANGED]
TOP = f"/artifacts/kiosk/{NEW.id}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A device on which the old release stands."""
    places = Paths(tmp_path / "state")
    places.make()
    file = places.downloads / "a.bundle"
    file.write_bytes(OLD.archive)
    stage.stage(places, OLD.release, file, {})
    file.unlink()
    return places


def fetcher(source: Source) -> Fetcher:
    sources = Sources([source.template], source.url, lambda now: f"t{now}", lambda: None)  # type: ignore[arg-type, return-value]
    return Fetcher(QUICK, sources, lambda: 1_000_000, lambda _seconds: None)


def make(paths: Paths, source: Source, built: Built = NEW) -> bool:
    return delta.make(paths, built.release, fetcher(source), [OLD.id], {})


def asked(source: Source) -> list[str]:
    return [request["path"].removeprefix(TOP + "/") for request in source.requests]


def test_a_release_that_differs_in_one_file_fetches_that_file_alone(paths: Paths, source: Source) -> None:
    offer(source, NEW)
    source.files |= lead(OLD, NEW)
    assert make(paths, source)
    new_files = {MOVED, by_path(NEW)["bundle.json"], by_path(NEW)["files/app.txt"]}
    assert asked(source)[0] == f"changes/{OLD.id}.gz"
    assert {path.removeprefix("blobs/") for path in asked(source)[1:]} == new_files
    assert tree(paths.release(NEW.id)) == {entry.path: data for entry, data in contents(NEW)}
    assert stage.stands(paths, NEW.release) and stage.stands(paths, OLD.release)
    assert paths.checksums(NEW.id).read_bytes() == layout(NEW)[f"{TOP}/checksums"]


OTHER = lead(build(9), build(10))
CHANGES = [
    pytest.param(b"", id="none"),
    pytest.param(b"not gzip", id="not gzip"),
    pytest.param(gzip.compress(b"{}"), id="no changes"),
    pytest.param(gzip.compress(bytes(50_000_000)), id="without end"),
    pytest.param(next(iter(OTHER.values())), id="of others"),
    pytest.param(gzip.compress(difference(Checksums([]), Checksums([]))), id="that change nothing"),
]


@pytest.mark.parametrize("changes", CHANGES)
def test_with_changes_of_no_use_the_whole_checksums_are_taken(
    paths: Paths, source: Source, changes: bytes
) -> None:
    offer(source, NEW)
    source.files[f"{TOP}/changes/{OLD.id}.gz"] = changes
    assert make(paths, source)
    assert asked(source)[:2] == [f"changes/{OLD.id}.gz", "checksums.gz"]
    assert stage.stands(paths, NEW.release)


def test_a_device_that_lost_its_checksums_asks_for_the_whole(paths: Paths, source: Source) -> None:
    offer(source, NEW)
    paths.checksums(OLD.id).write_bytes(b"")
    assert make(paths, source)
    assert asked(source)[0] == "checksums.gz"


def test_checksums_that_are_there_unpacked_only_do_as_well(paths: Paths, source: Source) -> None:
    offer(source, NEW)
    del source.files[f"{TOP}/checksums.gz"]
    assert make(paths, source)
    assert asked(source)[1:3] == ["checksums.gz", "checksums"]


def test_a_file_that_only_moved_is_not_fetched(paths: Paths, source: Source) -> None:
    files = {f"files/other/{n:02}.bin": FILES[f"files/lib/{n:02}.bin"] for n in range(12)}
    moved = offer(source, build(9, files))
    assert make(paths, source, moved)
    assert not {by_path(moved)[path] for path in files} & {each.rpartition("/")[2] for each in asked(source)}
    assert stage.stands(paths, moved.release)


def test_a_copy_shares_nothing_with_the_release_that_it_came_from(paths: Paths, source: Source) -> None:
    """A service that writes into its own old file must not reach into the new release."""
    offer(source, NEW)
    assert make(paths, source)
    same = "files/lib/00.bin"
    with (paths.release(OLD.id) / same).open("r+b") as file:
        file.write(b"drift")
    assert stage.stands(paths, NEW.release)


def spoil_content(folder: Path) -> None:
    (folder / "files/lib/03.bin").write_bytes(bytes(SIZE))


def spoil_by_link(folder: Path) -> None:
    (folder / "files/lib/03.bin").unlink()
    (folder / "files/lib/03.bin").symlink_to("/etc/passwd")


def spoil_by_absence(folder: Path) -> None:
    (folder / "files/lib/03.bin").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(spoil_content, id="content"),
        pytest.param(spoil_by_link, id="link"),
        pytest.param(spoil_by_absence, id="missing"),
    ],
)
def test_a_file_that_drifted_is_fetched_instead_of_copied(
    paths: Paths, source: Source, spoil: Callable[[Path], None]
) -> None:
    offer(source, NEW)
    spoil(paths.release(OLD.id))
    assert make(paths, source)
    assert f"blobs/{by_path(NEW)['files/lib/03.bin']}" in asked(source)
    assert stage.stands(paths, NEW.release)


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    def spoil(files: dict[str, bytes]) -> None:
        del files[f"{TOP}/{name}"]

    return spoil


def swap(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({f"{TOP}/{name}": data})


def checksums(plain: bytes, packed: bytes = b"") -> Callable[[dict[str, bytes]], None]:
    """Put other checksums in place of both, packed and not."""
    gz = packed or gzip.compress(plain, mtime=0)
    return lambda files: files.update({f"{TOP}/checksums": plain, f"{TOP}/checksums.gz": gz})


def without_checksums(files: dict[str, bytes]) -> None:
    del files[f"{TOP}/checksums"], files[f"{TOP}/checksums.gz"]


DOUBTS = [
    pytest.param(without_checksums, id="no checksums"),
    pytest.param(checksums(b'{"files":[],"format":1}'), id="checksums that nobody signed"),
    pytest.param(checksums(b"", b"not gzip"), id="checksums that are not gzip"),
    pytest.param(checksums(b"", gzip.compress(bytes(50_000_000))), id="checksums that unpack without end"),
    pytest.param(checksums(layout(OLD)[f"/artifacts/kiosk/{OLD.id}/checksums"]), id="checksums of another"),
    pytest.param(checksums(b" " * 2_000_000, bytes(2_000_000)), id="checksums without end"),
    pytest.param(drop(f"blobs/{MOVED}"), id="a file that nobody has"),
    pytest.param(swap(f"blobs/{MOVED}", bytes(SIZE)), id="a file with other bytes"),
    pytest.param(swap(f"blobs/{MOVED}", bytes(SIZE + 1)), id="a file that is longer"),
    pytest.param(swap(f"blobs/{MOVED}", b"x"), id="a file that is shorter"),
]  # fmt: skip


@pytest.mark.parametrize("spoil", DOUBTS)
def test_on_any_doubt_the_whole_bundle_is_taken(
    box: Box, source: Source, spoil: Callable[[dict[str, bytes]], None]
) -> None:
    box.offer(OLD)
    offer(source, NEW)
    spoil(source.files)
    box.offer(NEW)
    assert box.state.running_id == NEW.id
    assert asked(source)[-1] == "bundle"


def test_an_agent_takes_the_way_that_moves_less(box: Box, source: Source) -> None:
    box.offer(OLD)
    offer(source, NEW)
    box.offer(NEW)
    assert box.state.running_id == NEW.id
    assert "bundle" not in asked(source)
    assert list(box.paths.downloads.iterdir()) == []


def test_a_file_that_changes_between_the_look_and_the_copy_is_noticed(
    paths: Paths, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D16: what is copied is hashed as it is written, so the look before decides nothing."""
    offer(source, NEW)
    real = stage.copy

    def swapped(origin: Path, path: Path, entry: FileEntry) -> bool:
        if entry.path == "files/lib/04.bin":
            origin.write_bytes(bytes(SIZE))
        return real(origin, path, entry)

    monkeypatch.setattr(stage, "copy", swapped)
    assert not make(paths, source)
    assert [path.name for path in paths.releases.iterdir()] == [OLD.id]


def test_a_blob_that_was_swapped_after_its_check_is_noticed(
    paths: Paths, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D16."""
    offer(source, NEW)
    real = stage.assemble

    def swapped(*arguments: Any) -> bool:
        (paths.downloads / f"{MOVED}.blob").write_bytes(bytes(SIZE))
        return real(*arguments)

    monkeypatch.setattr(stage, "assemble", swapped)
    assert not make(paths, source)
    assert [path.name for path in paths.releases.iterdir()] == [OLD.id]


def test_a_full_disk_is_no_reason_to_fetch_more(
    paths: Paths, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2."""
    offer(source, NEW)
    monkeypatch.setattr(stage, "RESERVE", 2**60)
    with pytest.raises(Stop, match="the disk is full") as caught:
        make(paths, source)
    assert caught.value.full and not caught.value.lasting
    assert [path.name for path in paths.releases.iterdir()] == [OLD.id]


def cut(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])


def test_a_file_whose_download_breaks_off_resumes(paths: Paths, source: Source) -> None:
    """D3."""
    offer(source, NEW)
    source.files |= lead(OLD, NEW)
    source.faults = [source.serve, cut]  # the changes, then the first file
    assert make(paths, source)
    assert [request.get("Range") is not None for request in source.requests[1:3]] == [False, True]


def test_what_a_crash_left_of_the_files_is_used(paths: Paths, source: Source) -> None:
    offer(source, NEW)
    (paths.downloads / f"{MOVED}.blob").write_bytes(dict(layout(NEW))[f"{TOP}/blobs/{MOVED}"])
    assert make(paths, source)
    assert f"blobs/{MOVED}" not in asked(source)


def listed(*sizes: int) -> Checksums:
    return Checksums([FileEntry(f"files/{n}", f"{n:064x}", size, 0o644) for n, size in enumerate(sizes)])


def signed(size: int) -> Any:
    return msgspec.structs.replace(
        NEW.release, bundle=Bundle(sha256="0" * 64, size=size, tar_sha256="0" * 64)
    )


PLANS = [
    pytest.param(listed(9, 9), "01", 10_000, 0, [], id="everything is here"),
    pytest.param(listed(9, 5000), "0", 10_000, 0, [1], id="one file is new"),
    pytest.param(listed(9, 5000), "0", 9096, 0, None, id="as dear as the bundle"),
    pytest.param(listed(9, 5000), "0", 9097, 0, [1], id="a byte cheaper"),
    pytest.param(listed(9, 5000), "0", 10_000, 2000, None, id="most of the bundle is here"),
    pytest.param(listed(*[1] * 100), "", 100_000, 0, None, id="many small files cost their asking"),
    pytest.param(listed(2**40), "0", 10_000, 0, None, id="more than the bundle may unpack to"),
]


@pytest.mark.parametrize(("wanted", "here", "size", "received", "fetched"), PLANS)
def test_the_cheaper_way_is_planned(
    wanted: Checksums, here: str, size: int, received: int, fetched: list[int] | None
) -> None:
    found = delta.plan(wanted, [f"{int(n):064x}" for n in here], signed(size), received=received)
    assert (found and [int(entry.sha256, 16) for entry in found.fetched]) == fetched or (
        found is not None and found.fetched == [] == fetched
    )


def test_one_of_several_files_with_the_same_content_is_fetched() -> None:
    wanted = Checksums([FileEntry(f"files/{n}", "a" * 64, 10, 0o644) for n in range(5)])
    found = delta.plan(wanted, [], signed(100_000))
    assert found is not None and len(found.fetched) == 1 and found.moves == 10 + delta.ASKING


def test_a_first_release_asks_for_no_checksums(tmp_path: Path, source: Source) -> None:
    places = Paths(tmp_path / "state")
    places.make()
    offer(source, NEW)
    assert not delta.make(places, NEW.release, fetcher(source), [], {})
    assert source.requests == []


# Repair


DRIFTS = [
    pytest.param(spoil_content, id="content"),
    pytest.param(spoil_by_link, id="link"),
    pytest.param(spoil_by_absence, id="missing"),
    pytest.param(lambda folder: (folder / "files/lib/03.bin").chmod(0o755), id="mode"),
]


@pytest.mark.parametrize("spoil", DRIFTS)
def test_a_file_that_drifted_is_put_back(paths: Paths, source: Source, spoil: Callable[[Path], None]) -> None:
    offer(source, OLD)
    spoil(paths.release(OLD.id))
    (entry,) = [entry for entry, _ in contents(OLD) if entry.path == "files/lib/03.bin"]
    delta.put_back(paths, OLD.release, entry, fetcher(source))
    assert stage.stands(paths, OLD.release)
    assert list(paths.downloads.iterdir()) == []


def test_a_folder_above_a_file_that_became_a_link_is_put_back_too(paths: Paths, source: Source) -> None:
    """What is put back never lands where a link points."""
    offer(source, OLD)
    folder, away = paths.release(OLD.id), paths.root.parent / "away"
    (folder / "files/lib").rename(away)
    (folder / "files/lib").symlink_to(away)
    before = tree(away)
    for entry, _ in contents(OLD):
        if entry.path.startswith("files/lib/"):
            delta.put_back(paths, OLD.release, entry, fetcher(source))
    assert stage.stands(paths, OLD.release)
    assert tree(away) == before


def test_a_file_that_another_release_has_is_put_back_without_a_network(paths: Paths, source: Source) -> None:
    offer(source, NEW)
    assert make(paths, source)
    spoil_content(paths.release(NEW.id))
    source.files.clear()
    (entry,) = [entry for entry, _ in contents(NEW) if entry.path == "files/lib/03.bin"]
    delta.put_back(paths, NEW.release, entry, fetcher(source), [OLD.id])
    assert stage.stands(paths, NEW.release)


def test_a_file_that_nobody_has_stays_as_it_is_and_says_so(paths: Paths, source: Source) -> None:
    spoil_content(paths.release(OLD.id))
    (entry,) = [entry for entry, _ in contents(OLD) if entry.path == "files/lib/03.bin"]
    with pytest.raises(Stop, match="404"):
        delta.put_back(paths, OLD.release, entry, fetcher(source))
    assert (paths.release(OLD.id) / entry.path).read_bytes() == bytes(SIZE)
    assert list(paths.downloads.iterdir()) == []
