"""Safe mode: when it is entered and left by the hub's word, and the change of state with its report."""

from __future__ import annotations

import logging
from typing import Final, Literal

from edge.acting import Acting
from edge.config import Paths
from edge.machine.starts import Watch
from edge.storage import records, state
from edge.storage.ledger import ENDED
from edge.storage.state import State
from topics.messages import Boot, Recovery

ORDERED: Final = "ordered-"
"""What the id of a stay begins with that the hub ordered; such a stay ends when the order does."""
Wish = Literal["enter", "leave", "stay"]

log = logging.getLogger("flaghoist")


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


def obey(agent: Acting) -> None:
    """Do what the desired state says of safe mode. Raises `OSError`."""
    held = agent.beliefs.desired
    if held is None:
        return
    boot, wall = agent.memory.boot, agent.wall
    asked = wish(held.desired.safe_mode, agent.state.safe_mode)
    if asked == "stay":
        return
    if asked == "enter":
        entry = f"{ORDERED}{held.desired.issued_at}"
        changed = entered(agent.state, entry, "ordered by the hub", boot, wall)
    else:
        changed = left(agent.state, "cleared by the hub", boot, wall)
    agent.change_state(records.changed(changed, failures=0))
    agent.check_now()


def enter(agent: Acting, reason: str) -> None:
    """Enter safe mode of the device's own accord, unless it is in it. Raises `OSError`."""
    if not agent.state.safe_mode:
        agent.change_state(entered_by_itself(agent.state, reason, agent.memory.boot, agent.wall))


def look_for_a_loop(agent: Acting, starts: Watch, boot: str, steady: float) -> None:
    """Count this start, in the boot `boot` at `steady` (s, monotonic); enter safe mode when it is one too many.

    Called before anything is started. Raises `NotReady`.
    """
    update = agent.state.update
    under_way = update is not None and update.state not in ENDED
    if starts.begin(boot, steady, under_way=under_way):
        try:
            enter(agent, starts.reason)
            starts.forget()
        except OSError as error:
            log.warning("safe mode cannot be entered: %s", error)


def note_loss(agent: Acting, paths: Paths) -> None:
    """Enter safe mode when both generations of `state` are damaged. Raises `OSError` and `NotReady`.

    What `current` points to may be a release that never passed its probation, and what failed here is forgotten.
    """
    if state.is_lost(paths):
        enter(agent, "the file of the update's state and the one before it are damaged")


def entered_by_itself(base: State, reason: str, boot: Boot, wall: int) -> State:
    """Return `base` in a stay that the device enters of its own accord, with its report."""
    return entered(base, f"own-{boot[0]}-{base.serial + 1}", reason, boot, wall)


def entered(base: State, entry: str, reason: str, boot: Boot, wall: int) -> State:
    """Return `base` in the stay `entry`, begun at `wall` (s), with its report."""
    report = _report("entered", entry, reason, base.running_id, boot, wall)
    # What has led to it is known best now.
    told = f"safe mode: {reason}"
    return state.with_report(
        records.changed(base, safe_mode=entry, safe_mode_applied=False, collect=told), report
    )


def left(base: State, reason: str, boot: Boot, wall: int) -> State:
    """Return `base` out of safe mode, with the report of the stay's end if there was one."""
    if not base.safe_mode:
        return base
    report = _report("left", base.safe_mode, reason, base.running_id, boot, wall)
    return state.with_report(records.changed(base, safe_mode=""), report)


def _report(
    what: Literal["entered", "left"], entry: str, reason: str, running: str | None, boot: Boot, wall: int
) -> Recovery:
    return Recovery(
        boot=boot,
        at=max(0, wall),
        spool=state.NO_SPOOL,
        n=1,
        state=what,
        entry=entry,
        reason=reason[:1000],
        release=running,
    )
