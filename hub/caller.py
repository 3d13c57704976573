"""Who asks: the person, program or rule behind a change, as services and events see it."""

from __future__ import annotations

from typing import Final

import msgspec

RANKS: Final = {"viewer": 1, "operator": 2, "release-manager": 3, "admin": 4}
"""Operator roles; each may do what the ones below it may."""


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller. `role` is an operator role, or `device` with `name` the device id."""

    name: str
    role: str
    request_id: str = ""

    def may(self, least: str) -> bool:
        """Whether this caller holds at least the operator role `least`; a device never does."""
        return RANKS.get(self.role, 0) >= RANKS[least]


def rule(name: str) -> Caller:
    """The hub itself, acting by one of its rules."""
    return Caller(f"rule:{name}", "admin")
