"""Applications that are lent to one hub of a test after the other: making one takes longer than most tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from litestar import Litestar

from hub.auth import Authenticator
from hub.http import Services, application
from hub.throttle import Throttle


class Lent:
    """One application, and what stands behind it at the moment."""

    def __init__(self) -> None:
        self._behind: dict[str, Any] = {}
        services, authenticator, throttle = (
            _Late(partial(self._find, name)) for name in ("services", "authenticator", "throttle")
        )
        self.app: Litestar = application(
            cast(Services, services),
            cast(Authenticator, authenticator),
            cast(Throttle, throttle),
            version="0.0.0",
        )

    def _find(self, name: str) -> Any:
        return self._behind[name]

    def stand_for(self, services: Services, authenticator: Authenticator, throttle: Throttle) -> None:
        """Answer for these from now on."""
        self._behind = {"services": services, "authenticator": authenticator, "throttle": throttle}

    def give_back(self) -> None:
        """Answer for nobody until it is borrowed again."""
        self._behind = {}
        _spare.append(self)


class _Late:
    """Has the attributes of whatever is found at each use."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._found = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)


_spare: list[Lent] = []


def borrow(services: Services, authenticator: Authenticator, throttle: Throttle) -> Lent:
    """Return an application that nobody else has and that answers for these; give it back."""
    lent = _spare.pop() if _spare else Lent()
    lent.stand_for(services, authenticator, throttle)
    return lent
