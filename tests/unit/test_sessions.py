"""Laws of the session table. Facts of the exchange: NYSE's published holidays and early closings."""

from __future__ import annotations

import itertools
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tradecore import sessions
from tradecore.errors import NotASession, SessionError

XNYS = sessions.calendar("XNYS")
NEW_YORK = ZoneInfo("America/New_York")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def write_calendar(path: Path, *lines: str) -> str:
    path.write_text("\n".join([sessions.HEADER, *lines]) + "\n", encoding="utf-8")
    return str(path)


def test_every_session_opens_at_half_past_nine_in_new_york_whatever_the_daylight_saving() -> None:
    labels = XNYS.sessions_in_range(XNYS.first_session, XNYS.last_session)
    offsets = set()
    for label in labels:
        session = XNYS.session(label)
        opens, closes = session.open_at.astimezone(NEW_YORK), session.close_at.astimezone(NEW_YORK)
        assert (opens.date(), opens.time()) == (label, time(9, 30))
        assert (closes.date(), closes.time()) in {(label, time(16)), (label, time(13))}, label
        offsets.add(opens.utcoffset())
    assert offsets == {timedelta(hours=-5), timedelta(hours=-4)}


def test_half_days_and_holidays_are_the_exchanges() -> None:
    for label in ("2004-11-26", "2010-11-26", "2012-12-24", "2013-07-03", "2024-07-03", "2025-11-28"):
        assert XNYS.session(date.fromisoformat(label)).close_at.astimezone(NEW_YORK).time() == time(13), label
    closed = (
        "2001-09-11",
        "2001-09-14",
        "2004-06-11",
        "2007-01-02",
        "2012-10-29",
        "2012-10-30",
        "2018-12-05",
        "2024-01-15",
        "2025-01-09",
        "2005-03-25",
        "2022-06-20",
    )
    assert not any(XNYS.is_session(date.fromisoformat(label)) for label in closed)
    assert len(XNYS.sessions_in_range(date(2005, 1, 1), date(2005, 12, 31))) == 252


def test_table_agrees_with_exchange_calendars() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tradecore.sessions", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(sessions.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_reading_sessions_imports_neither_numpy_nor_pandas() -> None:
    code = (
        "import sys; from tradecore import sessions; sessions.calendar('XNYS').last_session; "
        "print([m for m in ('numpy', 'pandas', 'exchange_calendars', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(Path(sessions.__file__).parents[1])},
    )
    assert done.stdout.strip() == "[]"


def test_neighbours_skip_weekends_and_holidays() -> None:
    assert XNYS.next_session(date(2005, 7, 1)) == date(2005, 7, 5)
    assert XNYS.previous_session(date(2005, 7, 5)) == date(2005, 7, 1)
    assert XNYS.next_session(date(2005, 7, 4)) == date(2005, 7, 5)
    assert XNYS.previous_session(date(2005, 7, 4)) == date(2005, 7, 1)
    assert XNYS.sessions_in_range(date(2005, 7, 2), date(2005, 7, 4)) == ()


def test_a_holiday_is_refused_with_its_nearest_sessions() -> None:
    with pytest.raises(
        NotASession, match=r"2005-07-04 \(Monday\) is not a session of XNYS.*2005-07-01 and 2005-07-05"
    ) as e:
        XNYS.session(date(2005, 7, 4))
    assert (e.value.previous, e.value.following) == (date(2005, 7, 1), date(2005, 7, 5))
    assert e.value.next_step


@pytest.mark.parametrize(
    "call",
    [
        lambda: XNYS.session(date(2040, 1, 3)),
        lambda: XNYS.is_session(date(2040, 1, 3)),
        lambda: XNYS.next_session(XNYS.last_session),
        lambda: XNYS.sessions_in_range(date(2029, 1, 1), date(2040, 1, 3)),
        lambda: XNYS.session_at_or_before(utc("2040-01-03T22:00")),
    ],
)
def test_beyond_the_table_the_error_names_the_command_that_extends_it(call) -> None:
    with pytest.raises(NotASession, match=r"outside the table|2030-12-31") as e:
        call()
    if e.value.session_date > XNYS.last_session:
        assert "python -m tradecore.sessions --build" in e.value.next_step


def test_last_closed_session_of_an_instant() -> None:
    close = utc("2005-02-28T21:00")
    assert XNYS.session_at_or_before(close) == date(2005, 2, 28)
    assert XNYS.session_at_or_before(close - timedelta(seconds=1)) == date(2005, 2, 25)
    assert XNYS.session_at_or_before(utc("2005-07-04T23:00")) == date(2005, 7, 1)
    assert XNYS.session_after(close).session_date == date(2005, 3, 1)


def test_bars_end_on_the_step_and_the_last_one_at_the_close() -> None:
    assert XNYS.bar_ends(date(2005, 2, 28), "1d") == (utc("2005-02-28T21:00"),)
    assert XNYS.bar_ends(date(2005, 2, 28), "195m") == (utc("2005-02-28T17:45"), utc("2005-02-28T21:00"))
    assert XNYS.bar_ends(date(2004, 11, 26), "195m") == (utc("2004-11-26T17:45"), utc("2004-11-26T18:00"))
    assert XNYS.bar_ends(date(2005, 2, 28), "60m")[-2:] == (utc("2005-02-28T20:30"), utc("2005-02-28T21:00"))
    assert len(XNYS.bar_ends(date(2005, 2, 28), "1m")) == 390
    assert XNYS.bar_ends(date(2005, 2, 28), "390m") == XNYS.bar_ends(date(2005, 2, 28), "1d")


@pytest.mark.parametrize("timeframe", ["1d", "195m", "60m"])
def test_next_and_previous_bar_end_walk_the_same_chain(timeframe: str) -> None:
    ends = XNYS.bar_ends_in_range(date(2004, 11, 22), date(2005, 1, 5), timeframe)
    assert len(set(ends)) == len(ends)
    for before, after in itertools.pairwise(ends):
        assert XNYS.next_bar_end(before, timeframe) == after
        assert XNYS.previous_bar_end(after, timeframe) == before
    assert all(XNYS.session_of(end) in XNYS.sessions_in_range(date(2004, 11, 22), date(2005, 1, 5)) for end in ends)


def test_a_time_outside_every_session_belongs_to_none() -> None:
    with pytest.raises(NotASession, match="within no session"):
        XNYS.session_of(utc("2005-02-28T21:00:01"))
    with pytest.raises(NotASession):
        XNYS.session_of(utc("2005-02-28T14:30"))  # the open ends no bar


@pytest.mark.parametrize("timeframe", ["1h", "0m", "m", "-5m", "1441m", "5 m", "٣m"])
def test_unknown_timeframe_is_refused(timeframe: str) -> None:
    with pytest.raises(SessionError, match="neither '1d' nor"):
        XNYS.bar_ends(date(2005, 2, 28), timeframe)


def test_unknown_calendar_names_the_known_ones() -> None:
    with pytest.raises(SessionError, match="known: XNYS, 24/7"):
        sessions.calendar("XNYZ")


def test_a_table_given_by_path_stands_in_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "minute.csv"
    name = write_calendar(path, "2026-11-21,2026-11-21T10:00Z,2026-11-21T10:01Z")
    assert sessions.calendar(name).bar_ends(date(2026, 11, 21), "1d") == (utc("2026-11-21T10:01"),)
    assert sessions.calendar(name) is sessions.calendar(name)
    write_calendar(
        path,
        "2026-11-21,2026-11-21T10:00Z,2026-11-21T10:01Z",
        "2026-11-22,2026-11-22T10:00:30+00:00,2026-11-22T10:01:15+00:00",
    )
    assert sessions.calendar(name).session(date(2026, 11, 22)).close_at == utc("2026-11-22T10:01:15")


@pytest.mark.parametrize(
    "lines, message",
    [
        (["2026-11-21,2026-11-21T10:00Z"], "line 2"),
        (["2026-11-21,2026-11-21T10:00,2026-11-21T10:01"], "UTC offset"),
        (["2026-11-21,2026-11-21T10:01Z,2026-11-21T10:00Z"], "not after its open"),
        (
            [
                "2026-11-22,2026-11-22T10:00Z,2026-11-22T10:01Z",
                "2026-11-21,2026-11-21T10:00Z,2026-11-21T10:01Z",
            ],
            "does not come after",
        ),
        ([], "no session"),
    ],
)
def test_a_bad_table_says_where(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SessionError, match=message):
        sessions.calendar(write_calendar(tmp_path / "bad.csv", *lines))


def test_a_table_without_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "headless.csv"
    path.write_text("2026-11-21,2026-11-21T10:00Z,2026-11-21T10:01Z\n", encoding="utf-8")
    with pytest.raises(SessionError, match="expected 'session_date,open_at,close_at'"):
        sessions.calendar(str(path))


def test_a_market_that_never_closes_has_a_session_each_day_from_midnight_to_midnight() -> None:
    always = sessions.calendar("24/7")
    saturday = date(2024, 3, 9)
    assert always.is_session(saturday)
    assert always.next_session(saturday) == date(2024, 3, 10)  # New York's clocks change; UTC's do not
    session = always.session(saturday)
    assert (session.open_at, session.close_at) == (
        datetime(2024, 3, 9, tzinfo=UTC),
        datetime(2024, 3, 10, tzinfo=UTC),
    )
    assert always.bar_ends(saturday, "1d") == (session.close_at,)
    assert len(always.bar_ends(saturday, "60m")) == 24
    assert always.session_of(session.close_at) == saturday
    assert always.next_bar_end(session.close_at, "1d") == datetime(2024, 3, 11, tzinfo=UTC)
    assert (always.sessions_per_year, sessions.calendar("XNYS").sessions_per_year) == (365.0, 252.0)
    assert sessions.calendar("24/7") is always
