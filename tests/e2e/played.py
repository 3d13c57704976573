"""A device of a real fleet whose part the test plays, with the identity that enrolment gave it."""

from __future__ import annotations

import time

from hub.broker.credentials import Credentials
from tests.e2e.fleet import Agent, Fleet
from tests.support.mosquitto import Peer
from topics import codec
from topics.channels import BY_NAME
from topics.messages import UpdateResult, UpdateState


def credentials(agent: Agent) -> Credentials:
    """The TLS files that enrolment gave a device."""
    identity = agent.state / "identity"
    return Credentials(identity / "ca.pem", identity / "cert.pem", identity / "key.pem")


class Device:
    """A connection of an enrolled device, and the number of its last report."""

    def __init__(self, fleet: Fleet, agent: Agent) -> None:
        self._topic = BY_NAME["update-result"].topic(fleet.name, id=agent.device_id)
        self._n = 0
        self.peer = Peer(credentials(agent), fleet.mqtt_port, agent.device_id)

    def report(self, release: str, state: UpdateState) -> float:
        """Publish an update result; returns when that was (monotonic, s)."""
        self._n += 1
        message = UpdateResult(
            boot=(1, "00000001"), at=int(time.time()), spool="0123abcd", n=self._n,
            state=state, release=release, attempt=1, segment="canary", reason="by the test",
        )  # fmt: skip
        began = time.monotonic()
        self.peer.send(self._topic, codec.encode(message), kind=codec.MSGPACK)
        return began
