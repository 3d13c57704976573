"""Removing the bundles that nothing can need: what the store says, the rule, and the files."""

from __future__ import annotations

from typing import Any

from hub.artifacts.files import BundleFiles
from hub.artifacts.retention import Held, Needs, Way, reasons
from hub.caller import Caller
from hub.events import Event, append
from hub.store import Row, Store, Tx
from topics import bundle, codec, envelope
from topics.channels import MANIFEST, MANIFEST_LIMIT, RELEASE_LIMIT
from topics.documents import Manifest, Release
from topics.lifecycle import TERMINAL
from topics.trust import sha256

_ENDED = ", ".join(f"'{state}'" for state in sorted(TERMINAL))


def prune(
    store: Store, files: BundleFiles, fleet: str, caller: Caller, now: int, *, rollbacks: int, dry_run: bool
) -> dict[str, Any]:
    """Remove what may go and say so: `{"dry_run", "removed", "kept", "rollbacks", "bytes"}`.

    Rows go in one transaction with their events; files go after it, so that a bundle that is named is always there.
    """
    if dry_run:
        with store.read() as tx:
            rows, why = _judged(tx, fleet, rollbacks, now)
    else:
        with store.write() as tx:
            rows, why = _judged(tx, fleet, rollbacks, now)
            for row in rows:
                if not why[row["release_id"]]:
                    _forget(tx, row, caller, now)
    removed = [row for row in rows if not why[row["release_id"]]]
    if not dry_run:
        _remove_files(store, files, removed)
    return {
        "dry_run": dry_run,
        "removed": [row["release_id"] for row in removed],
        "kept": {release: reason for release, reason in why.items() if reason},
        "rollbacks": rollbacks,
        "bytes": sum(row["size"] for row in removed),
    }


def _judged(tx: Tx, fleet: str, rollbacks: int, now: int) -> tuple[list[Row], dict[str, str]]:
    rows = tx.all(
        "SELECT artifacts.*, releases.state FROM artifacts "
        "JOIN releases ON releases.id = artifacts.release_id ORDER BY artifacts.created_at"
    )
    held = [
        Held(release=row["release_id"], state=row["state"], uploaded_at=row["created_at"]) for row in rows
    ]
    ways = {
        row["id"]: Way(sequence=row["sequence"], floor=row["floor"], previous=row["previous_id"])
        for row in tx.all("SELECT id, sequence, floor, previous_id FROM releases")
    }
    return rows, reasons(held, _needs(tx, fleet), ways=ways, rollbacks=rollbacks, now=now)


def _needs(tx: Tx, fleet: str) -> Needs:
    ways = tx.all(f"SELECT release_id, from_id FROM attempts WHERE state NOT IN ({_ENDED})")  # noqa: S608  (ours)
    return Needs(
        manifest=_in_manifests(tx, fleet),
        segment=_ids(tx, "SELECT stable_id AS id FROM segments UNION SELECT candidate_id FROM segments"),
        lock=_ids(tx, "SELECT DISTINCT version_lock AS id FROM devices"),
        running=_ids(tx, "SELECT DISTINCT running AS id FROM device_latest"),
        on_the_way={value for row in ways for value in (row["release_id"], row["from_id"]) if value},
    )


def _ids(tx: Tx, query: str) -> set[str]:
    return {row["id"] for row in tx.all(query) if row["id"]}


def _in_manifests(tx: Tx, fleet: str) -> set[str]:
    found: set[str] = set()
    for segment in tx.all("SELECT role, segment FROM segments"):
        topic = MANIFEST.topic(fleet, role=segment["role"], segment=segment["segment"])
        row = tx.one("SELECT payload FROM retained WHERE topic = :topic", {"topic": topic})
        if row is None:
            continue
        payload = _payload(row["payload"], MANIFEST_LIMIT)
        manifest = codec.decode_signed(payload, Manifest, limit=MANIFEST_LIMIT)
        for data in (manifest.stable, manifest.candidate, *manifest.waypoints):
            if data is not None:
                release = codec.decode_signed(_payload(data, RELEASE_LIMIT), Release, limit=RELEASE_LIMIT)
                found.add(release.id)
    return found


def _payload(data: bytes, limit: int) -> bytes:
    # The hub's own store: what is in it was verified when it came in, or signed here.
    return envelope.open_envelope(data, limit=limit).payload


def _forget(tx: Tx, row: Row, caller: Caller, now: int) -> None:
    release = row["release_id"]
    tx.execute("DELETE FROM artifacts WHERE release_id = :id", {"id": release})
    body = {"sha256": row["sha256"], "size": row["size"], "uploaded_at": row["created_at"]}
    append(
        tx,
        Event(kind="release.artifact_removed", release_id=release, role=row["role"], body=body),
        caller,
        now,
    )


def _remove_files(store: Store, files: BundleFiles, removed: list[Row]) -> None:
    if not removed:
        return
    with store.read() as tx:
        left = tx.all("SELECT sha256, checksums FROM artifacts")
    bundles = {row["sha256"] for row in left}
    blobs = {entry for row in left for entry in _hashes(row)}
    files.packed.keep({sha256(bytes(row["checksums"])) for row in left})
    for row in removed:
        if row["sha256"] not in bundles:
            files.remove(row["sha256"])
        for digest in _hashes(row) - blobs:
            files.blobs.remove(digest)


def _hashes(row: Row) -> set[str]:
    return {entry.sha256 for entry in bundle.parse_checksums(bytes(row["checksums"])).files}
