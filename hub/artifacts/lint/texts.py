"""Env templates, validation scripts, and secrets that stand where everybody can read them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from hub.artifacts.lint.findings import Finding

# Comments are filled in like the rest, so a stray dollar in one would refuse the release on every device.
_TEMPLATE_LINE: Final = re.compile(
    r"^(?:\s*#|[A-Za-z_][A-Za-z0-9_]*=)(?:[^$]|\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\})*\Z"
)
_VARIABLE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SET: Final = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=")
_SECRETS: Final = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{60,}\b")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("a password in an address", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@$\"']+:[^\s/:@${\"']{3,}@")),
)
_ASSIGNED: Final = re.compile(
    r"""^[\s\-"']*(?:[A-Za-z0-9_]*_)?(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY)["']?\s*[=:]\s*["']?"""
    r"""(?P<value>[^\s"'#$/.{<][^\s"'#$]{2,})""",
    re.IGNORECASE,
)
_KEY_FILES: Final = re.compile(
    r"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)|[^/]+\.(?:key|p12|pfx|jks)|\.netrc|\.pgpass)\Z"
)


def template(text: str, where: str, declared: Collection[str] | None) -> Iterator[Finding]:
    """Yield lines that a device could not fill in, and variables that `declared` (if given) does not name."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not _TEMPLATE_LINE.match(line):
            yield Finding(
                file=where,
                line=number,
                rule="template",
                detail="is not NAME=value",
                remedy="write ${NAME} for what the device fills in, $$ for a dollar",
            )
            continue
        for name in _VARIABLE.findall(line):
            if declared is not None and name not in declared:
                yield Finding(
                    file=where,
                    line=number,
                    rule="undefined_variable",
                    detail=f"uses {name}, which bundle.json does not list in variables",
                    remedy="add it there, so that who sets up a device knows of it, or mend the name",
                )


def names_set(text: str) -> set[str]:
    """Return the variables that an env template sets."""
    return {match[1] for line in text.splitlines() if (match := _SET.match(line))}


def names_used(text: str) -> set[str]:
    """Return the variables that an env template asks the device for."""
    return set(_VARIABLE.findall(text))


def script(data: bytes, mode: int, where: str) -> Iterator[Finding]:
    """Yield why a device could not run the script."""
    if mode != 0o755:
        yield Finding(
            file=where,
            rule="script_mode",
            detail="is not executable",
            remedy=f"run git update-index --chmod=+x {where} and commit",
        )
    first = data.split(b"\n", 1)[0]
    if not first.startswith(b"#!/"):
        yield Finding(
            file=where, rule="shebang", detail="has no shebang", remedy="begin it with a line like #!/bin/sh"
        )
    elif first.endswith(b"\r"):
        yield Finding(
            file=where,
            line=1,
            rule="shebang",
            detail="ends its shebang with a carriage return, so no device finds the program",
            remedy="save it with Unix line ends",
        )


def secrets(text: str, where: str, *, settings: bool) -> Iterator[Finding]:
    """Yield what looks like a secret; `settings` looks for `PASSWORD=…` as well, which in code is mostly none."""
    for number, line in enumerate(text.splitlines(), 1):
        kind = next((kind for kind, pattern in _SECRETS if pattern.search(line)), None)
        if kind is None and settings and not line.lstrip().startswith("#") and _ASSIGNED.match(line):
            kind = "a password or token"
        if kind:
            yield _secret(where, number, kind)


def secret_name(path: str, where: str) -> Iterator[Finding]:
    """Yield a finding for a path that is usually a private key's."""
    if _KEY_FILES.search(path):
        yield _secret(where, None, "a private key")


def _secret(where: str, line: int | None, kind: str) -> Finding:
    return Finding(
        file=where,
        line=line,
        rule="secret",
        severity="warning",
        detail=f"looks like it holds {kind}",
        remedy="every device and mirror can read a bundle, so let the device's device.env give it",
    )
