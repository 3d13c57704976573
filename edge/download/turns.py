"""Who is asked next for a download, and when it is given up. Pure: what happened is told, nothing is done.

Rules:

1. Sources are asked in the order of the manifest, the hub last, round after round.
2. What one source began another continues, as long as nothing wrong has come of it.
3. Wrong bytes that several sources gave could be anyone's: from then on nobody continues another's, so that the
   next wrong bytes have one giver.
4. A source that gave wrong bytes, or a wrong length, twice by itself is not asked again. None left: given up.
5. When every source that is left says, `denials` rounds in a row, that it has not got it: given up.
6. `barren` rounds in a row in which nothing at all came in: given up. A release is worth waiting for (the time for
   downloading ends that), a way to save bytes is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_WRONG: Final = 2
EARLIER: Final = ""
"""Stands for whoever gave what was received by an earlier process."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Rounds in a row after which to give up; 0 is never."""

    denials: int
    barren: int


PATIENT: Final = Patience(denials=10, barren=0)
BRIEF: Final = Patience(denials=1, barren=3)


class Turns:
    """The turns of one download. `begun` says that part of it is here already."""

    def __init__(self, urls: list[str], patience: Patience, *, begun: bool) -> None:
        self._wrong = dict.fromkeys(urls, 0)
        self._patience = patience
        self._givers = {EARLIER} if begun else set()
        self._alone = False
        self._denied: set[str] = set()
        self._denials = 0
        self._barren = 0
        self._received = 0
        self.failure = ""

    @property
    def corrupt(self) -> bool:
        """Whether no source is left because all gave what was not signed."""
        return not self._left()

    def begin(self) -> list[str]:
        """Begin a round; return whom to ask, in order."""
        self._denied.clear()
        self._received = 0
        return self._left()

    def starts_anew(self, url: str) -> bool:
        """Whether what is here must be removed before `url` is asked."""
        if not self._alone or self._givers <= {url}:
            return False
        self._givers.clear()
        return True

    def gave(self, url: str, size: int) -> None:
        """Some bytes came from `url`; less than none when it started from the beginning."""
        if size:
            self._givers = {url} if size < 0 else self._givers | {url}
            self._received += abs(size)

    def failed(self, url: str, reason: str) -> None:
        """`url` broke off, or did not answer well."""
        self.failure = f"{url}: {reason}"

    def denied(self, url: str, reason: str) -> None:
        """`url` says that it has not got it."""
        self.failed(url, reason)
        self._denied.add(url)

    def wrong(self, url: str, reason: str) -> None:
        """`url` by itself offered what cannot be right."""
        self.failed(url, reason)
        self._wrong[url] += 1

    def mixed_or_wrong(self, url: str, reason: str) -> None:
        """What came together, `url` the last to give, is wrong."""
        if self._givers <= {url}:
            self.wrong(url, reason)
        else:
            self.failed(url, reason)
            self._alone = True
        self._givers.clear()

    def over(self) -> str:
        """End a round; return why to give up, "" to go on."""
        left = self._left()
        self._denials = self._denials + 1 if left and self._denied >= set(left) else 0
        self._barren = 0 if self._received else self._barren + 1
        limits = ((self._denials, self._patience.denials), (self._barren, self._patience.barren))
        return self.failure if not left or any(0 < most <= count for count, most in limits) else ""

    def _left(self) -> list[str]:
        return [url for url, times in self._wrong.items() if times < MAX_WRONG]
