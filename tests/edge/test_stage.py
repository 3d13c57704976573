"""What a bundle's archive may not do. Every row was signed by nobody's mistake: the archive alone is wrong."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.config import Paths
from edge.errors import Stop
from edge.updating import stage
from tests.edge.world import build, member, pack, tree
from tests.topics import kit
from topics.documents import Bundle, Release
from topics.trust import sha256

Members = list[tuple[tarfile.TarInfo, bytes]]


def released(archive: bytes, tar: bytes, **changes: object) -> Release:
    """Return a release that signs exactly this archive, so that only unpacking can refuse it."""
    bundle = Bundle(sha256=sha256(archive), size=len(archive), tar_sha256=sha256(tar))
    return kit.release(7, **{"bundle": bundle, "hook": "fake", **changes})


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    places = Paths(tmp_path / "state")
    places.make()
    return places


def refuse(paths: Paths, archive: bytes, tar: bytes) -> Stop:
    """Stage the archive, expect a refusal, and check that nothing of it is left or got out."""
    file = paths.downloads / "a.bundle"
    file.write_bytes(archive)
    with pytest.raises(Stop) as caught:
        stage.stage(paths, released(archive, tar), file, {})
    assert list(paths.releases.iterdir()) == []
    assert sorted(path.name for path in paths.root.parent.iterdir()) == ["state"]
    return caught.value


ESCAPES = [
    pytest.param([member("/etc/passwd", b"x")], "not a path", id="absolute path"),
    pytest.param([member("../out", b"x")], "not a path", id="dot dot"),
    pytest.param([member("files/../../out", b"x")], "not a path", id="dot dot inside"),
    pytest.param([member("./files/a", b"x")], "not a path", id="not normalised"),
    pytest.param([member("files\\a", b"x")], "not a path", id="backslash"),
    pytest.param([member("files/a\n", b"x")], "not a path", id="line break"),
    pytest.param([member("", b"x")], "not a path", id="no name"),
    pytest.param(
        [member("files/a", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "neither", id="symbolic link out"
    ),
    pytest.param(
        [member("files/a", type=tarfile.SYMTYPE, linkname="b")], "neither", id="symbolic link within"
    ),
    pytest.param(
        [member("files/b", b"x"), member("files/a", type=tarfile.LNKTYPE, linkname="files/b")],
        "neither",
        id="hard link",
    ),
    pytest.param([member("files/a", type=tarfile.CHRTYPE)], "neither", id="character device"),
    pytest.param([member("files/a", type=tarfile.BLKTYPE)], "neither", id="block device"),
    pytest.param([member("files/a", type=tarfile.FIFOTYPE)], "neither", id="named pipe"),
    pytest.param([member("files/a", b"x", type=tarfile.CONTTYPE)], "neither", id="contiguous file"),
    pytest.param([member("files/a", b"x", 0o4755)], "mode", id="set-uid"),
    pytest.param([member("files/a", b"x", 0o2755)], "mode", id="set-gid"),
    pytest.param([member("files/a", b"x", 0o666)], "mode", id="world-writable"),
    pytest.param([member("files", mode=0o777, type=tarfile.DIRTYPE)], "mode", id="world-writable folder"),
    pytest.param([member("files/a", b"x"), member("files/a", b"y")], "twice", id="duplicate member"),
    pytest.param([member("files/a", b"x"), member("files/A", b"y")], "case", id="case collision"),
    pytest.param(
        [member("files/a", b"x"), member("files/a/b", b"y")], "lies in a file", id="file as a folder"
    ),
    pytest.param(
        [member("files/a", b"x", pax_headers={"GNU.sparse.size": "999"})],
        "anything but one path",
        id="sparse by extended header",
    ),
    pytest.param(
        [member("files/a", b"x", pax_headers={"linkpath": "/etc"})],
        "anything but one path",
        id="extended link path",
    ),
    pytest.param([member("files/" + "x" * 6000, b"x")], "out of place", id="endless name"),
]


@pytest.mark.parametrize(("members", "reason"), ESCAPES)
def test_an_archive_that_reaches_out_is_refused(paths: Paths, members: Members, reason: str) -> None:
    stop = refuse(paths, *pack([member("bundle.json", b"{}"), *members]))
    assert reason in stop.reason
    assert stop.lasting


def test_a_member_that_claims_more_than_may_be_unpacked_is_refused_by_its_header(paths: Paths) -> None:
    info = tarfile.TarInfo("files/huge")
    info.size, info.mode = 7 * 1024**3, 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT)
    stop = refuse(paths, gzip.compress(header), header)
    assert "more content" in stop.reason


def test_an_archive_that_unpacks_without_end_is_refused_at_its_budget(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topics.bundle.unpacked_limit", lambda _packed: 100_000)
    stop = refuse(paths, *pack([member(f"files/{n}", bytes(60_000)) for n in range(40)]))
    assert "more content" in stop.reason


BROKEN: list[tuple[str, Callable[[bytes, bytes], bytes], str]] = [
    ("bad gzip", lambda archive, tar: b"not gzip at all", "gzip"),
    ("empty file", lambda archive, tar: b"", "cut short"),
    ("cut off", lambda archive, tar: archive[: len(archive) // 2], "cut short"),
    ("bytes after the gzip file", lambda archive, tar: archive + b"more", "data after"),
    ("a second gzip file", lambda archive, tar: archive + archive, "data after"),
    ("bytes after the tar", lambda archive, tar: gzip.compress(tar + b"more"), "data after"),
    (
        "a damaged checksum",
        lambda archive, tar: gzip.compress(tar[:150] + b"7" + tar[151:]),
        "wrong checksum",
    ),
    ("no end mark", lambda archive, tar: gzip.compress(tar[:1024]), "cut short"),
    ("a damaged gzip checksum", lambda archive, tar: archive[:-6] + b"\0\0" + archive[-4:], "gzip"),
]


@pytest.mark.parametrize(("change", "reason"), [pytest.param(c, r, id=name) for name, c, r in BROKEN])
def test_a_broken_archive_is_refused(
    paths: Paths, change: Callable[[bytes, bytes], bytes], reason: str
) -> None:
    archive, tar = pack([member("bundle.json", b"{}" * 200)])
    broken = change(archive, tar)
    if not broken:
        (paths.downloads / "empty").touch()
    file = paths.downloads / "a.bundle"
    file.write_bytes(broken)
    release = kit.release(
        7, bundle=Bundle(sha256=sha256(broken), size=max(1, len(broken)), tar_sha256=sha256(tar))
    )
    with pytest.raises(Stop, match=reason):
        stage.stage(paths, release, file, {})
    assert list(paths.releases.iterdir()) == []


MIXED = [
    pytest.param({"checksums": "0" * 64}, "the files in the bundle", id="checksums of another bundle"),
    pytest.param({"compose_sha256": "0" * 64}, "compose.yaml", id="compose.yaml of another release"),
    pytest.param({"hook": "exec"}, "another role or hook", id="hook other than signed"),
    pytest.param({"role": "till"}, "another role or hook", id="role other than signed"),
]


@pytest.mark.parametrize(("changes", "reason"), MIXED)
def test_a_bundle_that_disagrees_with_its_release_is_refused(
    paths: Paths, changes: dict[str, str], reason: str
) -> None:
    good = build(7)
    release = msgspec.structs.replace(good.release, **changes)
    file = paths.downloads / "a.bundle"
    file.write_bytes(good.archive)
    with pytest.raises(Stop, match=reason):
        stage.stage(paths, release, file, {})
    assert list(paths.releases.iterdir()) == []


def test_a_tar_other_than_signed_is_refused(paths: Paths) -> None:
    archive, _ = pack([member("bundle.json", b"{}")])
    file = paths.downloads / "a.bundle"
    file.write_bytes(archive)
    with pytest.raises(Stop, match="the tar"):
        stage.stage(paths, released(archive, b"another"), file, {})


def test_a_good_bundle_stands_with_its_modes_and_long_names(paths: Paths) -> None:
    deep = "files/" + "/".join(["d" * 60] * 4) + "/ünïcode-" + "n" * 80
    good = build(7, {deep: b"deep", "files/bin/run": b"#!/bin/sh\n"})
    file = paths.downloads / "a.bundle"
    file.write_bytes(good.archive)
    stage.stage(paths, good.release, file, {})
    folder = paths.release(good.id)
    assert tree(folder)[deep] == b"deep"
    assert (folder / "files/bin/run").stat().st_mode & 0o7777 == 0o755
    assert (folder / "files/app.txt").stat().st_mode & 0o7777 == 0o644
    assert stage.stands(paths, good.release)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / "files/app.txt").write_bytes(b"evil!"), id="content"),
        pytest.param(lambda folder: (folder / "files/app.txt").chmod(0o755), id="mode"),
        pytest.param(lambda folder: (folder / "files/more").touch(), id="extra file"),
        pytest.param(lambda folder: (folder / "files/app.txt").unlink(), id="missing file"),
        pytest.param(lambda folder: (folder / "files/l").symlink_to("/etc/passwd"), id="link"),
    ],
)
def test_a_folder_that_was_changed_does_not_stand(paths: Paths, spoil: Callable[[Path], None]) -> None:
    """D16: what was verified once is verified again before it is used."""
    good = build(7)
    file = paths.downloads / "a.bundle"
    file.write_bytes(good.archive)
    stage.stage(paths, good.release, file, {})
    spoil(paths.release(good.id))
    assert stage.stands(paths, good.release) is None


TEMPLATE = b"# for ${NAME}\nPORT=${PORT}\nPRICE=$$5\n"


def test_env_templates_are_filled_beside_the_release(paths: Paths) -> None:
    good = build(7, {"env/web.env.tmpl": TEMPLATE})
    file = paths.downloads / "a.bundle"
    file.write_bytes(good.archive)
    stage.stage(paths, good.release, file, {"PORT": "8081", "NAME": "shop"})
    filled = paths.rendered(good.id) / "env" / "web.env"
    assert filled.read_text() == "# for shop\nPORT=8081\nPRICE=$5\n"
    assert filled.stat().st_mode & 0o777 == 0o600
    assert stage.stands(paths, good.release)


def test_a_missing_variable_refuses_and_may_be_set_later(paths: Paths) -> None:
    good = build(7, {"env/web.env.tmpl": TEMPLATE})
    file = paths.downloads / "a.bundle"
    file.write_bytes(good.archive)
    with pytest.raises(Stop, match="needs PORT") as caught:
        stage.stage(paths, good.release, file, {"NAME": "shop"})
    assert not caught.value.lasting
    stage.stage(paths, good.release, file, {"PORT": "1", "NAME": "shop"})


def test_a_bundle_may_unpack_to_exactly_its_budget(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, tar = pack([member("bundle.json", b"{}"), member("files/a", bytes(300_000))])
    for most, reason in ((len(tar), "the files in the bundle"), (len(tar) - 1, "more than")):
        monkeypatch.setattr("topics.bundle.unpacked_limit", lambda _packed, most=most: most)
        assert reason in refuse(paths, archive, tar).reason
