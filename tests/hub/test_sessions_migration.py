"""A database from before people could log in keeps its keys, and takes sessions."""

from __future__ import annotations

from pathlib import Path

import sqlite_utils

from hub.access.keys import digest
from hub.access.oidc.flow import Recognised
from hub.access.oidc.roles import Person
from hub.access.sessions import Lives, Sessions
from hub.auth import Authenticator
from hub.store import SqliteStore
from hub.store.schema import MIGRATIONS

WHO = Recognised(Person("https://id.example", "ada", "Ada"), "viewer", "the.id.token")


def test_a_database_from_before_sessions_keeps_its_keys_and_takes_sessions(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old = sqlite_utils.Database(path, execute_plugins=False)
    MIGRATIONS.apply(old, stop_before="m015_sessions")
    old.execute(
        "INSERT INTO operators (token_sha256, id, name, role, created_at, created_by) "
        "VALUES (?, 'k', 'ci', 'operator', 1, 'admin')",
        [digest("fhkey_old")],
    )
    old.conn.commit()
    old.close()
    store = SqliteStore(path)
    caller = Authenticator(store, "demo", lambda: 2).caller("Bearer fhkey_old", "")
    assert (caller.name, caller.role) == ("ci", "operator")
    sessions = Sessions(store, Lives(60_000, 600_000, "terms"), lambda: 2)
    text = sessions.open(WHO, "login", None, "")
    found = sessions.find(text, "")
    assert (found.name, found.caller.name) == ("Ada", "oidc:https://id.example#ada")
    assert sessions.log_out(text, found.caller) == "the.id.token"
    store.close()
