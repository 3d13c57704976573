"""When certificates are renewed, and which answers to that a device believes."""

from __future__ import annotations

import pytest

from tests.topics import kit
from topics import codec, renewal, trust
from topics.channels import DESIRED
from topics.documents import Credentials
from topics.errors import TrustError

NONCE = b"n" * 32
LIFE = 397 * kit.DAY


def credentials(**changes: object) -> Credentials:
    fields = {
        "to": kit.DESIRED_TOPIC,
        "fleet": kit.FLEET,
        "device_id": kit.DEVICE,
        "issued_at": kit.NOW,
        "nonce": NONCE,
        "certificate_pem": "certificate",
        "ca_pem": "ca",
    }
    return codec.decode(
        codec.encode(Credentials(**{**fields, **changes})),  # type: ignore[arg-type]
        Credentials,
        limit=trust.CREDENTIALS_LIMIT,
    )


def test_a_fleet_that_was_enrolled_at_once_renews_over_a_month_well_before_its_certificates_end() -> None:
    due = [renewal.due_at(0, LIFE, f"shop-{number}") for number in range(2_000)]
    assert min(due) >= LIFE - LIFE // 3 and max(due) <= LIFE - LIFE // 4
    days = {at // kit.DAY for at in due}
    assert len(days) >= 33, "every day of a twelfth of the life has its share"


def test_a_hub_lets_every_device_that_asks_in_time_renew_and_none_at_will() -> None:
    assert not renewal.may_renew(0, LIFE, LIFE // 2 - 1)
    assert all(
        renewal.may_renew(0, LIFE, renewal.due_at(0, LIFE, f"shop-{n}") - 30 * kit.DAY) for n in range(99)
    )


def test_credentials_by_the_deployment_key_for_this_device_and_request_are_believed() -> None:
    signed = kit.sign(credentials(), "credentials", ["hub-1"])
    assert trust.accept_credentials(kit.pinned(), kit.DEVICE, signed, NONCE) == credentials()


OTHER = DESIRED.topic(kit.FLEET, id="shop-13")
REFUSED = [
    pytest.param(credentials(), "credentials", "release-1", "deployment_threshold", id="by a release key"),
    pytest.param(credentials(), "config", "hub-1", "unknown_type", id="signed as another kind"),
    pytest.param(
        credentials(nonce=b"o" * 32), "credentials", "hub-1", "replayed", id="of an earlier request"
    ),
    pytest.param(credentials(nonce=b""), "credentials", "hub-1", "replayed", id="of no request"),
    pytest.param(
        credentials(to=OTHER, device_id="shop-13"), "credentials", "hub-1", "addressee", id="another device's"
    ),
    pytest.param(
        credentials(device_id="shop-13"), "credentials", "hub-1", "addressee", id="with another device's id"
    ),
    pytest.param(credentials(fleet="umbrella"), "credentials", "hub-1", "fleet", id="of another fleet"),
]


@pytest.mark.parametrize(("document", "kind", "signer", "check"), REFUSED)
def test_credentials_that_are_not_believed(document: Credentials, kind: str, signer: str, check: str) -> None:
    signed = kit.sign(document, kind, [signer])
    with pytest.raises(TrustError) as refused:
        trust.accept_credentials(kit.pinned(), kit.DEVICE, signed, NONCE)
    assert refused.value.check == check


def test_endless_credentials_are_not_read() -> None:
    with pytest.raises(TrustError) as refused:
        trust.accept_credentials(kit.pinned(), kit.DEVICE, b"x" * (trust.CREDENTIALS_LIMIT + 1), NONCE)
    assert refused.value.check == "too_large"
