"""An export has the hub's paths and bytes, whole and verified, and can be brought up to date."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from hub.caller import rule
from tests.hub.cli.conftest import Flaghoist
from tests.hub.world import World, make_bundle
from tests.topics import kit
from topics import bundle, trust
from topics.channels import MANIFEST


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def offered(real: World) -> str:
    """A release that the canary segment is offered."""
    release = real.publish(1, packed=make_bundle(**{"files/a": b"same", "files/b": b"same"}))
    assert real.promote(release, "canary").status_code == 200
    return release


def test_every_file_has_the_path_and_the_bytes_of_the_hub(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    real.device("shop-1")
    ran = flaghoist("release", "export", tmp_path / "out", "--desired", "--json")
    assert ran.code == 0, ran.err
    found = files(tmp_path / "out")
    summary = json.loads(found.pop("export.json"))
    assert (summary["fleet"], summary["releases"], summary["roots"]) == (kit.FLEET, [offered], 1)
    for name, content in found.items():
        answer = real.client.get(f"/{name}")
        assert (answer.status_code, answer.content) == (200, content), name
    base = f"artifacts/kiosk/{offered}"
    blobs = {entry.sha256 for entry in bundle.parse_checksums(found[f"{base}/checksums"]).files}
    assert set(found) == {
        "trust/roots/1", "devices/shop-1/desired",
        *(f"manifests/kiosk/{segment}" for segment in ("canary", "early", "general")),
        f"{base}/bundle", f"{base}/checksums", f"{base}/checksums.gz", f"{base}/release",
        *(f"{place}/{sha256}" for sha256 in blobs for place in (f"{base}/blobs", "artifacts/blobs")),
    }  # fmt: skip


def test_changes_between_the_exported_releases_are_the_hubs(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    real.deployment.complete(offered, rule("gate"))
    second = real.publish(2)
    assert real.promote(second, "canary").status_code == 200
    ran = flaghoist("release", "export", tmp_path, "--json")
    assert ran.json["releases"] == [offered, second]
    found = {name: data for name, data in files(tmp_path).items() if "/changes/" in name}
    assert set(found) == {
        f"artifacts/kiosk/{offered}/changes/{second}.gz",
        f"artifacts/kiosk/{second}/changes/{offered}.gz",
    }
    for name, content in found.items():
        assert real.client.get(f"/{name}").content == content


def test_a_device_trusts_what_was_exported(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    assert flaghoist("release", "export", tmp_path).code == 0
    root = (tmp_path / "trust/roots/1").read_bytes()
    state = trust.pin_root(root, trust.sha256(root))
    topic = MANIFEST.topic(kit.FLEET, role="kiosk", segment="canary")
    manifest = (tmp_path / "manifests/kiosk/canary").read_bytes()
    _, trusted = trust.accept_manifest(state, topic, manifest, kit.NO_CLOCK)
    assert trusted.candidate is not None
    data = (tmp_path / "artifacts/kiosk" / offered / "bundle").read_bytes()
    assert trusted.candidate.bundle.sha256 == hashlib.sha256(data).hexdigest()


def test_a_second_export_writes_what_changed_and_prunes_when_asked(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    assert flaghoist("release", "export", tmp_path).code == 0
    assert flaghoist("release", "export", tmp_path, "--json").json["written"] == 0
    second = real.publish(2)
    assert real.promote(second, "canary").status_code == 200
    assert flaghoist("release", "export", tmp_path).code == 0
    assert (tmp_path / "artifacts/kiosk" / offered / "bundle").exists()
    ran = flaghoist("release", "export", tmp_path, "--prune", "--json")
    assert (ran.json["releases"], ran.json["removed"] > 0) == ([second], True)
    assert not (tmp_path / "artifacts/kiosk" / offered).exists()
    left = {path.name for path in (tmp_path / "artifacts/blobs").iterdir()}
    checksums = (tmp_path / "artifacts/kiosk" / second / "checksums").read_bytes()
    assert left == {entry.sha256 for entry in bundle.parse_checksums(checksums).files}


def test_nothing_is_exported_that_was_not_signed(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    with real.store.write() as tx:
        tx.execute("UPDATE artifacts SET checksums = :other", {"other": b'{"files":[],"format":1}'})
    ran = flaghoist("release", "export", tmp_path / "out")
    assert (ran.code, ran.err) == (
        5,
        f"flaghoist: the checksums of {offered} are not those that were signed; publish it again\n",
    )
    assert files(tmp_path / "out") == {}


def test_a_folder_that_cannot_be_written_is_named(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ran = flaghoist("release", "export", tmp_path / "file")
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert str(tmp_path / "file") in ran.err


def test_bundles_that_nothing_needs_are_named_before_they_go(
    flaghoist: Flaghoist, real: World, offered: str
) -> None:
    old = real.publish(2)
    with real.store.write() as tx:
        tx.execute("UPDATE releases SET state = 'superseded' WHERE id = :id", {"id": old})
    real.now += 31 * 86_400_000
    planned = flaghoist("release", "prune", "--dry-run")
    assert planned.out.splitlines() == [
        "release\tbundle\twhy", f"{old}\twould go\tnothing needs it", f"{offered}\tkept\tmanifest",
    ]  # fmt: skip
    assert flaghoist("release", "prune", "--json").json["removed"] == [old]
    assert flaghoist("release", "prune", "--json").json["removed"] == []


def test_one_release_is_exported_as_one_file_that_is_the_same_each_time(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    stick = tmp_path / "stick" / "kiosk.flag"
    ran = flaghoist("release", "export-file", offered, stick, "--json")
    assert (ran.code, ran.json["release"], ran.json["roots"]) == (0, offered, 1), ran.err
    with tarfile.open(stick) as tar:
        names = tar.getnames()
        contents = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    base = f"artifacts/kiosk/{offered}"
    assert names == ["trust/roots/1", f"{base}/release", f"{base}/bundle"]
    for name, content in contents.items():
        assert real.client.get(f"/{name}").content == content, name
    first = stick.read_bytes()
    assert flaghoist("release", "export-file", offered, stick).code == 0
    assert stick.read_bytes() == first
    assert list(stick.parent.iterdir()) == [stick]


def test_a_release_that_nobody_signed_gets_into_no_file(
    flaghoist: Flaghoist, real: World, offered: str, tmp_path: Path
) -> None:
    with real.store.write() as tx:
        tx.execute("UPDATE releases SET envelope = :other", {"other": b"x"})
    ran = flaghoist("release", "export-file", offered, tmp_path / "stick" / "a")
    assert (ran.code, ran.err.count("\n")) == (5, 1), ran.err
    assert not (tmp_path / "stick").exists() or list((tmp_path / "stick").iterdir()) == []
