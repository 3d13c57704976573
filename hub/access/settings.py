"""The options of `flaghoist-hub up` about people, and what of them is checked at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from hub.access.oidc.settings import Oidc, check_issuer, parse_roles, read_secret
from hub.errors import SetupError


class PeopleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where people log in, as they are spelled as options; `session_*` are minutes."""

    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_secret_file: str = ""
    oidc_audience: str = ""
    oidc_scopes: str = "openid profile email"
    oidc_role_claim: str = "groups"
    oidc_roles: str = ""
    session_idle: int = 30
    session_life: int = 480


_DEFAULT = PeopleSettings()
_MINUTES = click.IntRange(1, 43_200)
_OPTIONS = (
    click.option(
        "--oidc-issuer", default="", metavar="URL", help="The OpenID provider that people log in at."
    ),
    click.option("--oidc-client-id", default="", metavar="ID", help="What the provider knows this hub by."),
    click.option(
        "--oidc-secret-file",
        default="",
        metavar="FILE",
        help="File (0600) with the client's secret, if it has one.",
    ),
    click.option(
        "--oidc-audience",
        default="",
        metavar="TEXT",
        help="Audience of access tokens, beside the client's id.",
    ),
    click.option(
        "--oidc-scopes",
        default=_DEFAULT.oidc_scopes,
        show_default=True,
        help="What a login asks the provider for.",
    ),
    click.option(
        "--oidc-role-claim",
        default=_DEFAULT.oidc_role_claim,
        show_default=True,
        help="The claim that roles are given by; dots lead into it.",
    ),
    click.option(
        "--oidc-roles",
        default="",
        metavar="VALUE=ROLE,…",
        help="Which value of that claim gives which role; the highest counts.",
    ),
    click.option(
        "--session-idle",
        default=_DEFAULT.session_idle,
        show_default=True,
        type=_MINUTES,
        help="Minutes without a request after which a browser's session ends.",
    ),
    click.option(
        "--session-life",
        default=_DEFAULT.session_life,
        show_default=True,
        type=_MINUTES,
        help="Minutes after which a browser's session ends in any case.",
    ),
)


def people_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about people to a command; they come as the fields of `PeopleSettings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def oidc(settings: PeopleSettings, public_http: str) -> Oidc | None:
    """Return the provider, None without one; raises `SetupError`. `public_http` is where browsers find the hub."""
    issuer = check_issuer(settings.oidc_issuer, public_http)
    if not issuer:
        return None
    roles = parse_roles(settings.oidc_roles)
    if not settings.oidc_client_id or not roles:
        raise SetupError("--oidc-issuer needs --oidc-client-id, and --oidc-roles to say who may do what.")
    if "openid" not in settings.oidc_scopes.split():
        raise SetupError(
            "--oidc-scopes must have openid among them: without it the provider says nobody's name."
        )
    return Oidc(
        issuer=issuer,
        client_id=settings.oidc_client_id,
        client_secret=read_secret(settings.oidc_secret_file),
        audience=settings.oidc_audience,
        scopes=settings.oidc_scopes,
        role_claim=settings.oidc_role_claim,
        roles=roles,
    )
