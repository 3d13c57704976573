"""One thing that is wrong with a role, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`line` counts from 1, None for the file as a whole; an `error` refuses the bundle, a `warning` does not."""

    file: str
    line: int | None = None
    rule: str
    severity: Severity = "error"
    detail: str
    remedy: str

    @property
    def sentence(self) -> str:
        """The finding for people: what is where, and the way out."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place} {self.detail}; {self.remedy}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that refuse."""
    return [finding for finding in findings if finding.severity == "error"]
