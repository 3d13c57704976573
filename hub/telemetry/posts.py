"""HTTP of the intake; thin."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Controller, Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from hub.problems import problem
from hub.telemetry.intake import Intake
from topics import codec
from topics.channels import (
    COMMAND_RESULT,
    DRIFT,
    LOG,
    PRESENCE,
    RECOVERY,
    STATUS,
    UPDATE_RESULT,
    UPLINK_LIMIT,
    Channel,
)
from topics.heard import HEADER

AnyRequest = Request[Any, Any, State]


class IntakeController(Controller):
    """`POST /telemetry/…`: reports of devices that cannot use MQTT."""

    path = "/telemetry"
    tags = ["telemetry"]  # noqa: RUF012  (litestar reads it from the class)
    request_max_body_size = UPLINK_LIMIT

    @post("/status", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def status(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in a heartbeat; 204, with a word that tells a device whether there is anything new to ask for."""
        answer = await _take(request, intake, STATUS)
        if answer.status_code == HTTPStatus.NO_CONTENT:
            answer.headers[HEADER] = await asyncio.to_thread(intake.documents, request.state.caller.name)
        return answer

    @post("/update-results", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def update_results(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in one step of an update; answers with the receipt."""
        return await _take(request, intake, UPDATE_RESULT)

    @post("/drift", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def drift(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in what a check for drift found; answers with the receipt."""
        return await _take(request, intake, DRIFT)

    @post("/recovery", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def recovery(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in an entry to or leave from safe mode; answers with the receipt."""
        return await _take(request, intake, RECOVERY)

    @post("/command-results", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def command_results(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in what became of a command; answers with the receipt."""
        return await _take(request, intake, COMMAND_RESULT)

    @post("/presence", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def presence(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Take in that the device is online, asleep until it wakes, or leaves; 204."""
        return await _take(request, intake, PRESENCE)

    @post("/logs", opt={"access": "device-only"}, status_code=HTTP_200_OK)
    async def logs(self, request: AnyRequest, intake: NamedDependency[Intake]) -> Response[Any]:
        """Hand on log lines to the sinks; 204."""
        return await _take(request, intake, LOG)


async def _take(request: AnyRequest, intake: Intake, channel: Channel) -> Response[Any]:
    body = await request.body()
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower() or None
    taken = await asyncio.to_thread(intake.take, request.state.caller.name, channel, body, content_type)
    if taken.refusal is not None:
        extra = {} if taken.receipt is None else {"receipt": msgspec.to_builtins(taken.receipt)}
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        detail = f"The report cannot be taken in: {taken.refusal.detail}."
        return problem(status, "Invalid content", detail, rule=taken.refusal.reason, **extra)
    if taken.receipt is None:
        return Response(None, status_code=HTTPStatus.NO_CONTENT)
    kind = codec.sniff(body, content_type)
    return Response(codec.encode(taken.receipt, kind), media_type=kind)
