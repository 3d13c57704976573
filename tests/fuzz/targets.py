"""What is fuzzed: readers of bytes that strangers send. Each takes any bytes: it reads them or refuses by our errors.

Where a reader would stop at a signature or a checksum, the bytes are given one first: what counts is what is behind it.
"""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final

import msgspec

from edge.config import Paths, load_settings, load_variables
from edge.errors import EdgeError
from edge.polling import notes
from hub.artifacts import ranges
from hub.broker.config import may_subscribe, parse_subscription
from hub.broker.reduce import Uplink, reduce
from hub.broker.wire import LinkError, parse
from hub.deployment.policy import read_policy
from hub.errors import RequestError
from hub.times import zones
from tests.topics import kit
from tests.topics.samples import SAMPLES
from topics import bundle, channels, codec, devicetoken, enrolment, envelope, schema, trust
from topics.archive import Gunzip, Reader
from topics.channels import MANIFEST_LIMIT, UPLINK_LIMIT
from topics.errors import DecodeError, TopicError, TrustError

Target = Callable[[bytes], None]
TAR_LIMIT: Final = 1 << 20
BLOCK: Final = 512
KINDS: Final = [kind for _, kind in schema.KINDS.values()]
UPLINK_TOPICS: Final = [channel.topic(kit.FLEET, id="shop-1") for channel in channels.UPLINKS]
PINNED: Final = kit.pinned()
JWT: Final = devicetoken.make(
    kit.key(kit.DEVICE),
    devicetoken.Claims(
        kit.DEVICE, devicetoken.audience(kit.FLEET), kit.NOW // 1000, kit.NOW // 1000 + 60, "1"
    ),
)


def bodies(data: bytes) -> None:
    """Messages: whatever is read and written again is read as the same."""
    for kind in KINDS:
        for content_type in (codec.MSGPACK, codec.JSON):
            with contextlib.suppress(DecodeError):
                read = codec.decode(data, kind, limit=UPLINK_LIMIT, content_type=content_type)
                again = codec.encode(read, content_type)
                assert codec.decode(again, kind, limit=2 * UPLINK_LIMIT, content_type=content_type) == read


def signed_maps(data: bytes) -> None:
    """Signed documents: what two readers could read in two ways is refused."""
    for kind in KINDS:
        with contextlib.suppress(DecodeError):
            read = codec.decode_signed(data, kind, limit=UPLINK_LIMIT)
            assert codec.decode_signed(codec.encode(read), kind, limit=2 * UPLINK_LIMIT) == read


def reports(data: bytes) -> None:
    """A batch as ingest gets it: all that cannot be read is refused, and nothing is lost."""
    arrivals = [Uplink(topic, data, kind) for topic in UPLINK_TOPICS for kind in (None, codec.JSON)]
    with contextlib.suppress(UnicodeDecodeError):
        arrivals.append(Uplink(data.decode(), b"\x80"))
    reduce(arrivals)


def wire(data: bytes) -> None:
    """Bytes from the broker."""
    with contextlib.suppress(LinkError):
        assert parse(data).used <= len(data)


def envelopes(data: bytes) -> None:
    """Envelopes: one that opens and carries the signatures it should is believed for its payload alone."""
    with contextlib.suppress(TrustError):
        opened = envelope.open_envelope(data, limit=MANIFEST_LIMIT)
        keys = {kit.keyid("hub-1"): kit.public("hub-1")}
        envelope.verify(opened, "manifest", keys, 1, signer="deployment")
    for accept in (
        lambda: trust.open_root(data),
        lambda: trust.pin_root(data, trust.sha256(data)),
        lambda: trust.advance_root(PINNED, data),
        lambda: trust.open_release(PINNED.root, data),
    ):
        with contextlib.suppress(TrustError):
            accept()


def documents(data: bytes) -> None:
    """Payloads that the right keys signed, whatever is in them: the marks of time and the floors never fall."""

    def by(kind: str, signer: str) -> bytes:
        return envelope.sign(data, kind, [kit.key(signer)])

    for kind, accept in (
        ("manifest", trust.accept_manifest),
        ("desired", trust.accept_desired),
    ):
        topic = kit.TOPIC if kind == "manifest" else kit.DESIRED_TOPIC
        with contextlib.suppress(TrustError):
            state, _ = accept(PINNED, topic, by(kind, "hub-1"), kit.CLOCK)
            assert state.issued_at(topic) > PINNED.issued_at(topic)
    with contextlib.suppress(TrustError):
        trust.accept_config(PINNED, kit.DEVICE, by("config", "hub-1"))
    with contextlib.suppress(TrustError):
        trust.accept_credentials(PINNED, kit.DEVICE, by("credentials", "hub-1"), b"n" * 32)
    with contextlib.suppress(TrustError):
        assert trust.open_release(PINNED.root, by("release", "release-1")).fleet == kit.FLEET
    with contextlib.suppress(TrustError):
        trust.advance_root(PINNED, by("root", "root-1"))


def archives(data: bytes) -> None:
    """Tars with right checksums, and gzip: no path leads out, and no more is given than was allowed."""
    for read in (BytesIO(_with_checksums(data)).read, Gunzip(BytesIO(data).read, max_bytes=TAR_LIMIT).read):
        with contextlib.suppress(DecodeError):
            total = 0
            reader = Reader(read, max_bytes=TAR_LIMIT)
            for member in reader.members():
                assert not member.path.startswith("/")
                assert ".." not in Path(member.path).parts
                total += sum(map(len, reader.content()))
            assert total <= TAR_LIMIT


def _with_checksums(data: bytes) -> bytes:
    blocks = bytearray(data + bytes(-len(data) % BLOCK) + bytes(2 * BLOCK))
    for start in range(0, len(blocks), BLOCK):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + BLOCK])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


def bundles(data: bytes) -> None:
    """What stands in a bundle."""
    for read in (bundle.parse_info, bundle.parse_checksums):
        with contextlib.suppress(DecodeError):
            read(data)


def settings(data: bytes) -> None:
    """Files that people write, or that a power cut tears: settings, variables, notes, a rollout's policy."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "agent.json").write_bytes(data)
        (root / "device.env").write_bytes(data)
        paths = Paths(root)
        paths.make()
        notes.place(paths).write_bytes(data)
        notes.read(paths)
        with contextlib.suppress(EdgeError):
            load_settings(root, {})
        with contextlib.suppress(EdgeError):
            load_variables(root)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RequestError):
        read_policy(msgspec.json.decode(data), zones)


def words(data: bytes) -> None:
    """Text in one line: topics, tokens, headers, the broker's log."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(TopicError):
        address = channels.parse(text)
        assert text.startswith(f"{address.fleet}/")
    with contextlib.suppress(DecodeError):
        token = enrolment.parse_token(text)
        assert enrolment.parse_token(token.text()) == token
    with contextlib.suppress(DecodeError, TrustError):
        devicetoken.verify(text, kit.public(kit.DEVICE), kit.FLEET, kit.NOW // 1000)
    with contextlib.suppress(ranges.Unsatisfiable):
        found = ranges.parse(text, 1_000)
        assert found is None or 0 <= found[0] <= found[1] <= 1_000
    if (line := parse_subscription(text)) and may_subscribe(kit.FLEET, "shop-1", line[1]):
        assert "#" not in line[1]
        assert not line[1].startswith("$")


_MESSAGES: Final = [
    codec.encode(sample, content_type) for sample in SAMPLES.values() for content_type in (codec.MSGPACK, codec.JSON)
]  # fmt: skip
_TAR: Final = b"".join(
    name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % len(content) + b"0" * 11 + b"\0"
    + b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247) + content + bytes(-len(content) % BLOCK)
    for name, content, kind in (
        (b"bundle.json", b'{"role": "kiosk", "hook": "exec"}', b"0"), (b"files/", b"", b"5"), (b"files/a", b"a", b"0"),
    )
)  # fmt: skip

TARGETS: Final[dict[str, tuple[Target, list[bytes]]]] = {
    "bodies": (bodies, _MESSAGES),
    "signed_maps": (signed_maps, _MESSAGES[::2]),
    "reports": (reports, _MESSAGES),
    "wire": (wire, [b"\x20\x03\x00\x00\x00", b"\x32\x0b\x00\x01a\x00\x01\x03\x03\x00\x00x", b"\xd0\x00"]),
    "envelopes": (envelopes, [kit.signed_manifest(), kit.signed_root(2), kit.signed_release()]),
    "documents": (
        documents,
        [
            codec.encode(one)
            for one in (kit.manifest(), kit.desired(), kit.config(), kit.release(), kit.root(2))
        ],
    ),
    "archives": (archives, [_TAR, gzip.compress(_TAR, mtime=0)]),
    "bundles": (bundles, [b'{"role": "kiosk", "hook": "exec"}', bundle.checksums_bytes([])]),
    "settings": (
        settings,
        [b"{}", b"NAME=value\n", b'{"update_interval": 5}', b'{"failure": {"max_ratio": 0.5}}'],
    ),
    "words": (
        words,
        [
            *[topic.encode() for topic in UPLINK_TOPICS],
            enrolment.Token(b"s" * 32, "a" * 64, "b" * 64).text().encode(),
            JWT.encode(),
            b"bytes=0-9",
            b"shop-1 1 acme/v1/trust/root",
        ],
    ),
}
"""By name: what is fuzzed, and where the fuzzer begins. What it found once is kept in `corpus/NAME` besides."""
