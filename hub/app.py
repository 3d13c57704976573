"""The one place that builds the hub and takes it down again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
import structlog
import uvicorn
from nacl.signing import SigningKey

from hub import auth, config, jobs, trustroots
from hub.access.building import build_gate
from hub.access.gate import Gate
from hub.access.keys import ApiKeys
from hub.access.logins import Logins
from hub.access.oidc.http import Http
from hub.access.refusals import Refusals
from hub.access.settings import oidc
from hub.artifacts.files import BundleFiles
from hub.artifacts.service import Artifacts, Serving
from hub.audit.checkpoints import checkpoint_if_due
from hub.broker import hoister as hoisting
from hub.broker.abuse.connections import most_connections
from hub.broker.abuse.muting import Muting
from hub.broker.config import BrokerSettings
from hub.broker.credentials import Credentials, service_credentials
from hub.broker.doorkeeper import Doorkeeper
from hub.broker.evict import evict
from hub.broker.guard import Guard
from hub.broker.handon import hand_on
from hub.broker.ingest import Ingest, IngestSettings
from hub.broker.mosquitto import Mosquitto
from hub.caller import rule
from hub.deployment.catalogue import Catalogue
from hub.deployment.manifests import ensure_role
from hub.deployment.routes import Observed
from hub.deployment.service import Deployment
from hub.governance.service import Governance
from hub.http import Services, application
from hub.identity import keys
from hub.identity.ca import Authorities, open_authorities
from hub.identity.gateway import Gateways, networks
from hub.leader import Leader
from hub.metrics import Metrics, database, parts
from hub.prepare import prepare_types
from hub.pulse import Pulse
from hub.recovery.rules import Limits
from hub.recovery.service import Recovery
from hub.recovery.watch import Watch
from hub.registry import revoked
from hub.registry.authority import AuthorityRenewal
from hub.registry.certificates import Certificates, Terms
from hub.registry.service import Endpoints, Registry
from hub.rekey import sign_again_if_due, sign_again_if_moved
from hub.shared import Health
from hub.signer import MANIFEST_LIFETIME_MS, Signer
from hub.silence import Silence
from hub.store import SqliteStore, Store
from hub.streams import Streams
from hub.telemetry.intake import Intake
from hub.telemetry.retention import Keep
from hub.telemetry.sinks import Lines, Loki, Ndjson, Sink
from hub.telemetry.sinks.loki import roles
from hub.telemetry.thinning import Thinning
from hub.throttle import Throttle
from hub.times import Clock, now_ms, zones
from topics.channels import Principal

_log = structlog.get_logger("hub")
STOP_S = 5
DATABASE = "hub.db"


class Server(uvicorn.Server):
    """uvicorn inside our own loop, where signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leave signals to whoever runs the loop."""
        yield


@asynccontextmanager
async def running(settings: config.Settings) -> AsyncIterator[config.Settings]:
    """Run the whole hub; yields the settings with the ports that were chosen. Raises `SetupError`."""
    prepare_types()
    async with AsyncExitStack() as stack:
        lock = config.open_data(settings.data)
        stack.callback(os.close, lock)
        store = SqliteStore(settings.data / DATABASE)
        stack.callback(store.close)
        # What was cancelled may still be reading on a worker thread, and must not lose its connection to `close`.
        stack.push_async_callback(asyncio.get_running_loop().shutdown_default_executor)
        fleet = config.fleet_name(store, settings.fleet)
        auth.ensure_admin(store, settings.data / "admin.token", now_ms())
        authorities = open_authorities(settings.data / "ca", fleet, now=now_ms() // 1000)
        signer = Signer(fleet, _deployment_key(settings))
        listener = config.listen(settings.http, config.number(store, "http_port"))
        stack.callback(listener.close)
        guard, muting = Guard(store, authorities, now_ms), Muting(store, now_ms)
        stack.callback(guard.stop)
        broker = await stack.enter_async_context(_broker(settings, store, authorities, guard, muting))
        await _background(stack, muting.run(broker.reload), "muting")
        chosen = _chosen(settings, store, listener, broker)
        await _services(stack, chosen, store, signer, authorities, listener, broker, muting)
        yield chosen


def _deployment_key(settings: config.Settings) -> SigningKey:
    folder = settings.data / "keys"
    path = folder / "deployment.key"
    if not path.exists():
        folder.mkdir(exist_ok=True, mode=0o700)
        keys.save(folder, "deployment", keys.generate())
    return keys.load_private(path)


def _broker(
    settings: config.Settings, store: Store, authorities: Authorities, guard: Guard, muting: Muting
) -> Mosquitto:
    public_host = settings.public_mqtt.rpartition(":")[0] or settings.mqtt.host
    broker = Mosquitto(
        BrokerSettings(
            folder=settings.data / "broker",
            fleet=settings.fleet,
            host=settings.mqtt.host,
            device_port=settings.mqtt.port or config.port_again(store, "mqtt_port", settings.mqtt.host),
            service_port=config.port_again(store, "service_port", "127.0.0.1"),
            hosts=() if public_host in ("0.0.0.0", "::") else (public_host,),  # noqa: S104
            max_connections=most_connections(),
        ),
        authorities,
        now=lambda: now_ms() // 1000,
        revoked=lambda: [one.serial for one in revoked.withdrawn(store, now_ms())],
        muted=muting.muted,
        is_withdrawn=lambda client: revoked.is_shut_out(store, client),
        on_intruder=lambda client, why: guard.offended(client, why, broker.device_port),
    )
    return broker


def _chosen(
    settings: config.Settings, store: Store, listener: socket.socket, broker: Mosquitto
) -> config.Settings:
    """Return the settings with real ports, which are kept for the next start: devices were told them."""
    http = config.Address(settings.http.host, listener.getsockname()[1])
    mqtt = config.Address(settings.mqtt.host, broker.device_port)
    config.remember(store, "http_port", str(http.port))
    config.remember(store, "mqtt_port", str(mqtt.port))
    config.remember(store, "service_port", str(broker.service_port))
    return msgspec.structs.replace(
        settings,
        http=http,
        mqtt=mqtt,
        public_http=(settings.public_http or f"http://{http}").rstrip("/"),
        public_mqtt=settings.public_mqtt or str(mqtt),
    )


async def _services(
    stack: AsyncExitStack,
    settings: config.Settings,
    store: Store,
    signer: Signer,
    authorities: Authorities,
    listener: socket.socket,
    broker: Mosquitto,
    muting: Muting,
) -> None:
    sources = [*settings.mirrors.split(), settings.public_http + "/artifacts/{role}/{release}/bundle"]
    mqtt = config.parse_address(settings.public_mqtt)
    lines = _lines(settings, store)
    lines.start()
    stack.push_async_callback(asyncio.to_thread, lines.stop)
    ingest = _ingest(settings, store, authorities, broker, lines, muting)

    def observed_since() -> int:
        return ingest.observed_since

    deployment = Deployment(store, signer, sources, now_ms, observed_since, zones)
    registry = Registry(
        store,
        signer,
        authorities,
        Endpoints(mqtt.host, mqtt.port, settings.public_http, settings.update_interval),
        config.secret(store, "nonce_secret"),
        lambda tx, role, now: ensure_role(tx, signer, role, sources, now),
        now_ms,
        settings.certificate_days,
    )
    authority_renewal = AuthorityRenewal(store, authorities, registry, broker.reload, broker.restart, now_ms)
    sign_again_if_due(store, signer, deployment, registry)
    sign_again_if_moved(store, signer, deployment, sources)
    _issue(settings, authorities)
    credentials = _credentials(settings, authorities, Principal.HOISTER.value)
    hoister = hoisting.Hoister(
        store,
        signer.fleet,
        lambda: hoisting.client("127.0.0.1", broker.service_port, credentials.context()),
    )
    leader = Leader(store, deployment, Watch(store, signer, now_ms, _limits(settings)), observed_since)
    streams = Streams(store)
    streams.start()
    doorkeeper = Doorkeeper(
        lambda: revoked.last(store),
        lambda n: [one.device_id for one in revoked.withdrawn(store, now_ms()) if one.n > n],
        broker.reload,
        lambda device_id: evict(authorities, device_id, port=broker.device_port, now=now_ms() // 1000),
    )
    pulse = Pulse(store, signer.fleet, hoister, streams, observed_since)
    for listener_of_commits in (hoister.wake, leader.wake, pulse.wake, streams.wake, doorkeeper.wake):
        store.on_commit(listener_of_commits)
    health = Health(
        {
            "broker": lambda: broker.problem,
            "ingest": lambda: ingest.problem,
            "hoister": lambda: hoister.problem,
            "leader": lambda: leader.problem,
            "doorkeeper": lambda: doorkeeper.problem,
            "root": lambda: _root_problem(store, signer),
        }
    )
    intake = Intake(store, signer.fleet, now_ms, partial(hand_on, lines))
    thinning = Thinning(
        store,
        Keep(hourly=settings.keep_hourly, daily=settings.keep_daily, reports=settings.keep_reports),
        now_ms,
    )
    gate = _gate(stack, settings, store)
    metrics = Metrics()
    metrics.add("build", parts.build(version("flaghoist"), signer.fleet))
    metrics.add("ingest", parts.ingest({"ingest-0": ingest}, now_ms))
    metrics.add("broker", parts.broker(broker))
    metrics.add("hoister", parts.hoister(hoister))
    metrics.add("leader", parts.leader(leader))
    metrics.add("streams", parts.streams(streams))
    metrics.add("sinks", parts.sinks(lines.sinks))
    metrics.add("intake", parts.intake(intake))
    metrics.add("thinning", parts.thinning(thinning))
    metrics.add("store", database.store(store, settings.data / DATABASE))
    metrics.add("rollouts", database.rollouts(store, now_ms, observed_since))
    metrics.add("devices", database.devices(store, now_ms))
    artifacts = Artifacts(
        store,
        BundleFiles(settings.data / "artifacts"),
        now_ms,
        Serving(
            fleet=signer.fleet,
            public_url=settings.public_http,
            secret=config.secret(store, "url_secret"),
            max_bundle=settings.max_bundle,
            bytes_per_second=settings.download_rate,
            rollbacks=settings.keep_rollbacks,
        ),
    )
    governance = Governance(store, signer.fleet, zones, now_ms)
    services = Services(
        store=store,
        signer=signer,
        api_keys=ApiKeys(store, now_ms),
        logins=Logins(gate, Refusals(store, now_ms), config.secret(store, "login_secret"), now_ms),
        registry=registry,
        certificates=Certificates(
            store,
            signer,
            authorities,
            now_ms,
            Terms(days=settings.certificate_days, expired_days=settings.renew_expired),
        ),
        authority_renewal=authority_renewal,
        deployment=deployment,
        catalogue=Catalogue(store, signer, sources, now_ms),
        artifacts=artifacts,
        governance=governance,
        recovery=Recovery(store, signer, now_ms, chaos=settings.chaos),
        observed=Observed(observed_since, signer.fleet, zones),
        health=health,
        clock=Clock(now_ms),
        streams=streams,
        metrics=metrics,
        intake=intake,
    )
    ingest.start()
    stack.push_async_callback(asyncio.to_thread, ingest.stop)
    await _background(stack, hoister.run(), "hoister")
    await _background(stack, leader.run(), "leader")
    await _background(stack, pulse.run(), "pulse")
    await _background(stack, doorkeeper.run(), "doorkeeper")
    silence = Silence(store, now_ms, observed_since)
    stack.callback(thinning.stop)
    stack.callback(silence.stop)
    scheduler = jobs.schedule(
        tick=leader.wake,
        watch=silence.look_if_due,
        thin=thinning.run,
        refresh=lambda: _hourly(store, signer, deployment, artifacts, governance, authority_renewal),
        renew=lambda: _renew(settings, authorities, broker),
    )
    scheduler.start()
    stack.callback(scheduler.shutdown, wait=False)
    authenticator = auth.Authenticator(store, signer.fleet, now_ms, gate)
    authenticator.gateways = Gateways(networks(settings.gateway), store, authorities, now_ms)
    app = application(
        services,
        authenticator,
        Throttle(settings.request_limit),
        version=version("flaghoist"),
    )
    server = Server(http_config(app))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    stack.push_async_callback(_stop_server, server, serving, streams)
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)


def http_config(app: Any) -> uvicorn.Config:
    """Return how the API is served. No header of a proxy is believed: what is told of addresses is `--public-http`."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=STOP_S,
        proxy_headers=False,
    )


def _limits(settings: config.Settings) -> Limits:
    return Limits(
        failures=settings.quarantine_failures,
        drift_hours=settings.quarantine_drift_hours,
        restarts=settings.quarantine_restarts,
        storm_percent=settings.quarantine_storm,
    )


def _ingest(
    settings: config.Settings,
    store: Store,
    authorities: Authorities,
    broker: Mosquitto,
    lines: Lines,
    muting: Muting,
) -> Ingest:
    slot = IngestSettings(settings.fleet, broker.service_port)
    credentials = _credentials(settings, authorities, slot.name)
    return Ingest(
        store,
        slot,
        credentials,
        now=now_ms,
        on_arrivals=partial(hand_on, lines),
        on_flood=muting.flooded,
    )


def _credentials(settings: config.Settings, authorities: Authorities, name: str) -> Credentials:
    return service_credentials(settings.data / "services", authorities.service, name, now=now_ms() // 1000)


def _gate(stack: AsyncExitStack, settings: config.Settings, store: Store) -> Gate | None:
    provider = oidc(settings, settings.public_http)
    if provider is None:
        return None
    ask = Http()
    stack.callback(ask.close)
    lives = (settings.session_idle, settings.session_life)
    gate = build_gate(store, provider, ask, settings.public_http, lives, now_ms)
    stack.callback(gate.close)
    return gate


def _lines(settings: config.Settings, store: Store) -> Lines:
    def role_of(device_id: str) -> str | None:
        with store.read() as tx:
            row = tx.one("SELECT role FROM devices WHERE device_id = :id", {"id": device_id})
        return str(row["role"]) if row else None

    sinks: list[Sink] = []
    if settings.lines:
        sinks.append(Ndjson(settings.data / "lines", now=now_ms))
    if settings.loki:
        sinks.append(Loki(settings.loki, fleet=settings.fleet, role_of=roles(role_of)))
    return Lines(sinks)


def _root_problem(store: Store, signer: Signer) -> str:
    with store.read() as tx:
        return trustroots.problem(tx, signer)


def _hourly(
    store: Store,
    signer: Signer,
    deployment: Deployment,
    artifacts: Artifacts,
    governance: Governance,
    authority_renewal: AuthorityRenewal,
) -> None:
    governance.keep_day_if_due()
    checkpoint_if_due(store, signer, now_ms())
    artifacts.prune(rule("retention"))
    deployment.refresh(rule("refresh"), before=now_ms() + MANIFEST_LIFETIME_MS // 2)
    authority_renewal.look()


def _renew(settings: config.Settings, authorities: Authorities, broker: Mosquitto) -> None:
    _issue(settings, authorities)
    broker.reload()


def _issue(settings: config.Settings, authorities: Authorities) -> None:
    """Make or renew the certificate of every service, those of dashboards included."""
    for names in BrokerSettings(settings.data / "broker", settings.fleet).services.values():
        for name in names:
            _credentials(settings, authorities, name)


async def _background(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_death)
    stack.push_async_callback(_cancel, task)


def _tell_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("a part of the hub died", part=task.get_name(), exc_info=task.exception())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _stop_server(server: Server, serving: asyncio.Task[None], streams: Streams) -> None:
    streams.close()
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await serving
