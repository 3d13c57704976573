"""Replacing the device CA without touching a device: when each step follows. Pure.

A device knows its broker by the CAs that it holds, so a new one is believed everywhere before anything is shown that it
signed. Steps:

1. `announce`: a new generation is made. The broker takes certificates by either, the newest signs those of devices, and
   each device's signed desired state names both; it fetches both with its next certificate and says so.
2. `switch`: the broker shows a certificate by the new generation. Not before every device said that it knows it, unless
   somebody orders it, or the old one ends.
3. `retire`: the old generation is believed no longer. Not before the longest enrolment token has ended that names it,
   and every device was heard of, unless somebody orders it, as after a theft of its key, or it has ended itself.

A device that slept through all of it is not lost: over HTTP its key is enough, and the answer is signed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import msgspec

from hub.identity.ca import Generations

DAY: Final = 86_400
ANNOUNCE_LEFT: Final = 3 * 365 * DAY
"""A CA with less than three years (s) left is replaced: a device may sleep for most of them."""
SWITCH_LEFT: Final = 90 * DAY
"""With less than this left the broker goes over, whoever is missing: otherwise all would be."""
TOKENS: Final = 90 * DAY
"""Longest life of an enrolment token, which names one CA."""

Ordered = Literal["announce", "switch", "retire"]
Step = Ordered | Literal[""]


class Standing(msgspec.Struct, frozen=True):
    """How things stand at `now`: when the serving CA and the oldest one end (all in s), and how many devices have not
    said that they know the newest CA."""

    now: int
    serving_ends: int
    oldest_ends: int
    waiting: int


def following(generations: Generations) -> Step:
    """Return which step is the next one, whenever that may be."""
    if generations.newest == generations.first:
        return "announce"
    return "switch" if generations.serving < generations.newest else "retire"


def due(generations: Generations, standing: Standing) -> Step:
    """Return the step that follows now by itself, "" for none."""
    left, told = standing.serving_ends - standing.now, not standing.waiting
    match taken := following(generations):
        case "announce":
            is_due = left < ANNOUNCE_LEFT
        case "switch":
            is_due = told or left < SWITCH_LEFT
        case _:
            named_by_none = standing.now - generations.since >= TOKENS
            is_due = (named_by_none and told) or standing.oldest_ends <= standing.now
    return taken if is_due else ""


def after(generations: Generations, taken: Step, now: int) -> Generations:
    """Return the generations after a step."""
    match taken:
        case "announce":
            return replace(generations, newest=generations.newest + 1, since=now)
        case "switch":
            return replace(generations, serving=generations.newest, since=now)
        case "retire":
            return replace(generations, first=generations.newest, since=now)
        case _:
            return generations
