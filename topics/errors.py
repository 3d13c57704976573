"""Errors of the contract, grouped by whose fault they are.

ContractError
├── SenderError        the bytes or the topic are at fault; the receiver is well
│   ├── DecodeError    a body that is not what its topic carries (`reason` is a stable word)
│   └── TopicError     a topic or name outside the table
├── TrustError         a signed document that must not take effect (`check` names the check that refused)
└── TransitionError    our own fault: a state machine asked for a step it does not have
"""

from __future__ import annotations


class ContractError(Exception):
    """Root of everything `topics` raises."""


class SenderError(ContractError):
    """What arrived is wrong; who sent it must mend it."""


class DecodeError(SenderError):
    """A body was refused. `reason` is one of the words in `topics.codec.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class TopicError(SenderError):
    """A topic, device id, role or segment outside the published table."""


class TrustError(ContractError):
    """A signed document was refused. `check` is one of the names in `topics.trust.CHECKS`."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail


class TransitionError(ContractError):
    """A lifecycle was asked for a transition that its table does not hold."""
