"""Where a device stands in a rollout: the published vectors, and what a share means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.eligibility import BUCKETS, bucket, takes_candidate

VECTORS = json.loads((Path(__file__).parent / "bucket_vectors.json").read_text())
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "bucket.md"

release_ids = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
device_ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
shares = st.integers(0, BUCKETS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['release']}:{vector['device']}")
def test_vector(vector: dict[str, str | int]) -> None:
    assert bucket(str(vector["release"]), str(vector["device"])) == vector["bucket"]


def test_vectors_reach_both_ends() -> None:
    assert len(VECTORS) >= 12
    assert {0, BUCKETS - 1} <= {vector["bucket"] for vector in VECTORS}


def test_reference_page_shows_the_vectors() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (\d+) \|$", REFERENCE.read_text(), re.MULTILINE)
    assert [(vector["release"], vector["device"], str(vector["bucket"])) for vector in VECTORS] == rows


def test_reference_page_shows_the_steps_of_the_first_vector() -> None:
    """Somebody who writes an agent in another language checks each step against it."""
    steps = dict(re.findall(r"^(SHA-256|first 8 bytes|bucket) +(.+)$", REFERENCE.read_text(), re.MULTILINE))
    digest, first = steps["SHA-256"], steps["first 8 bytes"]
    assert first == f"{digest[:16]} = {int(digest[:16], 16)}"
    assert int(steps["bucket"]) == int(digest[:16], 16) % 10_000 == VECTORS[0]["bucket"]


@given(release_ids, device_ids, shares, shares)
def test_raising_the_share_only_adds_devices(release: str, device: str, one: int, other: int) -> None:
    lower, higher = sorted((one, other))
    assert takes_candidate(release, device, lower) <= takes_candidate(release, device, higher)


@given(release_ids, device_ids)
def test_share_nothing_takes_nobody_and_share_full_everybody(release: str, device: str) -> None:
    assert not takes_candidate(release, device, 0)
    assert takes_candidate(release, device, BUCKETS)
    assert 0 <= bucket(release, device) < BUCKETS


@pytest.mark.parametrize("name", ["shop-{}", "b827eb{:06x}", "{}"])
def test_devices_spread_evenly_whatever_they_are_called(name: str) -> None:
    """Chi-square over 20 bands of 10,000 devices; 43.8 is passed once in a thousand fair draws, and data are fixed."""
    bands = [0] * 20
    for number in range(10_000):
        bands[bucket("kiosk-7-3f2a9c1b5d4e", name.format(number)) // 500] += 1
    assert sum((count - 500) ** 2 / 500 for count in bands) < 43.8


def test_another_release_puts_the_devices_in_another_order() -> None:
    """Otherwise the same shops would always be first. Of 2,000 devices, a tenth of a tenth is first twice."""
    devices = [f"shop-{number}" for number in range(2_000)]
    first, second = (
        {device for device in devices if takes_candidate(release, device, 1_000)}
        for release in ("kiosk-7-3f2a9c1b5d4e", "kiosk-8-0c4d2e6fa1b3")
    )
    assert 150 < len(first) < 250
    assert 150 < len(second) < 250
    assert len(first & second) < 45
