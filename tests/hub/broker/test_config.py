"""The broker's configuration and the watch over subscriptions, without a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.broker.config import BrokerSettings, may_subscribe, parse_subscription, render


@pytest.mark.parametrize(
    ("client", "topic_filter", "allowed"),
    [
        pytest.param("shop-12", "acme/v1/trust/root", True, id="the-root"),
        pytest.param("shop-12", "acme/v1/devices/shop-12/down/desired", True, id="own-desired-state"),
        pytest.param("shop-12", "acme/v1/devices/shop-12/down/receipt", True, id="own-receipt"),
        pytest.param("shop-12", "acme/v1/releases/kiosk/canary", True, id="a-manifest"),
        pytest.param("shop-12", "acme/v1/releases/+/canary", True, id="manifests-are-for-all"),
        pytest.param("shop-12", "acme/v1/releases/#", False, id="multi-level-wildcard"),
        pytest.param("shop-12", "acme/v1/releases/kiosk/#", False, id="multi-level-wildcard-at-the-end"),
        pytest.param("shop-12", "acme/v1/devices/shop-13/down/desired", False, id="another-device"),
        pytest.param("shop-12", "acme/v1/devices/+/down/desired", False, id="every-device"),
        pytest.param("shop-12", "acme/v1/devices/+/up/status", False, id="others-reports"),
        pytest.param("shop-12", "$share/g/acme/v1/devices/+/up/status", False, id="the-hubs-share-group"),
        pytest.param("shop-12", "$share/g/acme/v1/trust/root", False, id="any-share-group"),
        pytest.param("shop-12", "$SYS/#", False, id="broker-status"),
        pytest.param("shop-12", "#", False, id="everything"),
        pytest.param("shop-12", "other/v1/trust/root", False, id="another-fleet"),
        pytest.param("site.north", "acme/v1/releases/kiosk/canary", True, id="site-reads-manifests"),
        pytest.param("site.north", "acme/v1/devices/shop-12/down/desired", False, id="site-reads-no-device"),
        pytest.param("svc.ingest-0", "$share/g/acme/v1/devices/+/up/status", True, id="the-hub-itself"),
    ],
)
def test_a_client_keeps_to_what_it_may_read(client: str, topic_filter: str, allowed: bool) -> None:
    assert may_subscribe("acme", client, topic_filter) is allowed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("shop-12 1 acme/v1/trust/root", ("shop-12", "acme/v1/trust/root")),
        ("shop-12 0 a filter with spaces", ("shop-12", "a filter with spaces")),
        ("mosquitto version 2.0.11 running", None),
        ("Warning: 3 things", None),
        ("", None),
    ],
)
def test_subscriptions_are_read_off_the_brokers_log(line: str, found: tuple[str, str] | None) -> None:
    assert parse_subscription(line) == found


def test_both_listeners_insist_on_certificates_and_take_names_from_them(tmp_path: Path) -> None:
    listeners = render(BrokerSettings(tmp_path, "acme", device_port=8883, service_port=9000)).split(
        "listener "
    )[1:]
    assert [text.splitlines()[0] for text in listeners] == ["8883 0.0.0.0", "9000 127.0.0.1"]
    for text in listeners:
        for line in (
            "tls_version tlsv1.3",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
        ):
            assert line in text.splitlines()


def test_every_queue_is_finite(tmp_path: Path) -> None:
    text = render(BrokerSettings(tmp_path, "acme", max_queued_messages=500, max_queued_bytes=1000))
    lines = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    assert lines["max_queued_messages"] == "500"
    assert lines["max_queued_bytes"] == "1000"
    assert int(lines["max_packet_size"]) > 64 * 1024
    assert int(lines["max_inflight_messages"]) > 0
    assert "message_size_limit" not in lines
    assert text.count("max_connections ") == text.count("listener ") == 2
