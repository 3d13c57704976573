"""Names that appear in topics, certificates and paths, and what they may look like.

>>> device_id("shop-12")
'shop-12'
>>> segment("beta")
Traceback (most recent call last):
topics.errors.TopicError: 'beta' is not a segment; the segments are canary, early, general
"""

from __future__ import annotations

import re
from typing import Final

from topics.errors import TopicError

SEGMENTS: Final = ("canary", "early", "general")
"""Order in which a release reaches a role's devices."""

DEVICE_ID_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
ROLE_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}\Z"
RELEASE_ID_PATTERN: Final = r"^[a-z][a-z0-9-]{0,95}\Z"
FLEET_PATTERN: Final = ROLE_PATTERN

_DEVICE_ID = re.compile(DEVICE_ID_PATTERN)
_ROLE = re.compile(ROLE_PATTERN)
_RELEASE_ID = re.compile(RELEASE_ID_PATTERN)


def device_id(text: str) -> str:
    """Return `text` if it can name a device, else raise `TopicError`.

    Upper case is refused rather than folded: ids that differ only by case would become one device
    or two, depending on who compares them. A dot is impossible, so no device can be called like a
    service (`svc.<name>`).
    """
    if not _DEVICE_ID.match(text):
        raise TopicError(
            f"{text!r} is not a device id; use 1 to 63 of a-z, 0-9 and '-', not starting with '-'"
        )
    return text


def role(text: str) -> str:
    """Return `text` if it can name a role, else raise `TopicError`."""
    if not _ROLE.match(text):
        raise TopicError(f"{text!r} is not a role; use 1 to 32 of a-z, 0-9 and '-', starting with a letter")
    return text


def fleet(text: str) -> str:
    """Return `text` if it can name a fleet (same rule as a role), else raise `TopicError`."""
    if not _ROLE.match(text):
        raise TopicError(
            f"{text!r} is not a fleet name; use 1 to 32 of a-z, 0-9 and '-', starting with a letter"
        )
    return text


def segment(text: str) -> str:
    """Return `text` if it is one of `SEGMENTS`, else raise `TopicError`."""
    if text not in SEGMENTS:
        raise TopicError(f"{text!r} is not a segment; the segments are {', '.join(SEGMENTS)}")
    return text


def release_id(text: str) -> str:
    """Return `text` if it can name a release, else raise `TopicError`."""
    if not _RELEASE_ID.match(text):
        raise TopicError(f"{text!r} is not a release id; it looks like kiosk-7-3f2a9c1b5d4e")
    return text


def make_release_id(role_name: str, sequence: int, commit: str) -> str:
    """Return the id of the release of `role_name` numbered `sequence` at git `commit`.

    >>> make_release_id("kiosk", 7, "3f2a9c1b5d4e77aa")
    'kiosk-7-3f2a9c1b5d4e'
    """
    return release_id(f"{role(role_name)}-{sequence}-{commit[:12].lower()}")
