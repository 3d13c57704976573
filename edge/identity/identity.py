"""Who this device is: its key, certificate, the hub's CA, and where the hub is.

`identity` in the state directory is a link to a folder that is complete before the link points to it.
"""

from __future__ import annotations

import base64
import os
import ssl
from typing import Final

import msgspec
from nacl.signing import SigningKey

from edge.config import Paths
from edge.errors import NotReady
from edge.storage import disk, records
from topics import devicetoken

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: Python has no name for it."""
# RFC 8410: what stands before the 32-byte seed, or the 32-byte key, in DER.
_PKCS8: Final = bytes.fromhex("302e020100300506032b657004220420")
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What enrolment settled. `http_url` is the hub as the signed config names it."""

    fleet: str
    device_id: str
    mqtt_host: str
    mqtt_port: int
    http_url: str
    hardware: str = ""
    root: bytes = b""


class Damaged(NotReady):
    """There is no identity, or it is damaged: enrolling puts that right."""


class Identity:
    """The device's identity, read from disk. Raises `Damaged`, or `NotReady` when it is unsafe or not ours to read."""

    def __init__(self, paths: Paths) -> None:
        folder = paths.identity
        device, _ = records.load(folder / "device", Device)
        if device is None:
            raise Damaged(f"{paths.root} holds no identity; run flaghoist-edge enrol first")
        self.device = device
        self.folder = folder
        self.key = read_key(paths)

    def tls(self, *, clock_ok: bool) -> ssl.SSLContext:
        """Return a context that believes only the hub's own CA and shows this device's certificate.

        Without a clock that may be believed, dates in certificates are not checked; the pinned CA still is.
        """
        # create_default_context would load the system's whole list of CAs: 0.8 MB, and none of them speaks
        # for the hub.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.folder / "ca.pem")
            context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        except (OSError, ssl.SSLError) as error:
            raise NotReady(
                f"the certificate in {self.folder} cannot be used ({error}); run flaghoist-edge enrol again"
            ) from None
        if not clock_ok:
            context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        return context

    def token(self, now: int, unique: str, body: bytes | None = None) -> str:
        """Return the token by which this device speaks HTTP, made at `now` (s); that of a post is for its `body`."""
        audience = devicetoken.audience(self.device.fleet)
        about = "" if body is None else devicetoken.digest(body)
        until = now + devicetoken.LIFETIME
        claims = devicetoken.Claims(self.device.device_id, audience, now, until, unique, about)
        return devicetoken.make(self.key, claims)


def key_pem(seed: bytes) -> bytes:
    """Return an Ed25519 seed as PKCS#8 PEM, as OpenSSL reads it."""
    return _pem("PRIVATE KEY", _PKCS8 + seed)


def holds_key(certificate_der: bytes, public_key: bytes) -> bool:
    """Whether a certificate is over an Ed25519 public key: its SubjectPublicKeyInfo stands in it."""
    return _SPKI + public_key in certificate_der


def pem_der(pem: str) -> bytes:
    """Return the DER of the first certificate in `pem`. Raises ValueError."""
    return ssl.PEM_cert_to_DER_cert(pem.strip())


def write(
    paths: Paths, device: Device, *, seed: bytes, certificate_pem: str, ca_pem: str, unique: str
) -> None:
    """Put a new identity in place in one step. Raises `OSError`, and leaves nothing of it then."""
    folder = paths.root / f"identity-{unique}"
    folder.mkdir(mode=0o700)
    try:
        disk.write_durable(folder / "key.pem", key_pem(seed))
        disk.write_durable(folder / "cert.pem", certificate_pem.encode(), 0o644)
        disk.write_durable(folder / "ca.pem", ca_pem.encode(), 0o644)
        records.save(folder / "device", device)
        disk.fsync_dir(folder)
    except OSError:
        # A disk that stays full would get another one with each try.
        disk.remove(folder)
        raise
    disk.link(paths.identity, folder.name)
    # The former one, and what a power cut left of others.
    for other in paths.root.glob("identity-*"):
        if other != folder:
            disk.remove(other)


def read_key(paths: Paths) -> SigningKey:
    """Return the device's key, whatever became of the rest. Raises as `Identity` does."""
    path = paths.identity / "key.pem"
    try:
        if path.stat().st_mode & 0o077:
            raise NotReady(
                f"{path} can be read by others; run chmod 600 on it, or enrol anew if it was copied"
            )
        lines = path.read_text(encoding="ascii").splitlines()
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except PermissionError:
        raise NotReady(f"{path} cannot be read; run this as the agent's user") from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror}); run flaghoist-edge enrol again") from None
    except ValueError:
        der = b""
    if not der.startswith(_PKCS8) or len(der) != len(_PKCS8) + 32:
        raise Damaged(f"{path} is not an Ed25519 key; run flaghoist-edge enrol again")
    return SigningKey(der[len(_PKCS8) :])


def _pem(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def unique() -> str:
    """Return a random name."""
    return os.urandom(8).hex()
