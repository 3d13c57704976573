"""The pages that a browser sees around a login: a sentence with a way on, and the button that logs out. Pure."""

from __future__ import annotations

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from hub.inline import style_sources

_environment: Final = Environment(
    loader=PackageLoader("hub.access", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def message(title: str, text: str, *, link: str, label: str) -> str:
    """Return a page with a sentence, and a link with its label."""
    return _environment.get_template("message.html").render(title=title, text=text, link=link, label=label)


def log_out(name: str, *, action: str, csrf_token: str) -> str:
    """Return a page with a button that ends the session of whom `name` calls."""
    return _environment.get_template("logout.html").render(name=name, action=action, csrf_token=csrf_token)


def policy(page: str, form_targets: str) -> str:
    """Return the Content-Security-Policy of a page whose form, and what that redirects to, may lead to these."""
    return (
        f"default-src 'none'; style-src {style_sources(page)}; form-action {form_targets}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
