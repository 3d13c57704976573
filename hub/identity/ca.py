"""The hub's two certificate authorities, and the X.509 certificates they issue.

- The **device CA** is the one certificate that devices pin. It signs device certificates (client use only) and
  the server certificate of the device listener (server use only): one pin suffices, and the extended key
  usage keeps a device from posing as the broker, since TLS clients insist on server use.
- The **service CA** signs the hub's own connections and the service listener. Devices have nothing of it, so
  a device certificate never gets in there, whatever its name.

Both have Ed25519 keys and last 30 years: a device in a cupboard must not outlive its pin. The device CA has
generations, since a new one has to be believed by every device before the broker shows what it signed.
Times are seconds since the Unix epoch; `now` is an argument. Serial numbers are random unless passed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from hub.errors import SetupError
from hub.identity.building import (
    alternative_name,
    alternative_names,
    builder,
    key_pem,
    key_usage,
    self_signed,
)
from hub.identity.files import read_private, write_atomic

LEAF_DAYS: Final = 397
"""Validity of a certificate: 13 months, the longest that common TLS stacks accept of a server."""
_GENERATIONS: Final = "device-ca.json"
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

    @property
    def ends(self) -> int:
        """When the CA's own certificate ends, in s."""
        return int(self.certificate.not_valid_after_utc.timestamp())

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
        return certificate, key_pem(key)

    def issue_server(self, hosts: Iterable[str], *, now: int, days: int = LEAF_DAYS) -> tuple[str, str]:
        """Return (certificate PEM, key PEM) of a server reached as any of `hosts`, localhost or 127.0.0.1."""
        key = Ed25519PrivateKey.generate()
        names = [alternative_name(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"])]
        certificate = self._issue(
            key.public_key(), "flaghoist-broker", now=now, days=days, usage=_SERVER, names=names
        )
        return certificate, key_pem(key)

    def is_current(self, pem: str, *, now: int, hosts: Iterable[str] = ()) -> bool:
        """Whether a certificate is this CA's, names all `hosts`, and has a third of its life or more left."""
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        begin = certificate.not_valid_before_utc.timestamp()
        end = certificate.not_valid_after_utc.timestamp()
        wanted = {alternative_name(host) for host in hosts}
        return begin <= now < end - (end - begin) / 3 and wanted <= alternative_names(certificate)

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
        made = (
            builder(name, self.certificate.subject, public_key, now=now, days=days, serial=serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        names = list(names)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self.key, None).public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Generations:
    """Which device CAs there are, by number: all of `first` to `newest` are believed. The newest signs certificates of
    devices, `serving` the one that the broker shows them. `since` is when (s) this came to be."""

    first: int = 1
    serving: int = 1
    newest: int = 1
    since: int = 0


class Authorities:
    """Both CAs of an installation.

    While the device CA is replaced there are two generations of it; `generations` says how they stand.
    """

    def __init__(self, folder: Path, fleet: str, service: Authority, now: int) -> None:
        self._folder, self._fleet = folder, fleet
        self.service = service
        self.generations = read_generations(folder)
        self._devices = self._opened(self.generations, now)

    @property
    def device(self) -> Authority:
        """The device CA that signs certificates of devices."""
        return self._devices[self.generations.newest]

    @property
    def serving(self) -> Authority:
        """The device CA that signs the broker's server certificate."""
        return self._devices[self.generations.serving]

    @property
    def trusted(self) -> tuple[Authority, ...]:
        """Every device CA that is believed, the oldest first."""
        return tuple(self._devices.values())

    @property
    def bundle(self) -> str:
        """Every device CA that is believed, as PEM."""
        return "".join(authority.pem for authority in self.trusted)

    def change(self, generations: Generations, now: int) -> None:
        """Go over to other generations; one that is new is made. Raises `SetupError`."""
        devices = self._opened(generations, now)
        write_atomic(self._folder / _GENERATIONS, msgspec.json.encode(generations), 0o644)
        # In this order: who reads both between finds what it looks for.
        self._devices = devices
        self.generations = generations

    def _opened(self, generations: Generations, now: int) -> dict[int, Authority]:
        return {n: self._device(n, now) for n in range(generations.first, generations.newest + 1)}

    def _device(self, number: int, now: int) -> Authority:
        name = "device-ca" if number == 1 else f"device-ca-{number}"
        suffix = "" if number == 1 else f" {number}"
        return _open(self._folder, name, f"Flaghoist {self._fleet} device CA{suffix}", now)


def open_authorities(folder: Path, fleet: str, *, now: int) -> Authorities:
    """Return the CAs kept in `folder`, making them at the first call.

    Raises `SetupError` when a file is unreadable, open to others, or no longer fits its partner.
    """
    service = _open(folder, "service-ca", f"Flaghoist {fleet} service CA", now)
    return Authorities(folder, fleet, service, now)


def read_generations(folder: Path) -> Generations:
    """Return how the generations in `folder` stand. Raises `SetupError` for a file that is damaged."""
    path = folder / _GENERATIONS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Generations)
    except FileNotFoundError:
        return Generations()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise SetupError(f"{path} cannot be used ({error}); restore it from a backup") from None


def _open(folder: Path, name: str, subject: str, now: int) -> Authority:
    key_path, certificate_path = folder / f"{name}.key", folder / f"{name}.pem"
    if not key_path.exists():
        if certificate_path.exists():
            # A new CA would shut out every enrolled device without a word.
            raise SetupError(f"{key_path} is missing beside its certificate; restore {folder} from a backup")
        write_atomic(key_path, key_pem(Ed25519PrivateKey.generate()).encode(), 0o600)
    key = _load_key(key_path)
    if not certificate_path.exists():
        write_atomic(certificate_path, self_signed(key, subject, now).encode(), 0o644)
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
