"""The hub's two certificate authorities, and the X.509 certificates they issue.

- The **device CA** is the one certificate that devices pin. It signs device certificates (client use only) and
  the server certificate of the device listener (server use only): one pin suffices, and the extended key
  usage keeps a device from posing as the broker, since TLS clients insist on server use.
- The **service CA** signs the hub's own connections and the service listener. Devices have nothing of it, so
  a device certificate never gets in there, whatever its name.

Both are made once, with Ed25519 keys, and last 30 years: a device in a cupboard must not outlive its pin.
Times are seconds since the Unix epoch; `now` is an argument. Serial numbers are random unless passed in.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.errors import SetupError
from hub.identity.files import read_private, write_atomic

DAY: Final = 86_400
CA_DAYS: Final = 30 * 365
LEAF_DAYS: Final = 397
"""Validity of a certificate: 13 months, the longest that common TLS stacks accept of a server."""
BACKDATE: Final = 3600
"""A certificate begins an hour before it was made, for devices whose clocks run slow."""

_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True)
class Authority:
    """One CA: its certificate and its key."""

    certificate: x509.Certificate
    key: Ed25519PrivateKey

    @property
    def pem(self) -> str:
        """The certificate as PEM text."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def sha256(self) -> str:
        """Lower-case hex SHA-256 of the certificate's DER, as it stands in enrolment tokens."""
        return hashlib.sha256(self.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def issue_device(
        self,
        public_key: bytes,
        device_id: str,
        *,
        now: int,
        days: int = LEAF_DAYS,
        serial: int | None = None,
    ) -> str:
        """Return the PEM of a client certificate for a device's own raw 32-byte Ed25519 key, CN = its id.

        Raises `ValueError` when the key does not have 32 bytes.
        """
        subject_key = Ed25519PublicKey.from_public_bytes(public_key)
        return self._issue(subject_key, device_id, now=now, days=days, serial=serial, usage=_CLIENT)

    def issue_service(self, name: str, *, now: int, days: int = LEAF_DAYS) -> tuple[str, str]:
        """Return (certificate PEM, key PEM) of a client named `name`, with a fresh key."""
        key = Ed25519PrivateKey.generate()
        certificate = self._issue(key.public_key(), name, now=now, days=days, usage=_CLIENT)
        return certificate, _key_pem(key)

    def issue_server(self, hosts: Iterable[str], *, now: int, days: int = LEAF_DAYS) -> tuple[str, str]:
        """Return (certificate PEM, key PEM) of a server reached as any of `hosts`, localhost or 127.0.0.1."""
        key = Ed25519PrivateKey.generate()
        names = [_alternative_name(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"])]
        certificate = self._issue(
            key.public_key(), "flaghoist-broker", now=now, days=days, usage=_SERVER, names=names
        )
        return certificate, _key_pem(key)

    def is_current(self, pem: str, *, now: int, hosts: Iterable[str] = ()) -> bool:
        """Whether a certificate is this CA's, names all `hosts`, and has a third of its life or more left."""
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        begin = certificate.not_valid_before_utc.timestamp()
        end = certificate.not_valid_after_utc.timestamp()
        wanted = {_alternative_name(host) for host in hosts}
        return begin <= now < end - (end - begin) / 3 and wanted <= _alternative_names(certificate)

    def _issue(
        self,
        public_key: Ed25519PublicKey,
        name: str,
        *,
        now: int,
        days: int,
        usage: x509.ObjectIdentifier,
        serial: int | None = None,
        names: Iterable[x509.GeneralName] = (),
    ) -> str:
        builder = (
            _builder(name, self.certificate.subject, public_key, now=now, days=days, serial=serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        names = list(names)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, None).public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Authorities:
    """Both CAs of an installation."""

    device: Authority
    service: Authority


def open_authorities(folder: Path, fleet: str, *, now: int) -> Authorities:
    """Return the CAs kept in `folder`, making them at the first call.

    Raises `SetupError` when a file is unreadable, open to others, or no longer fits its partner.
    """
    return Authorities(_open(folder, "device", fleet, now), _open(folder, "service", fleet, now))


def _open(folder: Path, kind: str, fleet: str, now: int) -> Authority:
    key_path, certificate_path = folder / f"{kind}-ca.key", folder / f"{kind}-ca.pem"
    if not key_path.exists():
        if certificate_path.exists():
            # A new CA would shut out every enrolled device without a word.
            raise SetupError(f"{key_path} is missing beside its certificate; restore {folder} from a backup")
        write_atomic(key_path, _key_pem(Ed25519PrivateKey.generate()).encode(), 0o600)
    key = _load_key(key_path)
    if not certificate_path.exists():
        write_atomic(certificate_path, _self_signed(key, f"Flaghoist {fleet} {kind} CA", now).encode(), 0o644)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError):
        raise SetupError(
            f"{certificate_path} is not a readable certificate; restore it from a backup"
        ) from None
    if certificate.public_key() != key.public_key():
        raise SetupError(f"{certificate_path} does not belong to {key_path}; restore both from one backup")
    return Authority(certificate, key)


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"{path} is not an Ed25519 private key; restore it from a backup")
    return key


def _self_signed(key: Ed25519PrivateKey, name: str, now: int) -> str:
    public_key = key.public_key()
    builder = (
        _builder(
            name,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key,
            now=now,
            days=CA_DAYS,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, None).public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    name: str,
    issuer: x509.Name,
    public_key: Ed25519PublicKey,
    *,
    now: int,
    days: int,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(datetime.fromtimestamp(now - BACKDATE, UTC))
        .not_valid_after(datetime.fromtimestamp(now + days * DAY, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _alternative_names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _key_pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
