"""Conditional requests (RFC 9110, section 13), the part that downloads need."""

from __future__ import annotations


def is_known(header: str | None, etag: str) -> bool:
    """Return whether an `If-None-Match` names `etag` (weakly compared, as the RFC has it) or anything.

    >>> is_known('W/"a", "b"', '"b"'), is_known('"a"', '"b"'), is_known("*", '"b"'), is_known(None, '"b"')
    (True, False, True, False)
    """
    names = [name.strip().removeprefix("W/") for name in (header or "").split(",")]
    return etag in names or names == ["*"]
