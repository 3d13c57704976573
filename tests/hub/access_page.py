"""docs/reference/access.md, made from the guards: `python -m tests.hub.access_page` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hub.caller import RANKS

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "access.md"
COLUMNS: Final = ("public", "device", *RANKS)
_HEAD: Final = """# Who may do what

Every route of the [HTTP API](http.md) by who asks, made from the guards that the hub runs with:
`.venv/bin/python -m tests.hub.access_page` writes this page, and a test fails while it lags. `public` is whoever shows
no credentials. A device may only read what is its own, whatever the table grants. A role is the same by an API key, a
token of the identity provider, or a session ([people.md](../people.md)).

"""


def may(who: str, access: str) -> bool:
    """Whether `who`, one of `COLUMNS`, passes a guard that says `access`."""
    if access == "public":
        return True
    if who in RANKS:
        least = "viewer" if access == "device" else access
        return least in RANKS and RANKS[who] >= RANKS[least]
    return who == "device" and access.startswith("device")


def render(routes: dict[str, str]) -> str:
    """Return the page for `METHOD /path` → what its guard says."""
    rows = [f"| route | {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
    for route in sorted(routes, key=lambda route: route.split(" ")[::-1]):
        marks = " | ".join("yes" if may(who, routes[route]) else "" for who in COLUMNS)
        rows.append(f"| `{route}` | {marks} |".replace("|  |", "| |").replace("|  |", "| |"))
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    from tests.test_docs import routes as of_the_application

    PAGE.write_text(render(of_the_application()))
