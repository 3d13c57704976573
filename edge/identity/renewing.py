"""Renewing the device's certificate: asked for by its key, believed by the deployment key, put in place in one step.

Runs in the update process. Afterwards the hub is asked once more: that tells it what this device holds.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Final

from edge.config import Paths
from edge.identity import certificate, identity, renewal, roots
from edge.identity.identity import Identity
from edge.identity.renewal import Held
from edge.machine import clock
from edge.machine.clock import SystemClock
from edge.polling.exchange import Client
from edge.polling.frames import Answer, Ask
from edge.storage import memory
from topics import codec, trust
from topics.errors import TrustError
from topics.renewal import CertificateRequest

MOST: Final = 3
"""Requests of one renewal: for the certificate, to tell that it is in place, and one more if the hub had news again."""

log = logging.getLogger("flaghoist")


def fetch(
    paths: Paths,
    system: SystemClock,
    *,
    answer: Callable[[Ask], Answer] | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> None:
    """Renew what was asked for, if anything was, and note what came of it. No failure of it hinders an update."""
    if not renewal.is_asked(paths):
        return
    try:
        problem = _renew(paths, system, answer, entropy)
    except OSError as error:
        problem = f"it cannot be read or written: {error.strerror or error}"
    if problem:
        log.warning("the certificate is not renewed: %s", problem)
    try:
        renewal.done(paths, problem)
    except OSError as error:
        log.warning("what came of it cannot be written down: %s", error.strerror or error)


def _renew(
    paths: Paths,
    system: SystemClock,
    answer: Callable[[Ask], Answer] | None,
    entropy: Callable[[int], bytes],
) -> str:
    """Return why the certificate could not be renewed, "" when it is as the hub wants it."""
    who, known = Identity(paths), memory.need(paths)
    ask = answer or Client(who).answer
    for _ in range(MOST):
        nonce = entropy(32)
        try:
            held = renewal.held(who.folder)
        except ValueError as error:
            return f"the certificate in {who.folder} cannot be read ({error}); run flaghoist-edge enrol again"
        request = CertificateRequest(nonce=nonce, certificate=held.sha256, cas=list(held.cas))
        told = ask(
            Ask(
                path=f"/devices/{who.device.device_id}/certificate",
                limit=trust.CREDENTIALS_LIMIT,
                body=codec.encode(request),
                clock_ok=clock.judge(known.trust, system.wall()).ok,
            )
        )
        if told.status == 204:
            return ""
        if told.status != 200:
            return told.problem or f"the hub refuses: {_detail(told)}"
        try:
            given = trust.accept_credentials(known.trust, who.device.device_id, told.body, nonce)
        except TrustError as error:
            if error.check == "deployment_threshold":
                # Signed by a key of a later root, perhaps: those are fetched before the next try.
                roots.ask(paths, known.trust.root.version)
            return f"the hub's answer is refused by check {error.check}: {error.detail}"
        if problem := _install(paths, who, held, given.certificate_pem, given.ca_pem):
            return problem
    return ""


def _install(paths: Paths, who: Identity, held: Held, certificate_pem: str, ca_pem: str) -> str:
    """Put credentials in place in one step; return why they cannot be. Raises `OSError`."""
    try:
        own, cas = certificate.ders(certificate_pem)[0], renewal.hashes(ca_pem)
        _, end = certificate.dates(own)
    except ValueError:
        return "the hub's answer holds no certificate"
    if not identity.holds_key(own, bytes(who.key.verify_key)):
        return "the certificate that the hub gave is not over this device's key"
    identity.write(
        paths,
        who.device,
        seed=bytes(who.key),
        certificate_pem=certificate_pem,
        ca_pem=ca_pem,
        unique=identity.unique(),
    )
    log.info("the certificate was renewed; it is valid until %s", f"{end:%Y-%m-%d}")
    if set(cas) != set(held.cas):
        log.info("the broker is known by %d CAs now", len(cas))
    return ""


def _detail(answer: Answer) -> str:
    try:
        return f"{json.loads(answer.body)['detail']} ({answer.status})"
    except (ValueError, KeyError, TypeError):
        return f"it answered {answer.status}"
