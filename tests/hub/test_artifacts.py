"""Serving, validating and removing artifacts, over the real application."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.artifacts import signedurls
from hub.artifacts.pace import Pace
from hub.artifacts.packing import PackedFiles
from hub.artifacts.retention import KEEP_MS, Held, Needs, Way, reachable, reasons
from hub.artifacts.service import Artifacts, Serving
from hub.caller import rule
from hub.deployment.service import Deployment
from hub.rekey import sign_again_if_moved
from tests.hub.world import World, make_bundle
from tests.topics import kit
from topics import bundle, changes
from topics.documents import Requires
from topics.envelope import open_envelope

DAY = 86_400_000
INFO = b'{"format":1,"role":"kiosk","version":"1.0","hook":"exec","exec":{"command":["true"]}}'
SECRET = b"u" * 32


def tar_gz(files: dict[str, tuple[bytes, int]]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


# Serving


@pytest.mark.parametrize(
    "what", ["bundle", "checksums", "checksums.gz", "changes/{before}.gz", "release", "blobs/{blob}"]
)
def test_head_says_what_get_would_and_a_known_etag_is_not_sent_again(world: World, what: str) -> None:
    base = f"/artifacts/kiosk/{world.publish(1)}"
    name = what.format(before=world.publish(2), blob=hashlib.sha256(INFO).hexdigest())
    path = f"{base}/{name}"
    whole = world.client.get(path)
    head = world.client.head(path)
    assert (whole.status_code, head.status_code, head.content) == (200, 200, b"")
    for name in ("etag", "content-length", "content-type", "cache-control"):
        assert head.headers[name] == whole.headers[name], name
    assert "immutable" in whole.headers["cache-control"]
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    again = world.client.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_file_of_a_bundle_is_a_blob_by_its_hash(world: World) -> None:
    release = world.publish(1)
    checksums = world.client.get(f"/artifacts/kiosk/{release}/checksums").content
    for entry in bundle.parse_checksums(checksums).files:
        for path in (f"/artifacts/blobs/{entry.sha256}", f"/artifacts/kiosk/{release}/blobs/{entry.sha256}"):
            answer = world.client.get(path)
            assert hashlib.sha256(answer.content).hexdigest() == entry.sha256
            assert len(answer.content) == entry.size
            part = world.client.get(path, headers={"Range": "bytes=1-3"})
            assert (part.status_code, part.content) == (206, answer.content[1:4])


def test_the_checksums_come_packed_too(world: World) -> None:
    base = f"/artifacts/kiosk/{world.publish(1)}/checksums"
    assert gzip.decompress(world.client.get(f"{base}.gz").content) == world.client.get(base).content


def test_changes_lead_from_the_checksums_of_one_release_to_those_of_another(world: World) -> None:
    old = world.publish(1, packed=make_bundle(**{"files/a": b"1", "files/b": b"1", "files/c": b"1"}))
    new = world.publish(2, packed=make_bundle(**{"files/a": b"1", "files/b": b"2", "files/d": b"1"}))
    for before, after in ((old, new), (new, old), (old, old)):
        packed = world.client.get(f"/artifacts/kiosk/{after}/changes/{before}.gz").content
        documents = [world.client.get(f"/artifacts/kiosk/{one}/checksums").content for one in (before, after)]
        assert changes.apply(bundle.parse_checksums(documents[0]), gzip.decompress(packed)) == documents[1]


@pytest.mark.parametrize("name", ["kiosk-9-aaaaaaaaaaaa.gz", "{release}", "..gz", ".gz"])
def test_changes_from_what_is_not_there_are_not_found(world: World, name: str) -> None:
    release = world.publish(1)
    answer = world.client.get(f"/artifacts/kiosk/{release}/changes/{name.format(release=release)}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_what_is_packed_is_packed_once_and_again_when_it_was_damaged(tmp_path: Path) -> None:
    packed = PackedFiles(tmp_path)
    made = []

    def make() -> bytes:
        made.append(1)
        return b"document"

    for data in (None, None, b"", b"x" * 50, None):
        if data is not None:
            (tmp_path / "a.b.gz").write_bytes(data)
        assert gzip.decompress(packed.get("a.b", make)) == b"document"
        assert [path.name for path in tmp_path.iterdir()] == ["a.b.gz"]
    assert len(made) == 3


def test_a_disk_that_takes_nothing_keeps_nobody_from_the_answer(tmp_path: Path) -> None:
    packed = PackedFiles(tmp_path / "packed")
    (tmp_path / "packed").rmdir()
    assert gzip.decompress(packed.get("a", lambda: b"document")) == b"document"


def test_what_was_packed_goes_with_either_document_that_it_was_made_from(tmp_path: Path) -> None:
    packed = PackedFiles(tmp_path)
    for name in ("a", "b", "a.b", "b.a", "b.c"):
        packed.get(name, bytes)
    packed.keep({"b", "c"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.c.gz", "b.gz"]


@pytest.mark.parametrize("name", ["0" * 64, "..", "x" * 64, "abc", "A" * 64])
def test_a_blob_that_is_not_there_is_not_found(world: World, name: str) -> None:
    answer = world.client.get(f"/artifacts/blobs/{name}")
    assert answer.status_code == 404


def test_a_damaged_blob_is_not_served_and_is_mended_by_publishing_again(world: World) -> None:
    path = f"/artifacts/kiosk/{world.publish(1)}"
    digest = hashlib.sha256(INFO).hexdigest()
    world.files.blobs.path(digest).write_bytes(b"x" * len(INFO))
    assert world.client.get(f"/artifacts/blobs/{digest}").json()["rule"] == "artifact_damaged"
    assert world.client.post(path, content=make_bundle()).status_code == 201
    assert world.client.get(f"/artifacts/blobs/{digest}").content == INFO


def test_nothing_of_a_refused_upload_stays(world: World) -> None:
    release = world.publish(1)
    before = sorted(path for path in world.files.path("00").parent.parent.rglob("*") if path.is_file())
    refused = world.client.post(f"/artifacts/kiosk/{release}", content=make_bundle(extra=b"x"))
    assert refused.status_code == 413
    after = sorted(path for path in world.files.path("00").parent.parent.rglob("*") if path.is_file())
    assert after == before


def test_the_signed_release_is_served_as_it_was_declared(world: World) -> None:
    release = world.publish(1)
    data = world.client.get(f"/artifacts/kiosk/{release}/release").content
    assert data == world.signed_release(1)
    assert open_envelope(data, limit=6144).signatures


@pytest.mark.parametrize("path", ["/manifests/kiosk/canary", "/devices/shop-1/desired"])
def test_what_is_retained_is_sent_once_while_it_stays_the_same(world: World, path: str) -> None:
    world.device("shop-1")
    first = world.client.get(path)
    headers = {"If-None-Match": first.headers["etag"]}
    assert world.client.get(path, headers=headers).status_code == 304
    world.promote(world.publish(1), "canary")
    world.client.patch("/devices/shop-1", json={"maintenance": True})
    again = world.client.get(path, headers=headers)
    assert (again.status_code, again.content != first.content) == (200, True)


# Signed URLs


def signed(world: World, release: str, **body: Any) -> Any:
    answer = world.client.post(f"/artifacts/kiosk/{release}/signed-url", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_signed_url_opens_the_bundle_without_a_token_behind_any_prefix(world: World) -> None:
    release = world.publish(1)
    url = signed(world, release, expires_in=60)["url"]
    # The public address of this hub has a prefix, which the proxy takes off.
    path = url.removeprefix("https://hub.example/fleet")
    assert path != url
    answer = world.client.get(path, headers={"Authorization": "", "Range": "bytes=0-9", "Host": "inner"})
    assert (answer.status_code, answer.content) == (206, make_bundle()[:10])
    assert world.client.head(path, headers={"Authorization": ""}).status_code == 200


def test_a_signed_url_ends(world: World) -> None:
    release = world.publish(1)
    path = signed(world, release, expires_in=60)["url"].removeprefix("https://hub.example/fleet")
    world.now += 59_000
    assert world.client.get(path, headers={"Authorization": ""}).status_code == 200
    world.now += 1_000
    refused = world.client.get(path, headers={"Authorization": ""})
    assert (refused.status_code, refused.json()["rule"]) == (403, "url_expired")


FORGED = [
    pytest.param({"expires_at": 2_000_000_000}, id="a later end"),
    pytest.param({"release_id": "kiosk-2-aaaaaaaaaaaa"}, id="another release"),
    pytest.param({"secret": b"v" * 32}, id="another hub"),
    pytest.param({"role": "gateway"}, id="another role"),
]


@pytest.mark.parametrize("change", FORGED)
def test_a_signature_of_something_else_is_refused(world: World, change: dict[str, Any]) -> None:
    release = world.publish(1)
    good: dict[str, Any] = {
        "secret": SECRET, "role": "kiosk", "release_id": release, "expires_at": world.now // 1000 + 60,
    }  # fmt: skip
    signature = signedurls.sign(**{**good, **change})
    path = f"/artifacts/kiosk/{release}/signed/{good['expires_at']}/{signature}/bundle"
    refused = world.client.get(path, headers={"Authorization": ""})
    assert (refused.status_code, refused.json()["rule"]) == (403, "url_signature")


def test_a_signed_url_is_for_a_day_at_most_and_for_a_bundle_that_is_there(world: World) -> None:
    release = world.publish(1)
    path = f"/artifacts/kiosk/{release}/signed-url"
    assert world.client.post(path, json={"expires_in": 86_401}).status_code == 400
    assert world.client.post("/artifacts/kiosk/kiosk-9-aaaaaaaaaaaa/signed-url").status_code == 404


def test_downloads_share_the_ceiling() -> None:
    pace = Pace(1_000_000)
    waits = [pace.wait(10.0, 250_000) for _ in range(5)]
    assert waits == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert pace.wait(12.0, 250_000) == 0.0, "what was not used is not saved up"
    assert {Pace().wait(0.0, 1 << 30) for _ in range(3)} == {0.0}


def test_a_start_with_other_mirrors_tells_every_device_once(world: World) -> None:
    release = world.publish(1)
    assert world.promote(release, "canary").status_code == 200
    hub = "http://127.0.0.1:1/artifacts/{role}/{release}/bundle"
    mirror = "https://cdn.example/{role}/{release}/bundle"
    seen = []
    for sources in ([hub], [mirror, hub], [mirror, hub]):
        moved = Deployment(world.store, world.signer, sources, lambda: world.now, lambda: 0)
        world.now += 1
        sign_again_if_moved(world.store, world.signer, moved, sources)
        seen.append(
            (world.client.get("/manifests/kiosk/canary").headers["etag"], world.manifest("canary").manifest)
        )
    assert [manifest.sources for _, manifest in seen] == [[hub], [mirror, hub], [mirror, hub]]
    assert len({etag for etag, _ in seen}) == 2, "the same mirrors again are no news"


# Validation


def validate(world: World, data: bytes) -> Any:
    answer = world.client.post("/artifacts/validate", content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_good_archive_has_no_findings(world: World) -> None:
    assert validate(world, make_bundle()) == {"ok": True, "files": 1, "findings": []}


def test_every_finding_comes_at_once_and_nothing_is_kept(world: World) -> None:
    answer = validate(
        world,
        tar_gz(
            {
                "bundle.json": (INFO, 0o644),
                "compose.yaml": (b"services:\n  web:\n    image: nginx\n    imagee: x\n", 0o644),
                "env/app.env.tmpl": (b"A=$B\nAPI_TOKEN=hunter22\n", 0o644),
                "validate/10-up": (b"exit 0\n", 0o644),
                "files/id_ed25519": (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o644),
                "stray": (b"", 0o644),
            }
        ),
    )
    found = {(one["file"], one["line"], one["rule"], one["severity"]) for one in answer["findings"]}
    assert found == {
        ("stray", None, "place", "error"),
        ("compose.yaml", 3, "image_digest", "error"),
        ("compose.yaml", 4, "compose_specification", "error"),
        ("env/app.env.tmpl", 1, "template", "error"),
        ("env/app.env.tmpl", 2, "secret", "warning"),
        ("validate/10-up", None, "script_mode", "error"),
        ("validate/10-up", None, "shebang", "error"),
        ("files/id_ed25519", None, "secret", "warning"),
        ("files/id_ed25519", 1, "secret", "warning"),
    }
    assert (answer["ok"], answer["files"]) == (False, 6)
    assert all(one["remedy"] and one["detail"] for one in answer["findings"])
    assert [path for path in world.files.path("00").parent.parent.rglob("*") if path.is_file()] == []


NO_ARCHIVES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"not gzip", id="text"),
    pytest.param(gzip.compress(b"not tar" * 100), id="gzip-of-text"),
    pytest.param(make_bundle()[:-20], id="cut-short"),
    pytest.param(make_bundle() + b"x", id="with-more-behind"),
    pytest.param(gzip.compress(bytes(200_000_000), compresslevel=1), id="bomb"),
    pytest.param(tar_gz({"../up": (b"", 0o644)}), id="path-out"),
    pytest.param(tar_gz({"files/a": (b"", 0o4755)}), id="set-uid"),
]  # fmt: skip


@pytest.mark.parametrize("data", NO_ARCHIVES)
def test_what_is_no_bundle_is_a_finding_too(world: World, data: bytes) -> None:
    answer = validate(world, data)
    assert answer["ok"] is False
    assert [one["rule"] for one in answer["findings"]] == ["archive"]


def test_variables_that_bundle_json_lists_are_all_that_templates_may_use(world: World) -> None:
    info = json.dumps({**json.loads(INFO), "variables": ["PORT", "UNUSED"]}).encode()
    answer = validate(
        world,
        tar_gz({"bundle.json": (info, 0o644), "env/a.env.tmpl": (b"A=${PORT}\nB=${PROT}\n", 0o644)}),
    )
    assert [(one["line"], one["rule"], one["severity"]) for one in answer["findings"]] == [
        (2, "undefined_variable", "error"), (None, "unused_variable", "warning"),
    ]  # fmt: skip


# Retention

OLD = Held(release="r", state="superseded", uploaded_at=0)
NOW = 100 * DAY

WAYS = {
    "r": Way(sequence=1),
    "next": Way(sequence=2, previous="r"),
    "second": Way(sequence=3, previous="next", floor=2),
    "third": Way(sequence=4, previous="second"),
    "fourth": Way(sequence=5, previous="third"),
    "floor": Way(sequence=6, previous="r", floor=2),
    "above": Way(sequence=7, previous="floor"),
    "alone": Way(sequence=8, previous="unknown"),
}

KEPT = [
    pytest.param(OLD, Needs(), "", id="nothing needs it"),
    pytest.param(OLD, Needs(manifest={"r"}), "manifest", id="a manifest names it"),
    pytest.param(OLD, Needs(segment={"r"}), "segment", id="a segment will offer it"),
    pytest.param(OLD, Needs(lock={"r"}), "lock", id="a device is locked to it"),
    pytest.param(OLD, Needs(running={"r"}), "running", id="a device runs it"),
    pytest.param(OLD, Needs(on_the_way={"r"}), "on_the_way", id="a device is on its way"),
    *(
        pytest.param(Held(release="r", state=state, uploaded_at=0), Needs(), "open", id=f"it is {state}")
        for state in ("draft", "validated", "published", "rolling", "paused", "halted")
    ),
    *(
        pytest.param(Held(release="r", state=state, uploaded_at=0), Needs(), "", id=f"it was {state}")
        for state in ("complete", "rolled_back", "superseded")
    ),
    pytest.param(OLD, Needs(manifest={"next"}), "rollback", id="the next rollback leads to it"),
    pytest.param(OLD, Needs(manifest={"third"}), "rollback", id="the third rollback leads to it"),
    pytest.param(OLD, Needs(segment={"third"}), "rollback", id="the third rollback of a segment leads to it"),
    pytest.param(OLD, Needs(manifest={"fourth"}), "", id="only the fourth rollback would"),
    pytest.param(OLD, Needs(manifest={"floor"}), "", id="a floor forbids that rollback"),
    pytest.param(OLD, Needs(manifest={"above"}), "", id="a floor on the way forbids it"),
    pytest.param(OLD, Needs(manifest={"alone"}), "", id="what is before is not known"),
    pytest.param(OLD, Needs(running={"next"}), "", id="what runs elsewhere is not rolled back"),
    pytest.param(
        Held(release="r", state="superseded", uploaded_at=NOW - KEEP_MS + 1), Needs(), "recent", id="it is recent"
    ),
    pytest.param(Held(release="r", state="superseded", uploaded_at=NOW - KEEP_MS), Needs(), "", id="no longer recent"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "needs", "reason"), KEPT)
def test_a_bundle_is_kept_while_something_can_need_it(held: Held, needs: Needs, reason: str) -> None:
    assert reasons([held], needs, ways=WAYS, rollbacks=3, now=NOW) == {"r": reason}


@pytest.mark.parametrize(
    ("rollbacks", "reached"),
    [(0, set()), (1, {"third"}), (2, {"third", "second"}), (9, {"third", "second", "next", "r"})],
)
def test_as_many_rollbacks_find_their_bundles_as_are_wanted(rollbacks: int, reached: set[str]) -> None:
    assert reachable({"fourth"}, WAYS, rollbacks) == reached


@given(st.integers(1, 12), st.integers(1, 6), st.lists(st.integers(0, 12), min_size=13, max_size=13))
def test_no_chain_of_rollbacks_meets_a_bundle_that_is_gone(
    live: int, rollbacks: int, floors: list[int]
) -> None:
    """Roll back as the hub does, step by step, and hold it against what the rule keeps."""
    ways = {str(n): Way(sequence=n, floor=floors[n], previous=str(n - 1)) for n in range(13)}
    kept = reachable({str(live)}, ways, rollbacks)
    at, done = live, 0
    while done < rollbacks and at > 0 and at - 1 >= floors[at]:
        at, done = at - 1, done + 1
        assert str(at) in kept
    assert len(kept) == done


def test_what_nothing_needs_goes_with_an_event_and_what_a_rollback_needs_stays(world: World) -> None:
    """Six releases become stable one after another; a device still runs the first."""
    ids = []
    for sequence in range(1, 7):
        release = world.publish(sequence)
        ids.append(release)
        assert world.promote(release, "canary").status_code == 200
        world.deployment.complete(release, rule("gate"))
    world.device("shop-1")
    world.heartbeat("shop-1", running=(ids[0], 1))
    world.now += 31 * DAY

    plan = world.client.post("/artifacts/retention?dry_run=true").json()
    assert (plan["removed"], plan["kept"]) == (
        [ids[1]],
        {ids[0]: "running", ids[2]: "rollback", ids[3]: "rollback", ids[4]: "rollback", ids[5]: "manifest"},
    )
    assert plan["rollbacks"] == 3
    assert world.client.get(f"/artifacts/kiosk/{ids[1]}/bundle").status_code == 200
    shallow = Serving(fleet=kit.FLEET, secret=SECRET, rollbacks=1)
    planned = Artifacts(world.store, world.files, lambda: world.now, shallow).prune(
        rule("test"), dry_run=True
    )
    assert [release for release, why in planned["kept"].items() if why == "rollback"] == [ids[4]]

    done = world.client.post("/artifacts/retention").json()
    assert (done["removed"], done["bytes"]) == (plan["removed"], len(make_bundle()))
    assert world.events().count("release.artifact_removed") == 1
    assert world.client.get(f"/artifacts/kiosk/{ids[1]}/bundle").status_code == 404
    # All six are the same bytes, so the file stays for the others, and so do its blobs.
    assert world.client.get(f"/artifacts/kiosk/{ids[5]}/bundle").content == make_bundle()
    assert world.client.get(f"/artifacts/blobs/{hashlib.sha256(INFO).hexdigest()}").content == INFO

    for release in (ids[5], ids[4], ids[3]):
        assert world.client.post(f"/releases/{release}/rollback").status_code == 200, release
    assert world.client.get(f"/artifacts/kiosk/{ids[2]}/bundle").status_code == 200
    last = world.client.post(f"/releases/{ids[2]}/rollback")
    assert (last.status_code, last.json()["rule"]) == (409, "bundle_gone")
    assert ids[1] in last.json()["detail"] and "--keep-rollbacks" in last.json()["detail"]
    assert world.client.post(f"/artifacts/kiosk/{ids[1]}", content=make_bundle()).status_code == 201
    assert world.client.post(f"/releases/{ids[2]}/rollback").status_code == 200


def test_what_is_gone_is_no_lock_and_no_waypoint_until_it_is_published_again(world: World) -> None:
    # Were it still there, the first would be the better step: it asks for no hardware.
    asking = [Requires(), *[Requires(hardware=["pi4"])] * 4]
    ids = [world.publish(sequence, requires=requires) for sequence, requires in enumerate(asking, 1)]
    for release in ids:
        assert world.promote(release, "canary").status_code == 200
        world.deployment.complete(release, rule("gate"))
    world.device("shop-1")
    world.now += 31 * DAY
    assert world.client.post("/artifacts/retention").json()["removed"] == [ids[0]]
    lock = {"version_lock": ids[0]}
    refused = world.client.patch("/devices/shop-1", json=lock)
    assert (refused.status_code, refused.json()["rule"]) == (409, "version_lock")
    next_ = world.publish(6, requires=Requires(from_sequence=1))
    assert world.promote(next_, "canary").status_code == 200
    trusted = world.manifest("canary")
    assert [step.id for step in trusted.waypoints] == [ids[4]]
    assert world.client.post(f"/artifacts/kiosk/{ids[0]}", content=make_bundle()).status_code == 201
    assert world.client.patch("/devices/shop-1", json=lock).status_code == 200


def test_files_of_what_goes_are_deleted_but_not_those_that_others_share(world: World) -> None:
    alone = make_bundle(**{"files/a": b"only here"})
    release = world.publish(1, packed=alone)
    for name in (release, world.publish(2)):
        assert world.client.get(f"/artifacts/kiosk/{name}/checksums.gz").status_code == 200
    with world.store.write() as tx:
        tx.execute("UPDATE releases SET state = 'superseded' WHERE id = :id", {"id": release})
    world.now += 31 * DAY
    assert world.client.post("/artifacts/retention").json()["removed"] == [release]
    assert not world.files.path(hashlib.sha256(alone).hexdigest()).exists()
    assert not world.files.blobs.path(hashlib.sha256(b"only here").hexdigest()).exists()
    assert len(list((world.files.path("00").parent.parent / "packed").iterdir())) == 1
    assert world.files.blobs.path(hashlib.sha256(INFO).hexdigest()).exists()
