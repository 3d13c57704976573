"""What policies are decided on, read from the store: nothing that no policy in force asks for.

Most is read by key. Only a `site_share` goes through the devices of a segment, so that a fleet without one promotes at
the same cost whatever its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from hub import trustroots, verified
from hub.caller import Caller
from hub.policies.documents import (
    Approvals,
    DriftAge,
    Held,
    LeastAgent,
    RequiredChecks,
    SiteShare,
    from_store,
)
from hub.policies.rules import Action, Site
from hub.store import Row, Tx
from topics import bundle
from topics.eligibility import takes_candidate

CHECKS: Final = "validate/"


def in_force(tx: Tx, role: str) -> list[Held]:
    """Return the policies that concern `role`, the oldest first."""
    rows = tx.all(
        "SELECT id, body FROM policies WHERE role = :role OR role IS NULL ORDER BY created_at, id",
        {"role": role},
    )
    return [Held(row["id"], from_store(row["body"])) for row in rows]


def promotion(
    tx: Tx, release: Row, segment: str, share: int, policies: Sequence[Held], caller: Caller, now: int
) -> Action:
    """Return what `policies` ask about promoting `release` to `share` basis points of `segment`; `now` in ms."""
    kinds = {type(held.policy) for held in policies}
    where = {"id": release["id"], "segment": segment}
    return Action(
        verb="promote",
        role=release["role"],
        now=now,
        segment=segment,
        min_agent=_min_agent(tx, release) if LeastAgent in kinds else "0",
        scripts=_scripts(tx, release["id"]) if RequiredChecks in kinds else frozenset(),
        approved_by=_names(tx, _APPROVERS, where) if Approvals in kinds else frozenset(),
        asked_by=_names(tx, _ASKERS, where) | {caller.name} if Approvals in kinds else frozenset(),
        sites=_sites(tx, release, segment, share) if SiteShare in kinds else {},
        drifted_since=_drifted_since(tx, release["role"], segment) if DriftAge in kinds else None,
    )


# Whoever put the rollout on its way, or had it put there at some time, counts among its askers, also when a rule of the
# hub takes the next step.
_APPROVERS: Final = "SELECT approved_by AS name FROM approvals WHERE release_id = :id AND segment = :segment"
_ASKERS: Final = (
    "SELECT DISTINCT actor AS name FROM events WHERE release_id = :id AND :segment <> '' "
    "AND kind IN ('release.promoted', 'release.scheduled')"
)


def _names(tx: Tx, sql: str, params: dict[str, str]) -> frozenset[str]:
    return frozenset(row["name"] for row in tx.all(sql, params))


def _min_agent(tx: Tx, release: Row) -> str:
    return verified.release(trustroots.latest_state(tx), release["envelope"]).requires.min_agent


def _scripts(tx: Tx, release_id: str) -> frozenset[str]:
    row = tx.one("SELECT checksums FROM artifacts WHERE release_id = :id", {"id": release_id})
    if row is None:
        return frozenset()
    paths = (entry.path for entry in bundle.parse_checksums(row["checksums"]).files)
    return frozenset(path.removeprefix(CHECKS) for path in paths if path.startswith(CHECKS))


def _sites(tx: Tx, release: Row, segment: str, share: int) -> dict[str, Site]:
    """Return the sites that `segment` has devices at: those that the share takes and whose update has not ended
    there, and all that are in the middle of an update for whatever reason."""
    where = {"role": release["role"], "segment": segment, "release": release["id"]}
    updating: Counter[str] = Counter()
    found: set[str] = set()
    for site, device_id, state in tx.tuples(_OFFERED, where):
        found.add(site)
        is_taking = state is None and takes_candidate(release["id"], device_id, share)
        updating[site] += is_taking or (state is not None and state not in ENDED)
    for site, devices in tx.tuples(_UNDER_WAY, where):
        updating[site] += devices
    sizes = dict(tx.tuples(_SITE_SIZES))
    return {site: Site(sizes[site], updating[site]) for site in found}


_OFFERED: Final = """
SELECT devices.site, devices.device_id, attempts.state FROM devices
LEFT JOIN attempts ON attempts.release_id = :release AND attempts.device_key = devices.key
WHERE devices.role = :role AND devices.segment = :segment AND devices.revoked_at IS NULL AND devices.site <> ''
"""
ENDED: Final = ("committed", "failed", "rolled_back", "refused")
# Updates of other releases, and of this one in the segments before.
_UNDER_WAY: Final = f"""
SELECT devices.site, COUNT(*) FROM attempts JOIN releases ON releases.id = attempts.release_id
JOIN devices ON devices.key = attempts.device_key
WHERE releases.state IN ('rolling', 'paused', 'halted') AND attempts.state NOT IN {ENDED}
    AND devices.revoked_at IS NULL AND devices.site <> ''
    AND NOT (attempts.release_id = :release AND devices.role = :role AND devices.segment = :segment)
GROUP BY devices.site
"""  # noqa: S608  (our own constants)
_SITE_SIZES: Final = (
    "SELECT site, COUNT(*) FROM devices WHERE revoked_at IS NULL AND site <> '' GROUP BY site"
)


def _drifted_since(tx: Tx, role: str, segment: str) -> int | None:
    row = tx.one(
        "SELECT MIN(drifting.since) AS since FROM drifting JOIN devices ON devices.key = drifting.device_key "
        "WHERE devices.role = :role AND devices.segment = :segment AND devices.revoked_at IS NULL",
        {"role": role, "segment": segment},
    )
    return row["since"] if row else None
