"""The way to the broker, a step at a time, each by itself: name, TCP, TLS, being let in, being given and giving."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge import web
from edge.config import Settings
from edge.diagnose.finding import Finding, failed, passed, skipped, warned
from edge.errors import EdgeError, NotReady
from edge.identity.identity import Identity
from edge.link import Connected, Disconnected, Event, MqttLink, Published, Received
from edge.machine import clock
from edge.polling import answers
from edge.polling.exchange import Client
from edge.polling.frames import Ask
from topics import codec
from topics.channels import BY_NAME, MANIFEST_LIMIT
from topics.messages import Boot, Log, LogLine

STEP_SECONDS: Final = 10.0
STEPS: Final = (
    "broker name",
    "broker TCP",
    "broker TLS",
    "broker lets in",
    "broker gives",
    "broker takes",
    "broker refuses",
)
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Way:
    """Whom to reach and as whom. `busy`: an agent holds the connection, so what needs one is left to it.
    `https`: the device lives on HTTPS, so it is the hub that must answer, and the broker that need not.

    `seconds` limits each step; `at` (s) and `boot` stand in the one log line that is sent.
    """

    identity: Identity
    settings: Settings
    topics: list[tuple[str, int]]
    clock_ok: bool
    busy: bool
    boot: Boot
    at: int
    seconds: float = STEP_SECONDS
    https: bool = False


def check(way: Way) -> list[Finding]:
    """Walk the way as far as it goes. The connection is ended in good order."""
    device = way.identity.device
    findings: list[Finding] = []
    addresses = _name(way, findings)
    reached = _tcp(way, addresses, findings) if addresses else None
    if reached is None:
        why = "no connection"
    else:
        with reached:
            context = _context(way, findings)
            shaken = context is not None and _tls(reached, context, device.mqtt_host, findings)
        why = "the running agent holds the connection; see what it says" if shaken else "no TLS"
        if context is not None and shaken and not way.busy:
            _mqtt(way, context, findings)
            why = "not let in"
    findings += [skipped(step, why) for step in STEPS[len(findings) :]]
    if way.https:
        return [*map(_borne, findings), _lets_in(way)]
    return [*findings, _hub(way)]


def _borne(finding: Finding) -> Finding:
    remedy = "The device lives on HTTPS; nothing is to be done, unless MQTT is wanted."
    return warned(finding.check, finding.detail, remedy) if finding.level == "fail" else finding


def _lets_in(way: Way) -> Finding:
    """Ask the hub for what is this device's own, as the agent does."""
    device = way.identity.device
    try:
        client = Client(way.identity, way.seconds)
    except EdgeError as error:
        return failed("hub HTTP", str(error), "Enrol again with the URL of the hub.")
    own = Ask(f"/devices/{device.device_id}/desired", MANIFEST_LIMIT, clock_ok=way.clock_ok)
    with contextlib.closing(client):
        answer = client.answer(own)
    if reason := answers.broken(answer, posted=False):
        remedy = (
            "Ask an operator whether the device was revoked or deleted, and how the hub is; if nobody answers, check"
            " the network and its proxy (https_proxy)."
        )
        return failed("hub HTTP", reason, remedy)
    return passed("hub HTTP", f"{device.http_url} answers, and lets this device in")


def _name(way: Way, findings: list[Finding]) -> list[Address]:
    host, port = way.identity.device.mqtt_host, way.identity.device.mqtt_port
    found: list[Address] = []
    problem = [f"no answer within {way.seconds:g} s"]

    def ask() -> None:
        try:
            for _, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((str(place[0]), port))
        except (OSError, UnicodeError) as error:
            problem[0] = str(error)

    # The resolver knows no time limit of ours; one that hangs is left behind.
    asking = threading.Thread(target=ask, daemon=True)
    try:
        asking.start()
        asking.join(way.seconds)
    except RuntimeError as error:  # so few processes are allowed, or so little memory is left
        problem[0] = str(error)
    addresses = list(found)
    if addresses:
        findings.append(passed("broker name", f"{host} is {addresses[0][0]}"))
    else:
        remedy = "Check the network cable, its address (ip addr) and the name server in /etc/resolv.conf."
        findings.append(failed("broker name", f"{host} has no address: {problem[0]}", remedy))
    return addresses


def _tcp(way: Way, addresses: list[Address], findings: list[Finding]) -> socket.socket | None:
    problem = ""
    for place in addresses:
        try:
            reached = socket.create_connection(place, way.seconds)
        except OSError as error:
            problem = f"{place[0]} port {place[1]}: {error.strerror or error}"
        else:
            findings.append(passed("broker TCP", f"{place[0]} port {place[1]} answers"))
            return reached
    remedy = "Check that the broker runs, and that no firewall on the way closes its port."
    findings.append(failed("broker TCP", problem, remedy))
    return None


def _context(way: Way, findings: list[Finding]) -> ssl.SSLContext | None:
    try:
        return way.identity.tls(clock_ok=way.clock_ok)
    except NotReady as error:
        remedy = "Enrol again with a new token; key, role and segment stay."
        findings.append(failed("broker TLS", str(error), remedy))
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


def _mqtt(way: Way, context: ssl.SSLContext, findings: list[Finding]) -> None:
    device = way.identity.device
    link = MqttLink(device.mqtt_host, device.mqtt_port, device.device_id, way.settings.keepalive_seconds)
    link.open(context)
    first = _next(link, way.seconds, lambda event: isinstance(event, Connected | Disconnected))
    if not isinstance(first, Connected):
        reason = first.reason if isinstance(first, Disconnected) else "no answer"
        link.drop("given up")
        remedy = "Ask an operator whether the device was revoked or deleted; otherwise enrol again with a new token."
        findings.append(failed("broker lets in", reason, remedy))
        return
    findings.append(passed("broker lets in", "as this device"))
    link.subscribe(way.topics)
    heard = _next(link, way.seconds, lambda event: isinstance(event, Received | Disconnected))
    if isinstance(heard, Received):
        findings.append(passed("broker gives", heard.topic))
    else:
        remedy = "Check that the hub runs and has hoisted, and the broker's access list for this device."
        findings.append(failed("broker gives", f"nothing that is retained within {way.seconds:g} s", remedy))
    findings += [_takes(way, link), _refuses(way, link)]
    link.close()


def _takes(way: Way, link: MqttLink) -> Finding:
    """Whether a report would be taken: a log line is one that the hub loses nothing by."""
    line = LogLine(
        at=way.at, text="flaghoist-edge diagnose asks whether reports are taken", source="diagnose"
    )
    code = _publish(way, link, "log", codec.encode(Log(boot=way.boot, at=way.at, lines=[line])))
    if code is not None and code < 0x80:
        return passed("broker takes", "a log line on the device's own topic")
    found = "no answer" if code is None else f"the log line is refused (0x{code:02x})"
    remedy = "Check the broker's access list: this device must be able to write below its own up/."
    return failed("broker takes", found, remedy)


def _refuses(way: Way, link: MqttLink) -> Finding:
    """Whether what is not the device's to write is refused: its own receipts, which nobody else would hear."""
    code = _publish(way, link, "receipt", b"\x80")
    if code is not None and code >= 0x80:
        return passed("broker refuses", f"what is the hub's to say (0x{code:02x})")
    found = "no answer" if code is None else "this device may write what only the hub may say"
    remedy = (
        "The broker's access list is not the one that the hub renders; put that back before anything else."
    )
    return failed("broker refuses", found, remedy)


def _publish(way: Way, link: MqttLink, channel: str, body: bytes) -> int | None:
    """Return the broker's answer to one message, None when none came."""
    device = way.identity.device
    topic = BY_NAME[channel].topic(device.fleet, id=device.device_id)
    mid = link.publish(topic, body, qos=1, retain=False)
    answer = _next(
        link,
        way.seconds,
        lambda event: isinstance(event, Disconnected) or (isinstance(event, Published) and event.mid == mid),
    )
    return answer.reason_code if isinstance(answer, Published) else None


def _next(link: MqttLink, seconds: float, wanted: Callable[[Event], bool]) -> Event | None:
    """Return the first event that is wanted, None when none came in time."""
    end = time.monotonic() + seconds
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


def _hub(way: Way) -> Finding:
    url = way.identity.device.http_url
    try:
        status, _ = web.request(
            "GET", f"{url.rstrip('/')}/health/live", tls=web.unchecked(), limit=65536, seconds=way.seconds
        )
    except EdgeError as error:
        remedy = "Bundles cannot come from the hub itself; mirrors may do. Nothing that runs here needs it."
        return warned("hub HTTP", str(error), remedy)
    if status == 200:
        return passed("hub HTTP", f"{url} answers")
    return warned("hub HTTP", f"{url} answers with {status}", "Ask an operator how the hub is.")
