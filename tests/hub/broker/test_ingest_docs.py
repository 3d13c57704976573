"""`docs/reference/ingest.md` says what the code does: reasons, numbers and metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub.broker import commit, observed, session
from hub.broker.config import PACKET_LIMIT, BrokerSettings
from hub.broker.ingest import BACKOFF_SECONDS
from hub.broker.reduce import FIRST_BYTES, REASONS
from hub.broker.session import IngestSettings
from hub.telemetry import retention, rollups, seen
from topics.channels import UPLINK_LIMIT

DOCS = Path(__file__).parents[3] / "docs" / "reference"
PAGE = (DOCS / "ingest.md").read_text()
TEXT = " ".join(PAGE.split())
SETTINGS = IngestSettings("acme", 1)
BROKER = BrokerSettings(Path(), "acme")


def test_every_reason_for_quarantine_is_documented_and_no_other() -> None:
    table = PAGE.partition("## Quarantine")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.M) == list(REASONS)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(f"a batch of {SETTINGS.batch:,} messages", id="batch"),
        pytest.param(f"or {session.BATCH_BYTES >> 20} MiB;", id="batch-bytes"),
        pytest.param(f"ends {SETTINGS.window * 1000:.0f} ms after its first", id="window"),
        pytest.param(f"after {session.WINDOW_LIMIT * 1000:.0f} ms while", id="window-limit"),
        pytest.param(f"receive maximum {SETTINGS.receive_maximum:,}", id="receive-maximum"),
        pytest.param(f"the same again in {session.RETRY_SECONDS:g} s", id="retry"),
        pytest.param(f"for {session.SESSION_SECONDS // 86_400} days, up to", id="session"),
        pytest.param(f"{BROKER.max_queued_messages:,} messages", id="queue"),
        pytest.param(f"or {BROKER.max_queued_bytes >> 20} MiB.", id="queue-bytes"),
        pytest.param(f"maximum or {session.PENDING_BYTES >> 20} MiB wait in memory", id="pending"),
        pytest.param(f"pause of up to {BACKOFF_SECONDS[0]:g} s", id="backoff"),
        pytest.param(f"up to {BACKOFF_SECONDS[1]:g} s after many", id="backoff-limit"),
        pytest.param(f"after {session.CONNECT_SECONDS:g} s without an answer", id="connect"),
        pytest.param(f"or {session.KEEPALIVE * 1.5:g} s of silence", id="keepalive"),
        pytest.param(f"set by more than {observed.JUMP_MS // 1000} s", id="jump"),
        pytest.param(f"for more than {observed.STALE_S:g} s,", id="stale"),
        pytest.param(f"up to {seen.GAPS} gaps", id="gaps"),
        pytest.param(f"more than {rollups.AHEAD_S // 60} minutes ahead", id="ahead"),
        pytest.param(f"more than {rollups.BEHIND_S // 86_400} days behind", id="behind"),
        pytest.param(f"more than {UPLINK_LIMIT >> 10} KiB", id="body"),
        pytest.param(f"beyond {PACKET_LIMIT >> 10} KiB", id="packet"),
        pytest.param(f"the first {FIRST_BYTES} bytes", id="first-bytes"),
        pytest.param(f"of the first {commit.QUARANTINE_LIMIT:,} messages", id="quarantine"),
        pytest.param(f"deleted after {retention.QUARANTINE_DAYS} days", id="quarantine-days"),
    ],
)
def test_every_number_is_the_codes_own(words: str) -> None:
    assert words in TEXT


def test_every_metric_that_it_names_exists() -> None:
    known = (DOCS / "metrics.md").read_text()
    named = re.findall(r"`(flaghoist_[a-z_]+)`", PAGE)
    assert len(named) > 4
    assert [name for name in named if f"`{name}`" not in known] == []
