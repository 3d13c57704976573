"""Commands in the desired state: each is carried out once, before it expires, and answered.

That a command was done is written down in the same step as its answer, before or together with its effect;
a retained desired state that comes again finds it done.
"""

from __future__ import annotations

from typing import Final

from edge import safemode
from edge.acting import Acting
from edge.storage import memory, records, state
from edge.updating import chaos
from topics.documents import Command
from topics.messages import CommandResult

URGENT: Final = ("report-now", "restart-agent")
"""Commands that do not wait for an update to end."""
RECOVERY: Final = (*URGENT, "redeploy", "collect-diagnostics")
"""Commands that are carried out in safe mode; the others are answered with a no."""


def urgent(agent: Acting) -> None:
    """Carry out pending commands that an update under way does not hinder."""
    for command in _pending(agent):
        if command.kind in URGENT:
            _quick(agent, command)


def carry_out(agent: Acting) -> None:
    """Carry out all pending commands, as long as none of them starts an update."""
    for command in _pending(agent):
        if agent.state.safe_mode and command.kind not in RECOVERY:
            _answer(agent, agent.memory, command, ok=False, detail="the device is in safe mode")
        elif command.kind == "redeploy":
            if _redeploy(agent, command):
                return
        elif command.kind in ("check-drift", "repair-drift"):
            if _inspect(agent, command):
                return
        elif command.kind == "collect-diagnostics":
            _collect(agent, command)
            return
        else:
            _quick(agent, command)


def _pending(agent: Acting) -> list[Command]:
    held = agent.beliefs.desired
    if held is None or agent.crowded:
        # A command stays pending at the hub for as long as its answer could not be kept.
        return []
    return [
        command
        for command in held.desired.commands
        if command.id not in agent.memory.done and command.expires_at > agent.now_ms
    ]


def _quick(agent: Acting, command: Command) -> None:
    changed = agent.memory
    if command.kind == "fail-next-update":
        _arm(agent, command)
    elif command.kind == "report-now":
        _answer(agent, changed, command, ok=True, detail="heartbeat sent")
        agent.report_now()
    else:
        _answer(agent, changed, command, ok=True, detail="the agent restarts")
        agent.restart_wanted = True


def _arm(agent: Acting, command: Command) -> None:
    fault = chaos.asked(command) if agent.allows_chaos else None
    if fault is None:
        why = (
            "the agent knows no such fault"
            if agent.allows_chaos
            else "the device's own settings allow no chaos"
        )
        _answer(agent, agent.memory, command, ok=False, detail=why)
        return
    armed = records.changed(agent.memory, armed=fault.text())
    _answer(agent, armed, command, ok=True, detail=f"the next update will {fault.kind} in {fault.phase}")


def _collect(agent: Acting, command: Command) -> None:
    agent.change_state(records.changed(agent.state, collect=f"command {command.id}"))
    _answer(agent, agent.memory, command, ok=True, detail="they are collected, their report follows")
    agent.check_now()


def _inspect(agent: Acting, command: Command) -> bool:
    """Whether the command started the update process."""
    if agent.state.running is None:
        _answer(agent, agent.memory, command, ok=False, detail="nothing is installed")
        return False
    repairs = command.kind == "repair-drift"
    agent.change_state(records.changed(agent.state, inspect="repair" if repairs else "check"))
    detail = "repair begins, its report follows" if repairs else "the check begins, its report follows"
    _answer(agent, agent.memory, command, ok=True, detail=detail)
    agent.check_now()
    return True


def _redeploy(agent: Acting, command: Command) -> bool:
    """Whether the command started the update process."""
    last = agent.state.update
    if last is not None and last.command == command.id:
        # It was started, and power failed before that was written down.
        _answer(agent, agent.memory, command, ok=True, detail=f"started {last.release.id}")
        return False
    first = agent.decide_now()
    target = command.release or (first.release.id if first.release else None)
    decision = agent.decide_now(retry=target)
    running = agent.state.running_id
    if decision.reason == "already_installed" and running == (command.release or running):
        left = safemode.left(agent.state, f"{running} is started again", agent.memory.boot, agent.wall)
        agent.change_state(records.changed(left, again=True, failures=0, service=""))
        _answer(agent, agent.memory, command, ok=True, detail=f"{running} is started again")
        agent.check_now()
        return True
    if not decision.eligible or decision.release is None or decision.release.id != target:
        if agent.awaits_offer:
            return False  # The order came first; what it is about may follow, and then it is looked at again.
        _answer(agent, agent.memory, command, ok=False, detail=f"{decision.reason} {decision.detail}".strip())
        return False
    detail = f"started {decision.release.id}"
    agent.begin(decision, command=command.id, retry=True)
    _answer(agent, agent.memory, command, ok=True, detail=detail)
    return True


def _answer(agent: Acting, changed: memory.Memory, command: Command, *, ok: bool, detail: str) -> None:
    report = CommandResult(
        boot=changed.boot,
        at=max(0, agent.wall),
        spool=state.NO_SPOOL,
        n=1,
        command=command.id,
        ok=ok,
        detail=detail[:1000],
    )
    agent.change_memory(memory.with_report(memory.with_done(changed, command.id), report))
