"""The chain of root documents that the hub serves. It holds none of their keys but the deployment key."""

from __future__ import annotations

from hub import verified
from hub.caller import Caller
from hub.errors import Conflict, Invalid, NotFound
from hub.events import Event, append
from hub.signer import Signer
from hub.store import Tx
from topics import codec
from topics.channels import TRUST_ROOT
from topics.documents import Root, RootChain
from topics.errors import TrustError
from topics.trust import TrustState, advance_root, keys_of, open_release, open_root, sha256

CHAIN_LENGTH = 4
"""Roots on the retained topic; older ones over HTTP."""


def latest(tx: Tx) -> Root:
    """Return the newest root; raises `Conflict` while there is none."""
    return latest_state(tx).root


def latest_state(tx: Tx) -> TrustState:
    """Return what a device that has read every root, and nothing else, believes."""
    row = tx.one("SELECT envelope FROM roots ORDER BY version DESC LIMIT 1")
    if row is None:
        raise Conflict(
            "This hub has no root of trust yet; make one with `flaghoist root init` and send it with "
            "`flaghoist root publish`.",
            rule="no_root",
        )
    return verified.root(row["envelope"])


def read(tx: Tx, version: int) -> bytes:
    """Return the envelope of a root version."""
    row = tx.one("SELECT envelope FROM roots WHERE version = :version", {"version": version})
    if row is None:
        raise NotFound(f"There is no root version {version}.")
    return bytes(row["envelope"])


def chain(tx: Tx) -> list[bytes]:
    """Return every root envelope, oldest first."""
    return [row["envelope"] for row in tx.all("SELECT envelope FROM roots ORDER BY version")]


def accept(tx: Tx, signer: Signer, data: bytes, caller: Caller, now: int) -> Root:
    """Take in the first root, or the next one, and hoist the chain. The newest again is no news."""
    row = tx.one("SELECT envelope FROM roots ORDER BY version DESC LIMIT 1")
    try:
        if row is None:
            root = open_root(data)
        else:
            state = TrustState(open_root(row["envelope"]), row["envelope"])
            root = advance_root(state, data).root
            if data == row["envelope"]:
                return root
    except TrustError as error:
        raise Conflict(f"The root is not accepted: {error.detail}.", rule=error.check) from None
    if root.fleet != signer.fleet:
        raise Conflict(f"The root is of fleet {root.fleet}, this hub serves {signer.fleet}.", rule="fleet")
    keys, threshold = keys_of(root, "deployment")
    if signer.public_key not in keys.values():
        raise Conflict(
            "The root does not name this hub's deployment key (GET /trust/deployment-key), so devices would trust "
            "nothing that this hub signs.",
            rule="deployment_key",
        )
    if threshold > 1:
        raise Invalid("The deployment threshold must be 1: this hub signs with one key.", rule="threshold")
    _check_releases(tx, root)
    if root.expires_at <= now:
        raise Conflict("The root has expired; make one with a later expiry.", rule="root_expired")
    tx.execute(
        "INSERT INTO roots (version, envelope, sha256, expires_at, created_at) "
        "VALUES (:version, :envelope, :sha256, :expires_at, :now)",
        {
            "version": root.version,
            "envelope": data,
            "sha256": sha256(data),
            "expires_at": root.expires_at,
            "now": now,
        },
    )
    _retain_chain(tx, signer, now)
    event = Event(kind="root.accepted", body={"version": root.version, "sha256": sha256(data)})
    append(tx, event, caller, now)
    return root


def _check_releases(tx: Tx, root: Root) -> None:
    """Refuse a root under which devices would refuse the manifests that stand: they would be out of reach."""
    for row in tx.all(
        "SELECT DISTINCT releases.id, releases.envelope FROM segments "
        "JOIN releases ON releases.id = segments.stable_id OR releases.id = segments.candidate_id "
        "OR segments.waypoints LIKE '%\"' || releases.id || '\"%' ORDER BY 1"
    ):
        try:
            open_release(root, row["envelope"])
        except TrustError as error:
            raise Conflict(
                f"Under this root devices would no longer trust {row['id']} ({error.detail}); add the new keys' "
                "signatures with `flaghoist release sign`, publish it again, then publish the root.",
                rule="release_keys",
            ) from None


def problem(tx: Tx, signer: Signer) -> str:
    """Return what keeps devices from trusting this hub, as one sentence, or nothing."""
    row = tx.one("SELECT envelope FROM roots ORDER BY version DESC LIMIT 1")
    if row is None:
        return (
            "no root of trust yet; make one with flaghoist root init and send it with flaghoist root publish"
        )
    if signer.public_key not in keys_of(open_root(row["envelope"]), "deployment")[0].values():
        return (
            "the newest root does not name this hub's deployment key, so devices trust nothing that it signs"
        )
    return ""


def _retain_chain(tx: Tx, signer: Signer, now: int) -> None:
    payload = codec.encode(RootChain(chain(tx)[-CHAIN_LENGTH:]))
    tx.execute(
        "INSERT INTO retained (topic, revision, issued_at, expires_at, payload) "
        "VALUES (:topic, (SELECT COALESCE(MAX(revision), 0) + 1 FROM retained), :now, 0, :payload) "
        "ON CONFLICT (topic) DO UPDATE SET revision = excluded.revision, issued_at = excluded.issued_at, "
        "payload = excluded.payload",
        {"topic": TRUST_ROOT.topic(signer.fleet), "now": now, "payload": payload},
    )
