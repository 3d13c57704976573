"""What a TLS listener answers, and a certificate for one."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WRONG_VERSION = b"\x10\x0d\x00\x04MQTT\xc8\x02\x00\x3c\x00\x01x"
"""A CONNECT of a version that there is not: a broker that let a client in says so, and touches no session."""


def handshake(context: ssl.SSLContext, port: int) -> str | None:
    """Connect to a broker and return the version of TLS, None when it hangs up on what was shown.

    TLS 1.3 tells a client of its refused certificate only on reading, so a question is asked that only a broker which
    let it in answers: no silence has to be waited for.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(WRONG_VERSION)
        return secure.version() if secure.recv(1) == b"\x20" else None


def is_refused(context: ssl.SSLContext, port: int) -> bool:
    """Whether a listener refuses what a client shows."""
    try:
        return handshake(context, port) is None
    except (ssl.SSLError, ConnectionError):
        return True


def server(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a server of `localhost` and 127.0.0.1 with a P-256 key; return its context and the CA file to believe."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ca, chain = folder / "ca.pem", folder / "chain.pem"
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(secret + ca.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, ca
