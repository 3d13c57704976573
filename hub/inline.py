"""What a page with its own style in it tells the browser of that style: its hash, so that no other is obeyed. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def style_sources(page: str) -> str:
    """Return the sources for `style-src` of a page: a hash for each style element, or 'none'."""
    digests = [hashlib.sha256(style.encode()).digest() for style in _STYLE.findall(page)]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
