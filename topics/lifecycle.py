"""The device's update lifecycle: which step may follow which, and what to do after a crash.

    idle → downloading → verified → staged → activating → probation → committed
    any of those until staged → failed                  (nothing was changed yet)
    activating, probation → rolling_back → rolled_back  (the old release is put back)
    idle → refused                                      (a document that was not trusted)

Every transition is persisted before its effect. So whatever `state` says after a power cut, its effect may
or may not have happened, and `after_crash` must be right in both cases.

An image of the whole system runs only after the machine was restarted. `activating` (and `rolling_back`) lasts
through that: what the machine came up with is asked of it before the next step is said, never taken for granted.
"""

from __future__ import annotations

from typing import Final, Literal

from topics.errors import TransitionError
from topics.messages import UpdateState

NEXT: Final[dict[UpdateState, tuple[UpdateState, ...]]] = {
    "idle": ("downloading", "refused"),
    "downloading": ("verified", "failed"),
    "verified": ("staged", "failed"),
    "staged": ("activating", "failed"),
    "activating": ("probation", "rolling_back"),
    "probation": ("committed", "rolling_back"),
    "rolling_back": ("rolled_back",),
    "committed": ("idle",),
    "failed": ("idle",),
    "rolled_back": ("idle",),
    "refused": ("idle",),
}

TERMINAL: Final[frozenset[UpdateState]] = frozenset({"committed", "failed", "rolled_back", "refused"})
DURABLE: Final[frozenset[UpdateState]] = TERMINAL | {"downloading"}
"""Transitions that are reported in the spool: the begin, which counts the device in, and the end."""

RUNS_NEW: Final[frozenset[UpdateState]] = frozenset({"committed"})

Recovery = Literal[
    "none", "start_over", "activate_again", "restart", "probe", "probe_again", "roll_back", "report"
]
Restart = Literal["", "wanted", "done"]
"""Whether the step under way asked for a restart of the machine, and whether that has been since."""


def advance(state: UpdateState, following: UpdateState) -> UpdateState:
    """Return `following` if it may follow `state`, else raise `TransitionError`.

    >>> advance("staged", "activating")
    'activating'
    """
    if following not in NEXT[state]:
        raise TransitionError(f"an update that is {state} cannot become {following}")
    return following


def after_crash(
    state: UpdateState, *, activations: int, max_activations: int, restart: Restart = ""
) -> Recovery:
    """Return how to go on from a persisted `state` after a crash, a power cut or a restart.

    - A restart that is still wanted is asked for again. One that has been leads from `activating` to probation, whose
      probe says what the machine came up with; elsewhere it was as good as a power cut.
    - Before `activating` nothing on the device has changed: start over (a download resumes).
    - `activating`: the hook may have run in part. It is idempotent, so run it again, unless it has been
      started `max_activations` times already (each start is counted before it): then roll back.
    - `probation`: the new release stands but is not proven; probation starts anew, with the same limit.
    - `rolling_back`: roll back again, it is idempotent.
    - Ended: only the report may be missing.

    >>> after_crash("activating", activations=1, max_activations=3)
    'activate_again'
    >>> after_crash("probation", activations=3, max_activations=3)
    'roll_back'
    """
    if state == "idle":
        return "none"
    if state in TERMINAL:
        return "report"
    if state in ("downloading", "verified", "staged"):
        return "start_over"
    if restart == "wanted":
        return "restart"
    if restart == "done" and state == "activating":
        return "probe"
    if state == "rolling_back" or activations >= max_activations:
        return "roll_back"
    return "activate_again" if state == "activating" else "probe_again"
