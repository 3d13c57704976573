"""HTTP ranges (RFC 9110, section 14), the part that downloads need: one range of bytes.

>>> parse("bytes=100-", 1000)
(100, 999)
>>> parse("bytes=-10", 1000)
(990, 999)
>>> parse("bytes=0-0,5-9", 1000) is None
True
"""

from __future__ import annotations

import re

_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})\Z")


class Unsatisfiable(Exception):  # noqa: N818  (named by outcome)
    """The range begins behind the end of the content; answered as 416."""


def parse(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte asked for, or None when the whole is to be sent.

    A malformed header and a list of ranges are ignored, as the RFC allows. Raises `Unsatisfiable`.
    """
    match = _RANGE.match(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first_text, last_text = match.groups()
    if not first_text:
        length = int(last_text)
        if length == 0:
            raise Unsatisfiable
        return max(0, size - length), size - 1
    first = int(first_text)
    last = min(int(last_text), size - 1) if last_text else size - 1
    if first >= size:
        raise Unsatisfiable
    if last_text and int(last_text) < first:
        return None
    return first, last
