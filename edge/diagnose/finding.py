"""What one check says, and all of them as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Level = Literal["pass", "warn", "fail", "skip"]
_ORDER: Final = ("fail", "warn", "skip", "pass")


@dataclass(frozen=True, slots=True)
class Finding:
    """`pass` needs nobody; `warn` will need somebody; `fail` is what is wrong now; `skip` could not be looked at.

    `remedy` is one sentence that says what to do, "" for `pass`.
    """

    check: str
    level: Level
    detail: str
    remedy: str = ""


def passed(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, "pass", detail)


def warned(check: str, detail: str, remedy: str) -> Finding:
    """It works, and will not for ever."""
    return Finding(check, "warn", detail, remedy)


def failed(check: str, detail: str, remedy: str) -> Finding:
    """This is wrong."""
    return Finding(check, "fail", detail, remedy)


def skipped(check: str, why: str) -> Finding:
    """It could not be looked at; `why` names what stands in the way."""
    return Finding(check, "skip", why, "Mend what failed before it and look again.")


def graded(check: str, detail: str, remedy: str, *, fail: bool, warn: bool) -> Finding:
    """The worse of the two that holds, else `pass`."""
    if fail:
        return failed(check, detail, remedy)
    return warned(check, detail, remedy) if warn else passed(check, detail)


def verdict(findings: Sequence[Finding]) -> Level:
    """Return the worst level of all, in which what was skipped counts for nothing."""
    levels = {finding.level for finding in findings} - {"skip"}
    return next((level for level in _ORDER if level in levels), "pass")


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as plain values."""
    counts = {level: sum(finding.level == level for finding in findings) for level in _ORDER}
    return {
        "verdict": verdict(findings),
        "counts": counts,
        "checks": [asdict(finding) for finding in findings],
    }


def text(findings: Sequence[Finding]) -> str:
    """Return the findings as a table, remedies below what they are for, and a line that sums up."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level}  {finding.check:<{width}}  {finding.detail}")
        if finding.level in ("warn", "fail"):
            lines.append(f"      {'':<{width}}  → {finding.remedy}")
    counts = as_json(findings)["counts"]
    lines.append(
        f"{len(findings)} checks: {counts['pass']} pass, {counts['warn']} warn, {counts['fail']} fail,"
        f" {counts['skip']} skipped"
    )
    return "\n".join(lines)
