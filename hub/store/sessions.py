"""Tables of migration m015, of people who log in; what they are for is said there."""

from __future__ import annotations

from typing import Final

SESSIONS: Final = """
CREATE TABLE people (actor TEXT PRIMARY KEY, name TEXT NOT NULL, recognised_at INTEGER NOT NULL);

CREATE TABLE sessions (
    token_sha256 TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, login_sha256 TEXT NOT NULL UNIQUE, actor TEXT NOT NULL,
    role TEXT NOT NULL, terms TEXT NOT NULL, id_token BLOB NOT NULL, id_token_sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, ended_at INTEGER
);

CREATE INDEX sessions_by_actor ON sessions (actor, created_at);

CREATE INDEX sessions_by_id_token ON sessions (id_token_sha256);

CREATE INDEX sessions_by_end ON sessions (expires_at);
"""
