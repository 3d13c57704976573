"""An MQTT 5 connection for ingest: TLS, the codec and nothing that acknowledges by itself.

The socket does not block. Mosquitto sends one TLS record a packet, so `read` drains the TLS layer until it has
nothing more: one system call per poll would cost two thirds of the rate. Without TLS, for a broker on the same
machine, one call brings as much as the kernel holds.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import mqtt5

from hub.broker.arrivals import Garbled, Uplink
from topics import codec
from topics.channels import UPLINK_LIMIT

HANDSHAKE_SECONDS: Final = 10.0
FRAME_LIMIT: Final = UPLINK_LIMIT + 8192
_RECORD_BYTES: Final = 16_384
_READ_LIMIT: Final = 1 << 18
"""What is read at once must still be in the processor's cache when it is taken apart."""
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_CONTENT_TYPES: Final[dict[str | None, str]] = {kind: kind for kind in (codec.JSON, codec.MSGPACK)}
"""So that tens of thousands of messages that wait do not each hold the same text."""

Packet = mqtt5.Packet


class LinkError(Exception):
    """The connection is of no use any more; the text says why."""


class Link:
    """One connection to the broker, with TLS when given a context. Raises `LinkError`, `OSError` and
    `ssl.SSLError`."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._tls: ssl.SSLSocket | None = None
        self._socket = socket.create_connection((host, port), timeout=HANDSHAKE_SECONDS)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._socket = self._tls = context.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._out = bytearray()
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """File descriptor of the socket."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._out)

    def wait(self, seconds: float, wake: int | None = None, *, reading: bool = True) -> None:
        """Return when there is something to read (if `reading`), room to write, `wake` is readable, or after
        `seconds`."""
        if reading and self._tls is not None and self._tls.pending():
            return
        poll = select.poll()
        poll.register(self._socket, (select.POLLIN if reading else 0) | (select.POLLOUT if self._out else 0))
        if wake is not None:
            poll.register(wake, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)

    def send(self, *packets: bytes) -> None:
        """Queue `packets` and send as much as the socket takes now."""
        for packet in packets:
            self._out += packet
        self.flush()

    def flush(self) -> None:
        """Send what is queued as far as the socket takes it."""
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except _NOT_NOW:
                return
            del self._out[:sent]

    def read(self) -> tuple[Parsed, bool]:
        """Return what has arrived, and whether there is nothing more to read for now."""
        chunks, size, drained = [self._left], 0, False
        most = _RECORD_BYTES if self._tls is not None else _READ_LIMIT
        while size < _READ_LIMIT:
            try:
                chunk = self._socket.recv(most)
            except _NOT_NOW:
                drained = True
                break
            if not chunk:
                if not size:
                    raise LinkError("the broker closed the connection; it ended, or another hub took over")
                break  # its last packets may say why; the next read finds the end again
            chunks.append(chunk)
            size += len(chunk)
        data = b"".join(chunks)
        parsed = parse(data)
        self._left = data[parsed.used :]
        return parsed, drained


class Parsed(NamedTuple):
    """What a stretch of bytes held: published messages, other packets, and how many bytes they took."""

    uplinks: list[Uplink]
    packets: list[Packet]
    used: int


def parse(data: bytes) -> Parsed:
    """Return the whole packets at the start of `data`.

    Raises `LinkError` for what cannot be a packet: after that, nothing on the connection can be trusted.
    """
    uplinks: list[Uplink] = []
    packets: list[Packet] = []
    view, position, end = memoryview(data), 0, len(data)
    read, take, publish, same = mqtt5.read, uplinks.append, mqtt5.PublishPacket, _CONTENT_TYPES.get
    while position < end:
        try:
            packet, size = read(view[position:])
        except IndexError:
            if frame_size(data, position) > FRAME_LIMIT:
                raise LinkError("the broker sent a packet over the limit") from None
            break
        except ValueError as error:
            raise LinkError(f"the broker sent a malformed packet: {error}") from None
        except BaseException as error:
            # The codec panics on text that is not UTF-8, and its panic is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            size = frame_size(data, position)
            take(_garbled(data[position : position + size]))
        else:
            if type(packet) is publish:
                kind = packet.content_type
                take(
                    Uplink(packet.topic, packet.payload, same(kind, kind), packet.duplicate, packet.packet_id)
                )
            else:
                packets.append(packet)
        position += size
    return Parsed(uplinks, packets, position)


def frame_size(data: bytes, start: int) -> int:
    """Return the size of the packet that begins at `start`, 0 when its length is not whole yet."""
    length = shift = 0
    for index in range(start + 1, min(start + 5, len(data))):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if not data[index] & 0x80:
            return index + 1 - start + length
    return 0


def _garbled(frame: bytes) -> Garbled:
    if frame[0] >> 4 != 3:
        raise LinkError("the broker sent text that is not UTF-8")
    position = 2
    while frame[position - 1] & 0x80:
        position += 1
    end = position + 2 + int.from_bytes(frame[position : position + 2], "big")
    topic = frame[position + 2 : end].decode("utf-8", "replace")
    if frame[0] & 0x06:
        return Garbled(topic, frame[end + 2 :], packet_id=int.from_bytes(frame[end : end + 2], "big"))
    return Garbled(topic, frame[end:])


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return a PUBACK with reason Success for each id, in order.

    >>> pubacks([1, 258]).hex()
    '4002000140020102'
    """
    return struct.pack(f">{len(packet_ids)}I", *[0x40020000 | packet_id for packet_id in packet_ids])
