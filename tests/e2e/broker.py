"""An attacker inside the hub: speaks to the real broker with the hoister's own certificate."""

from __future__ import annotations

import re
import ssl
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.fleet import Fleet


def publish_as_hoister(fleet: Fleet, topic: str, payload: bytes) -> None:
    """Put `payload` on `topic`, retained, with the hub's own credentials, and return once the broker took it.

    The broker knows one hoister, so this cuts the real one off; it comes back and finds what was put there.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="svc.hoister", protocol=paho.MQTTv5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    services = fleet.data / "services"
    context.load_verify_locations(services / "service-ca.pem")
    context.load_cert_chain(services / "svc.hoister.pem", services / "svc.hoister.key")
    client.tls_set_context(context)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", service_port(fleet))
    client.loop_start()
    try:
        assert connected.wait(10), "the broker did not let the attacker in"
        client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)
        client.disconnect()
    finally:
        client.loop_stop()


def service_port(fleet: Fleet) -> int:
    """The port of the broker's service listener, from its own configuration."""
    text = (fleet.data / "broker" / "mosquitto.conf").read_text()
    ports = [int(port) for port in re.findall(r"^listener (\d+)", text, re.MULTILINE)]
    return ports[1]
