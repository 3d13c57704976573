"""docs/reference/access.md says what the guards say."""

from __future__ import annotations

from tests.hub import access_page
from tests.test_docs import routes


def test_the_page_is_what_the_guards_make_of_it() -> None:
    assert access_page.PAGE.read_text() == access_page.render(routes()), access_page.__doc__
