"""Whom the hub has recognised, and what they were called when: the audit names people by issuer and subject."""

from __future__ import annotations

from hub.access.oidc.roles import Person
from hub.caller import Caller
from hub.events import Event, append
from hub.store import Tx


def name_of(tx: Tx, actor: str) -> str | None:
    """Return what a person was called when they were last here, None for somebody who never was."""
    row = tx.one("SELECT name FROM people WHERE actor = :actor", {"actor": actor})
    return str(row["name"]) if row else None


def recognise(tx: Tx, person: Person, role: str, request_id: str, now: int) -> None:
    """Write down a person who was never here or has another name now; `now` is in ms. One event, or none."""
    before = name_of(tx, person.actor)
    if before == person.name:
        return
    tx.execute(
        "INSERT INTO people (actor, name, recognised_at) VALUES (:actor, :name, :now) "
        "ON CONFLICT (actor) DO UPDATE SET name = excluded.name",
        {"actor": person.actor, "name": person.name, "now": now},
    )
    body = {**about(person), "before": before}
    append(tx, Event(kind="person.recognised", body=body), Caller(person.actor, role, request_id), now)


def about(person: Person) -> dict[str, str]:
    """Return what an event says of a person."""
    return {"iss": person.issuer, "sub": person.subject, "name": person.name}
