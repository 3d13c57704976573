"""Property tests run the same examples everywhere, and a busy machine does not fail them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")
