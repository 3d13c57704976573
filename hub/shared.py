"""Routes of no single module: health, trust roots, schemas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from hub import trustroots
from hub.deployment.service import Deployment
from hub.errors import NotFound
from hub.registry.service import Registry
from hub.rekey import sign_again_if_due
from hub.signer import Signer
from hub.store import Store
from hub.times import Clock, rfc3339
from topics.documents import Root
from topics.envelope import key_id
from topics.schema import KINDS, json_schema
from topics.trust import ROOT_LIMIT, sha256

AnyRequest = Request[Any, Any, State]
_ENVELOPE = "application/vnd.flaghoist.envelope+msgpack"


class Health(msgspec.Struct, frozen=True):
    """The parts whose state decides whether the hub is ready: name → "" or one sentence about what is wrong."""

    checks: Mapping[str, Callable[[], str]]


class SharedController(Controller):
    """Health, trust and schemas."""

    path = "/"
    tags = ["shared"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/health/live", opt={"access": "public", "counted": False}, sync_to_thread=False)
    def live(self) -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @get("/health/ready", opt={"access": "public", "counted": False}, sync_to_thread=False)
    def ready(self, health: NamedDependency[Health]) -> Response[dict[str, Any]]:
        """Whether every part does its work; 503 with the reasons when not."""
        found = {name: check() or "ok" for name, check in health.checks.items()}
        good = all(text == "ok" for text in found.values())
        return Response(
            {"ready": good, "checks": found},
            status_code=HTTP_200_OK if good else HTTP_503_SERVICE_UNAVAILABLE,
        )

    @get("/trust/deployment-key", opt={"access": "public"}, sync_to_thread=False)
    def deployment_key(self, signer: NamedDependency[Signer]) -> dict[str, str]:
        """The public key that a root must name for this hub."""
        key = signer.public_key
        return {"fleet": signer.fleet, "keyid": key_id(key), "public_key": key.hex()}

    @post("/trust/roots", opt={"access": "admin"}, request_max_body_size=ROOT_LIMIT)
    async def accept_root(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        signer: NamedDependency[Signer],
        deployment: NamedDependency[Deployment],
        registry: NamedDependency[Registry],
    ) -> dict[str, Any]:
        """Take in the first root document, or the next one."""
        data = await request.body()

        def accept() -> Root:
            with store.write() as tx:
                root = trustroots.accept(tx, signer, data, request.state.caller, clock.now())
            sign_again_if_due(store, signer, deployment, registry)
            return root

        root = await asyncio.to_thread(accept)
        return {"version": root.version, "sha256": sha256(data), "expires_at": rfc3339(root.expires_at)}

    @get("/trust/roots/{version:int}", opt={"access": "public"}, sync_to_thread=True)
    def root(self, store: NamedDependency[Store], version: FromPath[int]) -> Response[bytes]:
        """One root document, as it was signed."""
        with store.read() as tx:
            return Response(trustroots.read(tx, version), media_type=_ENVELOPE)

    @get("/schemas", opt={"access": "public"}, sync_to_thread=False)
    def schemas(self) -> dict[str, Any]:
        """Every message and document kind with its version."""
        return {"items": [{"name": name, "version": version} for name, (version, _) in KINDS.items()]}

    @get("/schemas/{name:str}/{version:int}", opt={"access": "public"}, sync_to_thread=False)
    def schema(self, name: FromPath[str], version: FromPath[int]) -> dict[str, Any]:
        """The JSON Schema of one kind."""
        if name not in KINDS or KINDS[name][0] != version:
            raise NotFound(f"There is no schema {name} version {version}.")
        return json_schema(name)
