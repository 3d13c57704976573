"""HTTP of API keys; thin."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from hub.access.keys import ApiKeys, KeyRequest

AnyRequest = Request[Any, Any, State]


class ApiKeysController(Controller):
    """`/api-keys`: who may call, and what they may do."""

    path = "/api-keys"
    opt = {"access": "admin"}  # noqa: RUF012  (litestar reads it from the class)
    tags = ["access"]  # noqa: RUF012

    @post("/", sync_to_thread=True)
    def create(
        self, request: AnyRequest, api_keys: NamedDependency[ApiKeys], data: JSONBody[KeyRequest]
    ) -> dict[str, Any]:
        """Make a key; its text is shown this once."""
        return api_keys.create(data, request.state.caller)

    @get("/", sync_to_thread=True)
    def index(self, api_keys: NamedDependency[ApiKeys]) -> dict[str, Any]:
        """List keys, without their texts."""
        return {"items": api_keys.all()}

    @delete("/{key_id:str}", sync_to_thread=True)
    def revoke(self, request: AnyRequest, api_keys: NamedDependency[ApiKeys], key_id: FromPath[str]) -> None:
        """Refuse a key from now on."""
        api_keys.revoke(key_id, request.state.caller)
