"""HTTP of the device CA; thin."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.identity.rotation import Ordered
from hub.registry.authority import AuthorityRenewal

AnyRequest = Request[Any, Any, State]


class StepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The next step of a replacement; `leave_behind` allows for devices that do not know the new CA."""

    step: Ordered
    leave_behind: bool = False


class AuthorityController(Controller):
    """`/trust/ca`: the CA that devices know their broker by."""

    path = "/trust/ca"
    tags = ["trust"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/", opt={"access": "viewer"}, sync_to_thread=True)
    def show(self, authority_renewal: NamedDependency[AuthorityRenewal]) -> dict[str, Any]:
        """Show the CAs that are believed, and how many devices do not know the newest."""
        return authority_renewal.view()

    @post("/steps", opt={"access": "admin"}, sync_to_thread=True, status_code=HTTP_200_OK)
    def step(
        self,
        request: AnyRequest,
        authority_renewal: NamedDependency[AuthorityRenewal],
        data: JSONBody[StepRequest],
    ) -> dict[str, Any]:
        """Make a new CA and tell devices of it, let the broker go over to it, or believe the former one no longer."""
        return authority_renewal.order(data.step, request.state.caller, leave_behind=data.leave_behind)
