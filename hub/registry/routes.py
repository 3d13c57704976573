"""HTTP of the registry; thin."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from hub.errors import Forbidden, Invalid, TooLarge
from hub.registry import tokens, views
from hub.registry.certificates import Certificates
from hub.registry.rules import DevicePatch, TokenRequest
from hub.registry.service import Registry
from hub.store import Store
from hub.times import Clock, rfc3339
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.enrolment import RegisterRequest
from topics.errors import DecodeError
from topics.renewal import CertificateRequest

AnyRequest = Request[Any, Any, State]
T = TypeVar("T")
ENVELOPE = "application/vnd.flaghoist.envelope+msgpack"


class RegistryController(Controller):
    """`/devices`: registration, reading and changing devices."""

    path = "/devices"
    tags = ["registry"]  # noqa: RUF012  (litestar reads it from the class)

    @post("/enrolment-tokens", opt={"access": "operator"}, sync_to_thread=True)
    def create_token(
        self, request: AnyRequest, registry: NamedDependency[Registry], data: JSONBody[TokenRequest]
    ) -> dict[str, Any]:
        """Make an enrolment token; its text is shown this once."""
        answer = registry.create_token(data, request.state.caller)
        return {**answer, "expires_at": rfc3339(answer["expires_at"])}

    @get("/enrolment-tokens", opt={"access": "operator"}, sync_to_thread=True)
    def list_tokens(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """List enrolment tokens without their texts, the newest first."""
        with store.read() as tx:
            return tokens.page(tx, limit=limit, cursor=cursor, now=clock.now())

    @delete("/enrolment-tokens/{token_id:str}", opt={"access": "operator"}, sync_to_thread=True)
    def revoke_token(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        token_id: FromPath[str],
    ) -> None:
        """Let nobody use a token from now on."""
        tokens.revoke(store, token_id, request.state.caller, clock.now())

    @post("/register", opt={"access": "public"}, request_max_body_size=UPLINK_LIMIT)
    async def register(self, request: AnyRequest, registry: NamedDependency[Registry]) -> Response[bytes]:
        """Register a device: first for a nonce (202), then with the proof over it (200)."""
        message = _decode(await request.body(), request.headers.get("content-type"), RegisterRequest)
        if message.proof is None:
            challenge = await asyncio.to_thread(registry.challenge, message)
            return _msgpack(codec.encode(challenge), HTTP_202_ACCEPTED)
        answer = await asyncio.to_thread(registry.register, message)
        return _msgpack(codec.encode(answer), HTTP_200_OK)

    @post("/{device_id:str}/certificate", opt={"access": "device-only"}, request_max_body_size=UPLINK_LIMIT)
    async def certificate(
        self,
        request: AnyRequest,
        certificates: NamedDependency[Certificates],
        device_id: FromPath[str],
    ) -> Response[bytes | None]:
        """Renew a device's certificate: signed credentials, or 204 when it holds what it should."""
        caller = request.state.caller
        if caller.name != device_id:
            raise Forbidden("A device may only renew its own certificate.", rule="own_device")
        held = _decode(await request.body(), request.headers.get("content-type"), CertificateRequest)
        answer = await asyncio.to_thread(certificates.renew, device_id, held, caller)
        if answer is None:
            return Response(None, status_code=HTTP_204_NO_CONTENT)
        return Response(answer, status_code=HTTP_200_OK, media_type=ENVELOPE)

    @get("/", opt={"access": "viewer"}, sync_to_thread=True)
    def index(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        role: FromQuery[str | None] = None,
        segment: FromQuery[str | None] = None,
        limit: FromQuery[int] = 100,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """List devices by id, a page at a time."""
        with store.read() as tx:
            return views.page(tx, role=role, segment=segment, limit=limit, cursor=cursor, now=clock.now())

    @get("/{device_id:str}", opt={"access": "viewer"}, sync_to_thread=True)
    def show(
        self, store: NamedDependency[Store], clock: NamedDependency[Clock], device_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        """Show one device, with the ETag that `PATCH` wants."""
        return _shown(store, clock, device_id)

    @patch("/{device_id:str}", opt={"access": "operator"}, sync_to_thread=True)
    def change(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        registry: NamedDependency[Registry],
        device_id: FromPath[str],
        data: JSONBody[DevicePatch],
    ) -> Response[dict[str, Any]]:
        """Change a device; several fields at once, guarded by `If-Match`."""
        registry.patch(device_id, data, request.headers.get("if-match", ""), request.state.caller)
        return _shown(store, clock, device_id)

    @delete("/{device_id:str}", opt={"access": "admin"}, sync_to_thread=True)
    def remove(
        self, request: AnyRequest, registry: NamedDependency[Registry], device_id: FromPath[str]
    ) -> None:
        """Forget a device; its id may register again."""
        registry.delete(device_id, request.state.caller)

    @post("/{device_id:str}/revoke", opt={"access": "operator"}, sync_to_thread=True, status_code=HTTP_200_OK)
    def revoke(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        registry: NamedDependency[Registry],
        device_id: FromPath[str],
    ) -> Response[dict[str, Any]]:
        """Withdraw a device's identity."""
        registry.revoke(device_id, request.state.caller)
        return _shown(store, clock, device_id)


def _shown(store: Store, clock: Clock, device_id: str) -> Response[dict[str, Any]]:
    with store.read() as tx:
        view, etag = views.one(tx, device_id, clock.now())
    return Response(view, headers={"ETag": etag})


def _decode(body: bytes, content_type: str | None, kind: type[T]) -> T:
    try:
        return codec.decode(body, kind, limit=UPLINK_LIMIT, content_type=content_type)
    except DecodeError as error:
        if error.reason == "too_large":
            raise TooLarge(f"The request is too large: {error.detail}.") from None
        raise Invalid(f"The request cannot be read: {error.detail}.", rule=error.reason) from None


def _msgpack(body: bytes, status: int) -> Response[bytes]:
    return Response(body, status_code=status, media_type=codec.MSGPACK)
