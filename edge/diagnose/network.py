"""The way to the broker, a step at a time, each by itself: name, TCP, TLS, being let in, being given one's own."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from edge import web
from edge.config import Settings
from edge.diagnose.finding import Finding, failed, passed, skipped, warned
from edge.errors import EdgeError
from edge.identity.identity import Identity
from edge.link import Connected, Disconnected, Event, MqttLink, Received
from edge.machine import clock

STEP_SECONDS: Final = 10.0
Address = tuple[int, tuple[str, int]]


def check(
    identity: Identity, settings: Settings, topics: list[tuple[str, int]], *, clock_ok: bool, busy: bool
) -> list[Finding]:
    """Walk the way as far as it goes. `busy`: an agent holds the connection, so the last two steps are its word.

    Nothing is published, and the connection is ended in good order.
    """
    device = identity.device
    findings: list[Finding] = []
    addresses = _name(device.mqtt_host, device.mqtt_port, findings)
    reached = _tcp(addresses, findings) if addresses else None
    if reached is None:
        findings += [skipped(step, "no connection") for step in _STEPS[len(findings) :]]
    else:
        context = identity.tls(clock_ok=clock_ok)
        with reached:
            shaken = _tls(reached, context, device.mqtt_host, findings)
        if not shaken:
            findings += [skipped(step, "no TLS") for step in _STEPS[len(findings) :]]
        elif busy:
            why = "the running agent holds the connection; see what it says"
            findings += [skipped(step, why) for step in _STEPS[len(findings) :]]
        else:
            link = MqttLink(device.mqtt_host, device.mqtt_port, device.device_id, settings.keepalive_seconds)
            findings += _mqtt(link, context, topics)
    return [*findings, _hub(device.http_url)]


_STEPS: Final = ("broker name", "broker TCP", "broker TLS", "broker lets in", "broker gives")


def _name(host: str, port: int, findings: list[Finding]) -> list[Address]:
    found: list[Address] = []
    problem = [f"no answer within {STEP_SECONDS:g} s"]

    def ask() -> None:
        try:
            for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((int(family), (str(place[0]), port)))
        except (OSError, UnicodeError) as error:
            problem[0] = str(error)

    # The resolver knows no time limit of ours; one that hangs is left behind.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(STEP_SECONDS)
    addresses = list(found)
    if addresses:
        findings.append(passed("broker name", f"{host} is {addresses[0][1][0]}"))
    else:
        remedy = "Check the network cable, its address (ip addr) and the name server in /etc/resolv.conf."
        findings.append(failed("broker name", f"{host} has no address: {problem[0]}", remedy))
    return addresses


def _tcp(addresses: list[Address], findings: list[Finding]) -> socket.socket | None:
    problem = ""
    for _, place in addresses:
        try:
            reached = socket.create_connection(place, STEP_SECONDS)
        except OSError as error:
            problem = f"{place[0]} port {place[1]}: {error.strerror or error}"
        else:
            findings.append(passed("broker TCP", f"{place[0]} port {place[1]} answers"))
            return reached
    remedy = "Check that the broker runs, and that no firewall on the way closes its port."
    findings.append(failed("broker TCP", problem, remedy))
    return None


def _tls(reached: socket.socket, context: ssl.SSLContext, host: str, findings: list[Finding]) -> bool:
    try:
        with context.wrap_socket(reached, server_hostname=host) as secured:
            findings.append(passed("broker TLS", f"{secured.version()}, the hub's own CA"))
            return True
    except (OSError, ValueError) as error:
        remedy = (
            "Check the clock."
            if clock.blamed(error)
            else "Find out who answers there: it does not have a certificate of this fleet's CA for that name."
        )
        findings.append(failed("broker TLS", str(error), remedy))
        return False


def _mqtt(link: MqttLink, context: ssl.SSLContext, topics: list[tuple[str, int]]) -> list[Finding]:
    link.open(context)
    first = _next(link, lambda event: isinstance(event, Connected | Disconnected))
    if not isinstance(first, Connected):
        reason = first.reason if isinstance(first, Disconnected) else "no answer"
        link.drop("given up")
        remedy = "Ask an operator whether the device was revoked or deleted; otherwise enrol again with a new token."
        return [failed("broker lets in", reason, remedy), skipped("broker gives", "not let in")]
    findings = [passed("broker lets in", "as this device")]
    link.subscribe(topics)
    heard = _next(link, lambda event: isinstance(event, Received | Disconnected))
    if isinstance(heard, Received):
        findings.append(passed("broker gives", heard.topic))
    else:
        remedy = "Check that the hub runs and has hoisted, and the broker's access list for this device."
        findings.append(failed("broker gives", f"nothing that is retained within {STEP_SECONDS:g} s", remedy))
    link.close()
    return findings


def _next(link: MqttLink, wanted: Callable[[Event], bool]) -> Event | None:
    """Return the first event that is wanted, None when none came in time."""
    end = time.monotonic() + STEP_SECONDS
    with selectors.DefaultSelector() as selector:
        while time.monotonic() < end:
            for event in link.events():
                if wanted(event):
                    return event
            sock = link.socket()
            if sock is None:
                return next((event for event in link.events() if wanted(event)), None)
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
            selector.register(sock, mask)
            if not link.has_more():
                selector.select(max(0.0, end - time.monotonic()))
            # A socket that paho closed meanwhile is gone from the selector already.
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(sock)
            if link.wants_write:
                link.writable()
            link.readable()
    return None


def _hub(url: str) -> Finding:
    try:
        status, _ = web.request(
            "GET", f"{url.rstrip('/')}/health/live", tls=web.unchecked(), limit=65536, seconds=STEP_SECONDS
        )
    except EdgeError as error:
        remedy = "Bundles cannot come from the hub itself; mirrors may do. Nothing that runs here needs it."
        return warned("hub HTTP", str(error), remedy)
    if status == 200:
        return passed("hub HTTP", f"{url} answers")
    return warned("hub HTTP", f"{url} answers with {status}", "Ask an operator how the hub is.")
