"""`flaghoist-hub`: run the hub."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog

from hub import config, usage
from hub.access.settings import people_options
from hub.artifacts.limits import MAX_BUNDLE
from hub.artifacts.retention import ROLLBACKS
from hub.errors import SetupError
from hub.logs import configure
from hub.recovery.rules import Limits
from hub.registry.certificates import Terms
from hub.telemetry.retention import LEAST_DAYS, Keep
from hub.throttle import REQUESTS

EXIT_SETUP = 3
_ADDRESS = "HOST:PORT"
_DAYS = click.IntRange(LEAST_DAYS, 36_500)


def main() -> None:
    """Entry point of the console command."""
    usage.run(cli, "flaghoist-hub")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("flaghoist"), prog_name="flaghoist-hub")
def cli() -> None:
    """Run the hub of a fleet: broker, ingest, rollouts and the HTTP API.

    Exit codes: 0 stopped in good order, 2 wrong usage, 3 this machine is not ready (a missing program, a
    port in use, a data directory that cannot be used).
    """


@cli.command()
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder for all that the hub keeps."
)
@click.option("--fleet", default="fleet", show_default=True, help="Name of the fleet; chosen once.")
@click.option(
    "--http", default="127.0.0.1:8080", show_default=True, metavar=_ADDRESS, help="Where the API listens."
)
@click.option(
    "--mqtt", default="127.0.0.1:8883", show_default=True, metavar=_ADDRESS, help="Where devices connect."
)
@click.option("--public-http", default="", metavar="URL", help="How devices reach the API, if otherwise.")
@click.option(
    "--public-mqtt", default="", metavar=_ADDRESS, help="How devices reach the broker, if otherwise."
)
@click.option(
    "--update-interval",
    default=300,
    show_default=True,
    type=click.IntRange(5, 604_800),
    help="Seconds between heartbeats of new devices.",
)
@click.option(
    "--lines/--no-lines", default=True, show_default=True, help="Keep raw reports in files, 1 GiB at most."
)
@click.option("--loki", default="", metavar="URL", help="Push raw reports to this Loki as well.")
@click.option(
    "--keep-hourly",
    default=Keep().hourly,
    show_default=True,
    type=_DAYS,
    help="Days for which hourly rollups are kept.",
)
@click.option(
    "--keep-daily",
    default=Keep().daily,
    show_default=True,
    type=_DAYS,
    help="Days for which daily rollups are kept.",
)
@click.option(
    "--keep-reports",
    default=Keep().reports,
    show_default=True,
    type=_DAYS,
    help="Days for which durable reports are kept.",
)
@click.option(
    "--mirrors",
    default="",
    metavar="URLS",
    help="Where devices fetch bundles first: URL templates with {role} and {release}, separated by spaces.",
)
@click.option(
    "--max-bundle",
    default=MAX_BUNDLE,
    show_default=True,
    type=click.IntRange(1, MAX_BUNDLE),
    help="Largest bundle that is taken in, in bytes.",
)
@click.option(
    "--download-rate",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Ceiling of all downloads together, in bytes a second; 0 for none.",
)
@click.option(
    "--keep-rollbacks",
    default=ROLLBACKS,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Rollbacks one after another whose bundles are kept.",
)
@click.option(
    "--quarantine-failures",
    default=Limits().failures,
    show_default=True,
    type=click.IntRange(0, 100),
    help="Activations in a row that fail before a device is held back; 0 for never.",
)
@click.option(
    "--quarantine-drift-hours",
    default=Limits().drift_hours,
    show_default=True,
    type=click.IntRange(0, 8_760),
    help="Hours a drift may stay before a device is held back; 0 for ever.",
)
@click.option(
    "--quarantine-restarts",
    default=Limits().restarts,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Restarts of its service within an hour before a device is held back; 0 for any number.",
)
@click.option(
    "--quarantine-storm",
    default=Limits().storm_percent,
    show_default=True,
    type=click.IntRange(0, 100),
    help="Percent of a role held back within an hour that are an alert; 0 for none.",
)
@click.option(
    "--request-limit",
    default=REQUESTS,
    show_default=True,
    type=click.IntRange(0, 10_000_000),
    help="Requests a minute of one operator, device or unknown address; 0 for any number.",
)
@click.option(
    "--certificate-days",
    default=Terms().days,
    show_default=True,
    type=click.IntRange(1, 3_650),
    help="Days for which certificates of devices are made.",
)
@click.option(
    "--renew-expired",
    default=Terms().expired_days,
    show_default=True,
    type=click.IntRange(0, 3_650),
    help="Days after its end in which a certificate is still renewed by the device's key.",
)
@people_options
@click.option(
    "--gateway",
    default="",
    metavar="NETWORKS",
    help="Whose header Client-Cert names a device: addresses or networks of gateways, separated by spaces.",
)
@click.option(
    "--chaos/--no-chaos",
    default=False,
    show_default=True,
    help="Let admins make updates fail, for tests on a fleet that is meant for it.",
)
def up(
    data: Path,
    fleet: str,
    http: str,
    mqtt: str,
    public_http: str,
    public_mqtt: str,
    update_interval: int,
    lines: bool,
    loki: str,
    keep_hourly: int,
    keep_daily: int,
    keep_reports: int,
    mirrors: str,
    max_bundle: int,
    download_rate: int,
    keep_rollbacks: int,
    quarantine_failures: int,
    quarantine_drift_hours: int,
    quarantine_restarts: int,
    quarantine_storm: int,
    request_limit: int,
    certificate_days: int,
    renew_expired: int,
    gateway: str,
    chaos: bool,
    **people: Any,
) -> None:
    """Run everything on one machine, Mosquitto included, until SIGTERM or Ctrl-C.

    Port 0 takes a free port at the first start and the same one, if it is free, ever after.
    """
    configure()
    os.umask(0o077)  # the database holds secrets, whatever the folder's own mode
    try:
        if str(data) in ("", "."):
            raise SetupError("--data must name a folder of the hub's own, for instance --data ./hub.")
        settings = config.Settings(
            data=data.absolute(),
            fleet=fleet,
            http=config.parse_address(http),
            mqtt=config.parse_address(mqtt),
            public_http=config.check_public_http(public_http),
            public_mqtt=config.check_public_mqtt(public_mqtt),
            update_interval=update_interval,
            lines=lines,
            loki=config.check_loki(loki),
            keep_hourly=keep_hourly,
            keep_daily=keep_daily,
            keep_reports=keep_reports,
            mirrors=config.check_mirrors(mirrors),
            max_bundle=max_bundle,
            download_rate=download_rate,
            keep_rollbacks=keep_rollbacks,
            quarantine_failures=quarantine_failures,
            quarantine_drift_hours=quarantine_drift_hours,
            quarantine_restarts=quarantine_restarts,
            quarantine_storm=quarantine_storm,
            request_limit=request_limit,
            certificate_days=certificate_days,
            renew_expired=renew_expired,
            gateway=config.check_gateway(gateway),
            chaos=chaos,
            **people,
        )
        asyncio.run(_serve(settings))
    except SetupError as error:
        click.echo(f"flaghoist-hub: {error}", err=True)
        sys.exit(EXIT_SETUP)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        click.echo(f"flaghoist-hub: The system refused{where}: {error.strerror or error}.", err=True)
        sys.exit(EXIT_SETUP)


async def _serve(settings: config.Settings) -> None:
    from hub.app import running

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as chosen:
        click.echo(f"API       {chosen.public_http}   (Ops page at /, OpenAPI at /docs/openapi.json)")
        click.echo(f"devices   mqtts://{chosen.public_mqtt}")
        click.echo(f"token     {chosen.data / 'admin.token'}")
        sys.stdout.flush()
        structlog.get_logger("hub").info(
            "up", http=str(chosen.http), mqtt=str(chosen.mqtt), fleet=chosen.fleet
        )
        await stop.wait()
        structlog.get_logger("hub").info("stopping")
