"""The Litestar application, from services that somebody else built."""

from __future__ import annotations

import secrets
import time

import msgspec
import structlog
from litestar import Litestar
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hub.access.keys import ApiKeys
from hub.access.loginroutes import LoginController, SessionsController
from hub.access.logins import Logins
from hub.access.routes import ApiKeysController
from hub.artifacts.routes import ArtifactsController
from hub.artifacts.service import Artifacts
from hub.audit.routes import AuditController
from hub.auth import Authenticator, guard
from hub.bodies import StrictRequest
from hub.caller import Caller
from hub.deployment.catalogue import Catalogue
from hub.deployment.routes import DeploymentController, Observed, Reading
from hub.deployment.service import Deployment
from hub.governance.routes import ApprovalsController, ComplianceController, PoliciesController
from hub.governance.service import Governance
from hub.idempotency import Answers, Idempotency
from hub.live import LiveController
from hub.metrics import Metrics, MetricsController
from hub.ops.routes import FleetController, OpsController
from hub.problemdocs import ProblemDocs
from hub.problems import HANDLERS
from hub.recovery.routes import ChaosController, CommandsController, RecoveryController
from hub.recovery.service import Recovery
from hub.registry.authority import AuthorityRenewal
from hub.registry.caroutes import AuthorityController
from hub.registry.certificates import Certificates
from hub.registry.routes import RegistryController
from hub.registry.service import Registry
from hub.shared import Health, SharedController
from hub.signer import Signer
from hub.store import Store
from hub.streams import Streams
from hub.telemetry.intake import Intake
from hub.telemetry.posts import IntakeController
from hub.telemetry.routes import TelemetryController, TimelineController
from hub.throttle import Throttle
from hub.times import Clock

_log = structlog.get_logger("hub.http")
BODY_LIMIT = 1024 * 1024
"""Largest body in bytes of a route that says nothing else."""
_SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_QUIET = ("/health/live", "/health/ready")


class Services(msgspec.Struct, frozen=True):
    """Everything the routes use; the names are the names that handlers ask for."""

    store: Store
    signer: Signer
    api_keys: ApiKeys
    logins: Logins
    registry: Registry
    certificates: Certificates
    authority_renewal: AuthorityRenewal
    deployment: Deployment
    catalogue: Catalogue
    artifacts: Artifacts
    governance: Governance
    recovery: Recovery
    observed: Observed
    health: Health
    clock: Clock
    streams: Streams
    metrics: Metrics
    intake: Intake


class RequestId(ASGIMiddleware):
    """Gives every request an id, says it in the answer, counts it, and logs one line when it ends."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, services: Services) -> None:
        self._services = services

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Run the rest of the application under the id."""
        request_id = secrets.token_hex(8)
        scope["state"]["request_id"] = request_id
        begin, status = time.monotonic(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._services.metrics.requests.answered(scope, status, time.monotonic() - begin)
                message["headers"] = [*message["headers"], *_SECURE, (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            await next_app(scope, receive, tell)
            if scope["path"] not in _QUIET:
                milliseconds = round((time.monotonic() - begin) * 1000, 1)
                _log.info(
                    "request",
                    method=scope.get("method"),
                    path=scope["path"],
                    status=status,
                    ms=milliseconds,
                    **_named(scope),
                )


def _named(scope: Scope) -> dict[str, str]:
    """Return who asked, and which device and release the path names."""
    path = scope.get("path_params") or {}
    found = {key: path.get(f"{key}_id") for key in ("device", "release")}
    caller = scope["state"].get("caller")
    if isinstance(caller, Caller):
        found["actor"] = caller.name
    return {key: str(value) for key, value in found.items() if value}


def application(
    services: Services, authenticator: Authenticator, throttle: Throttle, *, version: str
) -> Litestar:
    """Return the whole HTTP side of the hub."""

    def provide(name: str) -> Provide:
        return Provide(lambda: getattr(services, name), sync_to_thread=False)

    def reading() -> Reading:
        return Reading(services.store, services.clock, services.observed)

    injected = {name: provide(name) for name in Services.__struct_fields__}
    injected["reading"] = Provide(reading, sync_to_thread=False)
    app = Litestar(
        route_handlers=[
            SharedController,
            ApiKeysController,
            LoginController,
            SessionsController,
            AuditController,
            RegistryController,
            AuthorityController,
            DeploymentController,
            ApprovalsController,
            PoliciesController,
            ComplianceController,
            ArtifactsController,
            RecoveryController,
            CommandsController,
            ChaosController,
            TelemetryController,
            IntakeController,
            TimelineController,
            LiveController,
            MetricsController,
            OpsController,
            FleetController,
        ],
        dependencies=injected,
        plugins=[ProblemDocs()],
        guards=[guard(authenticator, throttle)],
        request_class=StrictRequest,
        middleware=[
            Idempotency(Answers(lambda: services.store, lambda: services.clock.now()), authenticator)
        ],
        exception_handlers=HANDLERS,  # type: ignore[arg-type]
        openapi_config=OpenAPIConfig(
            title="Flaghoist",
            version=version,
            path="/docs",
            render_plugins=[JsonRenderPlugin(path="/openapi.json"), YamlRenderPlugin(path="/openapi.yaml")],
        ),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        debug=False,
    )
    # Around the router as well, so that requests for routes that do not exist have an id and a log line.
    app.asgi_handler = RequestId(services)(app.asgi_handler)
    return app
