"""Puts together what knows people."""

from __future__ import annotations

from collections.abc import Callable

from hub.access.browser import Site
from hub.access.gate import Gate
from hub.access.oidc.flow import Provider
from hub.access.oidc.http import Ask
from hub.access.oidc.settings import Oidc
from hub.access.sessions import Lives, Sessions
from hub.store import Store

MINUTE_MS = 60_000


def build_gate(
    store: Store, oidc: Oidc, ask: Ask, public_url: str, lives: tuple[int, int], clock: Callable[[], int]
) -> Gate:
    """Return the gate of a hub that browsers find at `public_url`; `lives` are idle and whole, in minutes."""
    site = Site(public_url.rstrip("/"))
    idle, life = lives
    sessions = Sessions(store, Lives(idle * MINUTE_MS, life * MINUTE_MS, oidc.digest), clock)
    return Gate(store, Provider(oidc, ask, clock, f"{site.url}/login/callback"), sessions, site, clock)
