"""The channel table: building, parsing, subscribing and the broker's list, all from one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from topics import acl, channels, names
from topics.channels import BY_NAME, CHANNELS, Address, Channel, Principal, parse
from topics.codec import REASONS
from topics.errors import TopicError
from topics.messages import DURABLE_TYPES, UPLINK_TYPES

PARTS = {
    "id": "shop-12",
    "site": "depot",
    "role": "kiosk",
    "segment": "early",
    "release": "kiosk-7-3f2a9c1b5d4e",
}
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "topics.md"

TOPICS = {
    "trust-root": "acme/v1/trust/root",
    "manifest": "acme/v1/releases/kiosk/early",
    "desired": "acme/v1/devices/shop-12/down/desired",
    "receipt": "acme/v1/devices/shop-12/down/receipt",
    "presence": "acme/v1/devices/shop-12/up/presence",
    "status": "acme/v1/devices/shop-12/up/status",
    "update-result": "acme/v1/devices/shop-12/up/update-result",
    "drift": "acme/v1/devices/shop-12/up/drift",
    "recovery": "acme/v1/devices/shop-12/up/recovery",
    "command-result": "acme/v1/devices/shop-12/up/command-result",
    "log": "acme/v1/devices/shop-12/up/log",
    "site-presence": "acme/v1/sites/depot/devices/shop-12/up/presence",
    "site-status": "acme/v1/sites/depot/devices/shop-12/up/status",
    "site-update-result": "acme/v1/sites/depot/devices/shop-12/up/update-result",
    "site-drift": "acme/v1/sites/depot/devices/shop-12/up/drift",
    "site-recovery": "acme/v1/sites/depot/devices/shop-12/up/recovery",
    "site-command-result": "acme/v1/sites/depot/devices/shop-12/up/command-result",
    "site-log": "acme/v1/sites/depot/devices/shop-12/up/log",
    "wake": "acme/v1/bus/wake",
    "summary-fleet": "acme/v1/summary/fleet",
    "summary-role": "acme/v1/summary/roles/kiosk",
    "summary-release": "acme/v1/summary/releases/kiosk-7-3f2a9c1b5d4e",
    "summary-alerts": "acme/v1/summary/alerts",
}


def parts_of(channel: Channel) -> dict[str, str]:
    return {name: text for name, text in PARTS.items() if f"{{{name}}}" in channel.template}


def test_every_row_has_its_topic_spelled_here() -> None:
    assert TOPICS.keys() == BY_NAME.keys()
    assert len(BY_NAME) == len(CHANNELS)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_row_builds_its_topic_and_parses_it_back(channel: Channel) -> None:
    parts = parts_of(channel)
    topic = channel.topic("acme", **parts)
    assert topic == TOPICS[channel.name]
    fields = {"device_id" if name == "id" else name: text for name, text in parts.items()}
    assert parse(topic) == Address(fleet="acme", channel=channel.name, **fields)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_a_part_left_out_is_named(channel: Channel) -> None:
    for missing in parts_of(channel):
        rest = {name: text for name, text in parts_of(channel).items() if name != missing}
        with pytest.raises(TopicError, match=f"needs '{missing}'"):
            channel.topic("acme", **rest)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_filter_matches_the_topic_and_opens_only_what_is_not_given(channel: Channel) -> None:
    levels = zip(channel.filter("acme").split("/"), TOPICS[channel.name].split("/"), strict=True)
    assert all(pattern in ("+", level) for pattern, level in levels)
    assert channel.filter("acme").count("+") == len(parts_of(channel))
    assert channel.filter("acme", **parts_of(channel)) == TOPICS[channel.name]


def test_every_uplink_channel_has_its_message_type() -> None:
    assert {channel.name for channel in channels.UPLINKS} == UPLINK_TYPES.keys()
    assert {channel.name for channel in channels.DURABLE} == DURABLE_TYPES.keys()


def test_what_must_survive_is_acknowledged_and_what_must_be_found_later_is_retained() -> None:
    assert all(channel.qos == 1 for channel in channels.DURABLE)
    assert all(
        channel.qos == 1 and channel.retain
        for channel in (channels.TRUST_ROOT, channels.MANIFEST, channels.DESIRED)
    )
    assert {channel.name for channel in channels.UPLINKS if channel.retain} == {"presence"}


NOT_IDS = [
    pytest.param("", id="empty"),
    pytest.param("svc.hoister", id="a service's name"),
    pytest.param("site.depot", id="a site's name"),
    pytest.param("+", id="the one-level wildcard"),
    pytest.param("#", id="the rest wildcard"),
    pytest.param("a+b", id="a wildcard inside"),
    pytest.param("a/b", id="a slash"),
    pytest.param("../x", id="a path upwards"),
    pytest.param("$share", id="a dollar sign"),
    pytest.param("Shop-12", id="upper case"),
    pytest.param("-shop", id="a leading hyphen"),
    pytest.param("shop_12", id="an underscore"),
    pytest.param("shop 12", id="a space"),
    pytest.param("shop-12\n", id="a line end"),
    pytest.param("shop\0", id="NUL"),
    pytest.param("sh\u043e\u0440", id="Cyrillic lookalikes"),
    pytest.param("shop-\uff11\uff12", id="full-width digits"),
    pytest.param("shop\u200b", id="a zero-width space"),
    pytest.param("\u017fhop", id="a long s, which folds to s"),
    pytest.param("\u212a", id="the Kelvin sign, which folds to k"),
    pytest.param("a" * 64, id="64 characters"),
    pytest.param("%u", id="the broker's own placeholder"),
]


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_cannot_name_a_device(text: str) -> None:
    with pytest.raises(TopicError, match="is not a device id"):
        names.device_id(text)
    with pytest.raises(TopicError):
        channels.STATUS.topic("acme", id=text)
    with pytest.raises(TopicError):
        parse(f"acme/v1/devices/{text}/up/status")


@pytest.mark.parametrize("text", ["0", "a", "shop-12", "a-", "9" * 63])
def test_what_can_name_a_device(text: str) -> None:
    assert names.device_id(text) == text


@pytest.mark.parametrize(
    "text", [*NOT_IDS, pytest.param("7", id="a digit first"), pytest.param("a" * 33, id="33")]
)
def test_what_cannot_name_a_role_or_a_fleet(text: str) -> None:
    with pytest.raises(TopicError, match="is not a role"):
        names.role(text)
    with pytest.raises(TopicError, match="is not a fleet"):
        names.fleet(text)


@pytest.mark.parametrize("text", ["", "Canary", "canary ", "beta", "+", "all"])
def test_what_is_no_segment(text: str) -> None:
    with pytest.raises(TopicError, match="the segments are canary, early, general"):
        names.segment(text)


@pytest.mark.parametrize("text", ["", "7-kiosk", "Kiosk-7", "kiosk/7", "kiosk.7", "../kiosk", "a" * 97])
def test_what_cannot_name_a_release(text: str) -> None:
    with pytest.raises(TopicError, match="is not a release id"):
        names.release_id(text)


def test_the_longest_role_still_makes_a_release_id() -> None:
    made = names.make_release_id("r" * 32, 2**53, "F" * 40)
    assert made == names.release_id(made)


def test_no_device_can_be_called_like_a_principal() -> None:
    """A broker that takes the certificate's CN as the user name would give it the service's rights."""
    for principal in Principal:
        if principal in (Principal.DEVICE, Principal.SITE):
            continue
        with pytest.raises(TopicError):
            names.device_id(principal.value)
    with pytest.raises(TopicError):
        names.device_id(f"{Principal.INGEST}-0")


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param("", id="empty"),
        pytest.param("acme", id="fleet only"),
        pytest.param("acme/v2/trust/root", id="another version"),
        pytest.param("acme/v1/trust/root/", id="a trailing slash"),
        pytest.param("/acme/v1/trust/root", id="a leading slash"),
        pytest.param("acme//v1/trust/root", id="an empty level"),
        pytest.param("ACME/v1/trust/root", id="the fleet in upper case"),
        pytest.param("acme/v1/releases/kiosk/beta", id="an unknown segment"),
        pytest.param("acme/v1/releases/+/canary", id="a wildcard"),
        pytest.param("acme/v1/devices/shop-12/up/rumour", id="an unknown report"),
        pytest.param("acme/v1/devices/shop-12/up/desired", id="a downlink's name on the way up"),
        pytest.param("acme/v1/devices/shop-12/down/status", id="an uplink's name on the way down"),
        pytest.param("$share/g/acme/v1/trust/root", id="a shared subscription"),
        pytest.param("$SYS/broker/uptime", id="the broker's own"),
    ],
)
def test_what_is_no_topic_of_this_system(topic: str) -> None:
    with pytest.raises(TopicError):
        parse(topic)


def test_a_device_subscribes_to_four_exact_topics() -> None:
    assert channels.device_subscriptions("acme", "shop-12", "kiosk", "canary") == [
        ("acme/v1/trust/root", 1),
        ("acme/v1/devices/shop-12/down/desired", 1),
        ("acme/v1/devices/shop-12/down/receipt", 1),
        ("acme/v1/releases/kiosk/canary", 1),
    ]


ACL = """\
# Rendered from the channel table; edits are overwritten at the next start.
pattern read acme/v1/trust/root
pattern read acme/v1/releases/+/+
pattern read acme/v1/devices/%u/down/desired
pattern read acme/v1/devices/%u/down/receipt
pattern write acme/v1/devices/%u/up/presence
pattern write acme/v1/devices/%u/up/status
pattern write acme/v1/devices/%u/up/update-result
pattern write acme/v1/devices/%u/up/drift
pattern write acme/v1/devices/%u/up/recovery
pattern write acme/v1/devices/%u/up/command-result
pattern write acme/v1/devices/%u/up/log

user svc.hoister
topic readwrite acme/v1/trust/root
topic readwrite acme/v1/releases/+/+
topic readwrite acme/v1/devices/+/down/desired
topic write acme/v1/devices/+/down/receipt
topic readwrite acme/v1/bus/wake
topic write acme/v1/summary/fleet
topic write acme/v1/summary/roles/+
topic write acme/v1/summary/releases/+
topic write acme/v1/summary/alerts

user svc.dashboard
topic read acme/v1/summary/fleet
topic read acme/v1/summary/roles/+
topic read acme/v1/summary/releases/+
topic read acme/v1/summary/alerts

user site.depot
topic read acme/v1/trust/root
topic read acme/v1/releases/+/+
topic write acme/v1/sites/depot/devices/+/up/presence
topic write acme/v1/sites/depot/devices/+/up/status
topic write acme/v1/sites/depot/devices/+/up/update-result
topic write acme/v1/sites/depot/devices/+/up/drift
topic write acme/v1/sites/depot/devices/+/up/recovery
topic write acme/v1/sites/depot/devices/+/up/command-result
topic write acme/v1/sites/depot/devices/+/up/log
"""


def test_acl_is_rendered_from_the_table() -> None:
    services = {Principal.HOISTER: ["svc.hoister"], Principal.DASHBOARD: ["svc.dashboard"]}
    assert acl.render("acme", services, sites=["depot"]) == ACL


def test_acl_gives_every_ingest_slot_the_uplinks_and_no_right_to_hoist() -> None:
    slots = ["svc.ingest-0", "svc.ingest-1"]
    text = acl.render("acme", {Principal.INGEST: slots})
    for slot in slots:
        rights = text.split(f"user {slot}\n")[1].split("\n\n")[0].splitlines()
        assert "topic read acme/v1/devices/+/up/status" in rights
        assert "topic read acme/v1/sites/+/devices/+/up/status" in rights
        assert [line for line in rights if "write" in line] == [
            "topic write acme/v1/devices/+/down/receipt", "topic readwrite acme/v1/bus/wake"
        ]  # fmt: skip


def test_a_device_writes_only_below_its_own_up() -> None:
    for line in acl.render("acme", {}).splitlines()[1:]:
        _, access, topic = line.split(" ")
        assert (access == "write") == topic.startswith("acme/v1/devices/%u/up/")


def reference_row(channel: Channel) -> str:
    """Return the row that documents `channel`."""
    writers, readers = (", ".join(f"`{who}`" for who in side) for side in (channel.writers, channel.readers))
    retain = "yes" if channel.retain else "no"
    return f"| `{channel.template}` | {writers} | {readers} | {channel.qos} | {retain} | {channel.limit // 1024} KB |"


def test_reference_page_holds_exactly_the_table() -> None:
    rows = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `{fleet}/")]
    assert rows == [reference_row(channel) for channel in CHANNELS]


def test_reference_page_names_every_reason_to_refuse_a_body() -> None:
    rows = REFERENCE.read_text().split("| reason | meaning |")[1].splitlines()[2:]
    named = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert named == ["empty", "too_large", "not_a_map", "malformed", "too_deep", "invalid", "duplicate_key"]
    assert set(named) == set(REASONS)
