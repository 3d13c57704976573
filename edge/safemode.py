"""Entering and leaving safe mode by the hub's word; entering by the device's own judgement is `update`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from edge import records, state
from topics.messages import Recovery

if TYPE_CHECKING:
    from edge.agent import Agent

ORDERED: Final = "ordered-"
"""What the id of a stay begins with that the hub ordered; such a stay ends when the order does."""
Wish = Literal["enter", "leave", "stay"]


def wish(order: str, entry: str) -> Wish:
    """Return what `order` (desired `safe_mode`) asks of a device whose present stay is `entry` ("" outside).

    `on` enters; `cleared:<entry>` leaves exactly that stay, so a late clearance never ends a later one;
    anything else ends a stay that was ordered and leaves the device's own alone.
    """
    if order == "on":
        return "stay" if entry else "enter"
    if entry and (order == f"cleared:{entry}" or entry.startswith(ORDERED)):
        return "leave"
    return "stay"


def obey(agent: Agent) -> None:
    """Do what the desired state says of safe mode. Raises `OSError`."""
    held = agent.beliefs.desired
    if held is None:
        return
    entry = agent.state.safe_mode
    match wish(held.desired.safe_mode, entry):
        case "enter":
            entry = f"{ORDERED}{held.desired.issued_at}"
            _change(agent, "entered", entry, "ordered by the hub", now_in=entry)
        case "leave":
            _change(agent, "left", entry, "cleared by the hub", now_in="")
        case "stay":
            pass


def _change(agent: Agent, what: Literal["entered", "left"], entry: str, reason: str, *, now_in: str) -> None:
    report = Recovery(
        boot=agent.memory.boot,
        at=max(0, agent.wall),
        spool=state.NO_SPOOL,
        n=1,
        state=what,
        entry=entry,
        reason=reason,
        release=agent.state.running_id,
    )
    changed = records.changed(agent.state, safe_mode=now_in, safe_mode_applied=False, failures=0)
    agent.change_state(state.with_report(changed, report))
    agent.check_now()
