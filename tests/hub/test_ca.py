"""The CAs: what they issue, what they refuse to open, and when a certificate must be renewed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from nacl.signing import SigningKey

from hub.errors import SetupError
from hub.identity.building import DAY
from hub.identity.ca import LEAF_DAYS, open_authorities

NOW = 1_800_000_000
KEY = bytes(SigningKey(b"\1" * 32).verify_key)


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def common_name(pem: str) -> str | bytes:
    return certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_a_device_certificate_carries_the_devices_own_key_and_id(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    pem = authority.issue_device(KEY, "shop-12", now=NOW, serial=77)
    issued = certificate(pem)
    issued.verify_directly_issued_by(authority.certificate)
    assert common_name(pem) == "shop-12"
    assert issued.public_key().public_bytes_raw() == KEY  # type: ignore[union-attr]
    assert issued.serial_number == 77
    assert issued.not_valid_before_utc.timestamp() == NOW - 3600
    assert issued.not_valid_after_utc.timestamp() == NOW + LEAF_DAYS * DAY
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_serial_numbers_are_random_unless_given(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    serials = {certificate(authority.issue_device(KEY, "a", now=NOW)).serial_number for _ in range(8)}
    assert len(serials) == 8


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    with pytest.raises(ValueError, match="32"):
        authority.issue_device(b"k" * size, "shop-12", now=NOW)


def test_a_server_certificate_is_for_servers_only_and_names_its_hosts(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    pem, _ = authority.issue_server(["broker.example", "10.0.0.7", "localhost"], now=NOW)
    extensions = certificate(pem).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "127.0.0.1"]
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_two_authorities_do_not_vouch_for_each_other(tmp_path: Path) -> None:
    authorities = open_authorities(tmp_path, "acme", now=NOW)
    service, _ = authorities.service.issue_service("svc.hoister", now=NOW)
    certificate(service).verify_directly_issued_by(authorities.service.certificate)
    with pytest.raises((InvalidSignature, ValueError)):
        certificate(service).verify_directly_issued_by(authorities.device.certificate)


def test_the_authorities_are_made_once(tmp_path: Path) -> None:
    first = open_authorities(tmp_path / "ca", "acme", now=NOW)
    again = open_authorities(tmp_path / "ca", "acme", now=NOW + 10 * DAY)
    assert (first.device.pem, first.service.pem) == (again.device.pem, again.service.pem)
    assert first.device.sha256 == again.device.sha256 != first.service.sha256


def test_private_keys_are_for_the_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_authorities(tmp_path, "acme", now=NOW)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {
        "device-ca.key": 0o600,
        "device-ca.pem": 0o644,
        "service-ca.key": 0o600,
        "service-ca.pem": 0o644,
    }


def test_a_certificate_lost_before_it_was_written_is_made_anew_for_the_same_key(tmp_path: Path) -> None:
    """A crash between key and certificate must not wedge the first start."""
    first = open_authorities(tmp_path, "acme", now=NOW).device
    (tmp_path / "device-ca.pem").unlink()
    again = open_authorities(tmp_path, "acme", now=NOW).device
    assert again.certificate.public_key() == first.certificate.public_key()


def _swap(folder: Path) -> None:
    (folder / "device-ca.pem").write_bytes((folder / "service-ca.pem").read_bytes())


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda d: (d / "device-ca.key").chmod(0o640), "chmod 600", id="key-open-to-group"),
        pytest.param(lambda d: (d / "device-ca.key").unlink(), "restore", id="key-missing"),
        pytest.param(lambda d: (d / "device-ca.key").write_bytes(b""), "not an Ed25519", id="key-empty"),
        pytest.param(
            lambda d: (d / "device-ca.pem").write_bytes(b"\0" * 300), "restore", id="certificate-zeroed"
        ),
        pytest.param(_swap, "does not belong", id="certificate-of-the-other-authority"),
    ],
)
def test_a_damaged_authority_is_refused_in_one_sentence(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    open_authorities(tmp_path, "acme", now=NOW)
    damage(tmp_path)
    with pytest.raises(SetupError, match=sentence) as caught:
        open_authorities(tmp_path, "acme", now=NOW)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("after_days", "hosts", "current"),
    [
        pytest.param(0, [], True, id="fresh"),
        pytest.param(260, [], True, id="two-thirds-not-yet-over"),
        pytest.param(266, [], False, id="less-than-a-third-left"),
        pytest.param(400, [], False, id="expired"),
        pytest.param(-1, [], False, id="clock-before-its-beginning"),
        pytest.param(0, ["broker.example"], True, id="host-it-names"),
        pytest.param(0, ["broker.example", "new.example"], False, id="host-it-does-not-name"),
    ],
)
def test_a_server_certificate_is_renewed_in_time(
    tmp_path: Path, after_days: int, hosts: list[str], current: bool
) -> None:
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    pem, _ = authority.issue_server(["broker.example"], now=NOW)
    assert authority.is_current(pem, now=NOW + after_days * DAY, hosts=hosts) is current


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_garbage_is_never_current(tmp_path: Path, pem: str) -> None:
    assert not open_authorities(tmp_path, "acme", now=NOW).device.is_current(pem, now=NOW)


def test_a_certificate_of_another_authority_is_never_current(tmp_path: Path) -> None:
    mine = open_authorities(tmp_path / "mine", "acme", now=NOW).device
    theirs = open_authorities(tmp_path / "theirs", "acme", now=NOW).device
    pem, _ = theirs.issue_server([], now=NOW)
    assert not mine.is_current(pem, now=NOW)
