"""Maintenance windows: wall-clock time in a zone, across midnight and daylight saving; in doubt, shut."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topics.kit import manifest
from topics import codec
from topics.documents import Manifest, Window
from topics.eligibility import in_window, utc_only
from topics.errors import DecodeError

ALL_DAYS = [0, 1, 2, 3, 4, 5, 6]


def zones(name: str) -> tzinfo | None:
    """Look a zone up as the agent does: None for one that is not there."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def at(text: str) -> int:
    """Return the milliseconds of an ISO 8601 time with its offset."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def window(start: str, end: str, *, days: list[int] | None = None, zone: str = "Europe/Berlin") -> Window:
    return Window(days=ALL_DAYS if days is None else days, start=start, end=end, zone=zone)


NIGHT = window("22:00", "04:30")
MONDAY_NIGHT = window("22:00", "04:30", days=[0])
MORNING = window("02:15", "02:45")
ROWS = [
    pytest.param(window("08:00", "17:00"), "2025-06-16T08:00:00+02:00", True, id="the start is in"),
    pytest.param(window("08:00", "17:00"), "2025-06-16T07:59:59+02:00", False, id="a second before the start"),
    pytest.param(window("08:00", "17:00"), "2025-06-16T16:59:59+02:00", True, id="a second before the end"),
    pytest.param(window("08:00", "17:00"), "2025-06-16T17:00:00+02:00", False, id="the end is out"),
    pytest.param(window("08:00", "08:00"), "2025-06-16T03:00:00+02:00", True, id="equal ends: the whole day"),
    pytest.param(
        window("08:00", "08:00", days=[0]), "2025-06-17T07:59:00+02:00", True, id="equal ends: until the next morning"
    ),
    pytest.param(window("08:00", "08:00", days=[0]), "2025-06-17T08:00:00+02:00", False, id="equal ends: no longer"),
    pytest.param(NIGHT, "2025-06-16T23:59:59+02:00", True, id="before midnight"),
    pytest.param(NIGHT, "2025-06-17T00:00:00+02:00", True, id="after midnight"),
    pytest.param(NIGHT, "2025-06-17T04:30:00+02:00", False, id="the end after midnight is out"),
    pytest.param(NIGHT, "2025-06-16T12:00:00+02:00", False, id="noon is not in the night"),
    pytest.param(MONDAY_NIGHT, "2025-06-17T03:00:00+02:00", True, id="Tuesday 3:00 belongs to Monday's night"),
    pytest.param(MONDAY_NIGHT, "2025-06-16T03:00:00+02:00", False, id="Monday 3:00 belongs to Sunday's night"),
    pytest.param(MONDAY_NIGHT, "2025-06-17T22:30:00+02:00", False, id="Tuesday night is another"),
    pytest.param(window("00:00", "06:00", days=[6]), "2025-06-15T00:00:00+02:00", True, id="Sunday is day 6"),
    pytest.param(window("08:00", "17:00"), "2025-06-16T06:30:00+00:00", True, id="the zone's clock counts, not UTC"),
    # Berlin skips 02:00-03:00 on 30 March 2025 and repeats it on 26 October 2025.
    pytest.param(MORNING, "2025-03-30T01:59:59+01:00", False, id="spring: just before the skipped hour"),
    pytest.param(MORNING, "2025-03-30T03:00:00+02:00", False, id="spring: within the skipped hour it never opens"),
    pytest.param(window("01:30", "03:30"), "2025-03-30T01:30:00+01:00", True, id="spring: opens before the skip"),
    pytest.param(window("01:30", "03:30"), "2025-03-30T03:29:00+02:00", True, id="spring: still open after the skip"),
    pytest.param(window("01:30", "03:30"), "2025-03-30T03:30:00+02:00", False, id="spring: an hour shorter"),
    pytest.param(MORNING, "2025-10-26T02:30:00+02:00", True, id="autumn: the first 02:30"),
    pytest.param(MORNING, "2025-10-26T02:50:00+02:00", False, id="autumn: between the two"),
    pytest.param(MORNING, "2025-10-26T02:30:00+01:00", True, id="autumn: the second 02:30"),
    pytest.param(NIGHT, "2025-03-30T04:29:00+02:00", True, id="spring: the night ends by the new clock"),
    pytest.param(NIGHT, "2025-10-26T04:30:00+01:00", False, id="autumn: the night ends by the new clock"),
    pytest.param(
        window("02:05", "02:20", zone="Australia/Lord_Howe"), "2025-10-05T02:35:00+11:00", False,
        id="Lord Howe skips only half an hour",
    ),
    pytest.param(
        window("08:00", "09:00", zone="Asia/Kathmandu"), "2025-06-16T08:15:00+05:45", True, id="an offset of 5:45"
    ),
    pytest.param(
        window("00:00", "23:59", days=[4], zone="Pacific/Kiritimati"), "2025-06-12T10:00:00+00:00", True,
        id="Friday there, Thursday in UTC",
    ),
    # In doubt, shut.
    pytest.param(window("00:00", "23:59", zone="Mars/Olympus"), "2025-06-16T12:00:00+00:00", False, id="unknown zone"),
    pytest.param(window("00:00", "23:59", zone=""), "2025-06-16T12:00:00+00:00", False, id="no zone"),
    pytest.param(window("00:00", "23:59", zone="../../etc/passwd"), "2025-06-16T12:00:00+00:00", False, id="a path"),
    pytest.param(window("00:00", "23:59", zone="/etc/localtime"), "2025-06-16T12:00:00+00:00", False, id="a full path"),
]  # fmt: skip


@pytest.mark.parametrize(("shut_or_open", "moment", "open_"), ROWS)
def test_window(shut_or_open: Window, moment: str, open_: bool) -> None:
    assert in_window(shut_or_open, "UTC", at(moment), zones) is open_


def test_no_window_is_always_open() -> None:
    assert in_window(None, "Mars/Olympus", 0, zones)


@pytest.mark.parametrize(
    ("device_zone", "open_"),
    [("Europe/Berlin", True), ("America/New_York", False), ("", False), ("local", False)],
)
def test_zone_device_means_that_of_the_device(device_zone: str, open_: bool) -> None:
    own = window("08:00", "17:00", zone="device")
    assert in_window(own, device_zone, at("2025-06-16T08:30:00+02:00"), zones) is open_


def test_without_zone_data_only_utc_is_known() -> None:
    noon = at("2025-06-16T12:00:00+00:00")
    assert in_window(window("11:00", "13:00", zone="UTC"), "UTC", noon, utc_only)
    assert not in_window(window("00:00", "23:59"), "UTC", noon, utc_only)


def test_a_time_beyond_the_calendar_is_outside() -> None:
    """In Kiritimati the year 10000 begins fourteen hours early."""
    end_of_time = 253_402_300_799_999
    assert not in_window(window("00:00", "00:00", zone="Pacific/Kiritimati"), "UTC", end_of_time, zones)
    assert in_window(window("00:00", "00:00", zone="UTC"), "UTC", end_of_time, zones)


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param({"start": "24:00"}, id="24:00"),
        pytest.param({"start": "8:00"}, id="one digit"),
        pytest.param({"start": "08:60"}, id="60 minutes"),
        pytest.param({"start": "08:00\n"}, id="a line end"),
        pytest.param({"start": "08:00:00"}, id="seconds"),
        pytest.param({"start": "０8:00"}, id="a full-width digit"),
        pytest.param({"end": ""}, id="no end"),
        pytest.param({"end": None}, id="nothing"),
        pytest.param({"days": []}, id="no day"),
        pytest.param({"days": [7]}, id="an eighth day"),
        pytest.param({"days": ["mon"]}, id="a day by name"),
        pytest.param({"days": [0, 1, 2, 3, 4, 5, 6, 0]}, id="more days than a week has"),
    ],
)
def test_a_malformed_window_refuses_the_whole_manifest(malformed: dict[str, object]) -> None:
    """It never reads as no window: that would open it."""
    tree = msgspec.to_builtins(manifest(stable=None, window=NIGHT), builtin_types=(bytes,))
    tree["window"].update(malformed)
    with pytest.raises(DecodeError, match="invalid"):
        codec.decode_signed(msgspec.msgpack.encode(tree), Manifest, limit=16_384)


def test_over_a_year_every_day_opens_as_often_as_it_should() -> None:
    """Each hour of 2025 asked once: a window outside the changing hours opens the same number of hours every day."""
    open_hours: dict[int, int] = {}
    hour = datetime(2025, 1, 1, tzinfo=ZoneInfo("UTC"))
    while hour.year == 2025:
        local = hour.astimezone(ZoneInfo("Europe/Berlin"))
        if in_window(
            window("08:00", "17:00", days=[0, 1, 2, 3, 4]), "UTC", int(hour.timestamp() * 1000), zones
        ):
            day = local.timetuple().tm_yday
            open_hours[day] = open_hours.get(day, 0) + 1
            assert local.weekday() < 5
        hour += timedelta(hours=1)
    assert set(open_hours.values()) == {9}
    assert len(open_hours) == 261, "working days of 2025"


@given(
    st.integers(0, 253_402_300_799_999),
    st.builds(
        Window,
        days=st.lists(st.integers(0, 6), min_size=1, max_size=7),
        start=st.times().map(lambda time: f"{time:%H:%M}"),
        end=st.times().map(lambda time: f"{time:%H:%M}"),
        zone=st.sampled_from(
            ["UTC", "device", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Mars/Olympus", "\0"]
        ),
    ),
)
def test_any_window_at_any_time_gives_an_answer(now: int, any_window: Window) -> None:
    assert in_window(any_window, "America/New_York", now, zones) in (True, False)
