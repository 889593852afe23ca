"""The scheduler's runs are the exchange's sessions: no more, no fewer, at the right minute.

Golden dates: holidays and early closes of the NYSE, 2016 to 2025 (its 'Holidays & Trading Hours', and
the days of mourning 2018-12-05 and 2025-01-09), typed in by hand; tolerance none.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction

from tradecore.sessions import calendar
from tradecore_ui import session_timetable
from tradecore_ui.session_timetable import SessionTimetable, midnight

NEW_YORK = ZoneInfo("America/New_York")
YEARS = range(2016, 2026)
DELAY = timedelta(minutes=30)
HOLIDAYS = """
2016-01-01 2016-01-18 2016-02-15 2016-03-25 2016-05-30 2016-07-04 2016-09-05 2016-11-24 2016-12-26
2017-01-02 2017-01-16 2017-02-20 2017-04-14 2017-05-29 2017-07-04 2017-09-04 2017-11-23 2017-12-25
2018-01-01 2018-01-15 2018-02-19 2018-03-30 2018-05-28 2018-07-04 2018-09-03 2018-11-22 2018-12-05 2018-12-25
2019-01-01 2019-01-21 2019-02-18 2019-04-19 2019-05-27 2019-07-04 2019-09-02 2019-11-28 2019-12-25
2020-01-01 2020-01-20 2020-02-17 2020-04-10 2020-05-25 2020-07-03 2020-09-07 2020-11-26 2020-12-25
2021-01-01 2021-01-18 2021-02-15 2021-04-02 2021-05-31 2021-07-05 2021-09-06 2021-11-25 2021-12-24
2022-01-17 2022-02-21 2022-04-15 2022-05-30 2022-06-20 2022-07-04 2022-09-05 2022-11-24 2022-12-26
2023-01-02 2023-01-16 2023-02-20 2023-04-07 2023-05-29 2023-06-19 2023-07-04 2023-09-04 2023-11-23 2023-12-25
2024-01-01 2024-01-15 2024-02-19 2024-03-29 2024-05-27 2024-06-19 2024-07-04 2024-09-02 2024-11-28 2024-12-25
2025-01-01 2025-01-09 2025-01-20 2025-02-17 2025-04-18 2025-05-26 2025-06-19 2025-07-04 2025-09-01 2025-11-27
2025-12-25
"""
HALF_DAYS = """
2016-11-25 2017-07-03 2017-11-24 2018-07-03 2018-11-23 2018-12-24 2019-07-03 2019-11-29 2019-12-24 2020-11-27
2020-12-24 2021-11-26 2022-11-25 2023-07-03 2023-11-24 2024-07-03 2024-11-29 2024-12-24 2025-07-03 2025-11-28
2025-12-24
"""


def dates(text: str) -> list[date]:
    return [date.fromisoformat(word) for word in text.split()]


def timetable(**changes) -> SessionTimetable:
    options = {"calendar": "XNYS", "run_delay_minutes": 30, "last_session": None} | changes
    return SessionTimetable(**options)


def restriction(first: date | None, last: date | None, *, catchup: bool = True) -> TimeRestriction:
    bounds = [None if day is None else midnight(day) for day in (first, last)]
    return TimeRestriction(bounds[0], bounds[1], catchup)


def produced(table: SessionTimetable, first: date, last: date) -> list[DagRunInfo]:
    """Walk the timetable as a backfill does: each answer is the next question."""
    runs: list[DagRunInfo] = []
    while (
        info := table.next_dagrun_info(
            last_automated_data_interval=runs[-1].data_interval if runs else None,
            restriction=restriction(first, last),
        )
    ) is not None:
        runs.append(info)
    return runs


@pytest.fixture
def at(monkeypatch):
    """Set the clock that the timetable reads."""

    def set_clock(moment: str) -> None:
        monkeypatch.setattr(session_timetable.pendulum, "now", lambda _zone: pendulum.parse(moment))

    return set_clock


@pytest.fixture(scope="module")
def ten_years() -> dict[date, DagRunInfo]:
    runs = produced(timetable(), date(YEARS[0], 1, 1), date(YEARS[-1], 12, 31))
    assert len(runs) == len({run.logical_date for run in runs})
    return {run.logical_date.date(): run for run in runs}


def test_runs_over_ten_years_equal_the_table(ten_years):
    table = calendar("XNYS")
    sessions = table.sessions_in_range(date(YEARS[0], 1, 1), date(YEARS[-1], 12, 31))
    assert list(ten_years) == list(sessions)
    assert len(sessions) == 252 + 251 + 251 + 252 + 253 + 252 + 251 + 250 + 252 + 250
    for day, run in ten_years.items():
        close_at = table.session(day).close_at
        assert run.data_interval == DataInterval(midnight(day), pendulum.instance(close_at))
        assert run.run_after == close_at + DELAY


@pytest.mark.parametrize("year", YEARS)
def test_runs_follow_new_york_over_both_daylight_saving_weekends(ten_years, year):
    changes = [
        day
        for day in (date(year, 1, 1) + timedelta(days=n) for n in range(365))
        if datetime.combine(day, time(12), NEW_YORK).utcoffset()
        != datetime.combine(day - timedelta(days=1), time(12), NEW_YORK).utcoffset()
    ]
    assert [day.month for day in changes] == [3, 11]
    assert all(day.weekday() == 6 for day in changes)
    for sunday in changes:
        friday, monday = (ten_years[sunday + timedelta(days=shift)] for shift in (-2, 1))
        for run in (friday, monday):
            assert run.run_after.astimezone(NEW_YORK).time() == time(16, 30)
        moved = friday.run_after.astimezone(UTC).hour - monday.run_after.astimezone(UTC).hour
        assert moved == (1 if sunday.month == 3 else -1)


@pytest.mark.parametrize("day", dates(HOLIDAYS), ids=str)
def test_no_run_on_a_holiday(ten_years, day):
    assert day.weekday() < 5
    assert day not in ten_years


def test_every_other_weekday_has_a_run(ten_years):
    days = (date(YEARS[0], 1, 1) + timedelta(days=n) for n in range(366 * len(YEARS)))
    weekdays = {day for day in days if day.weekday() < 5 and day.year in YEARS}
    assert weekdays - set(ten_years) == set(dates(HOLIDAYS))


@pytest.mark.parametrize("day", dates(HALF_DAYS), ids=str)
def test_a_half_day_runs_after_its_early_close(ten_years, day):
    assert ten_years[day].run_after.astimezone(NEW_YORK).time() == time(13, 30)


def test_every_other_session_runs_after_four(ten_years):
    early = {day for day, run in ten_years.items() if run.run_after.astimezone(NEW_YORK).time() != time(16, 30)}
    assert early == set(dates(HALF_DAYS))


def test_a_backfill_range_includes_both_its_ends():
    runs = produced(timetable(), date(2024, 1, 8), date(2024, 1, 19))
    assert [run.logical_date.day for run in runs] == [8, 9, 10, 11, 12, 16, 17, 18, 19]  # the 15th is MLK day


def test_a_start_date_after_midnight_begins_with_the_next_session():
    bound = TimeRestriction(pendulum.datetime(2024, 1, 8, 9), None, catchup=True)
    info = timetable().next_dagrun_info(last_automated_data_interval=None, restriction=bound)
    assert info.logical_date == midnight(date(2024, 1, 9))


def test_nothing_is_produced_past_the_end_of_the_feed():
    runs = produced(timetable(last_session=date(2013, 3, 1)), date(2013, 2, 27), date(2013, 3, 15))
    assert [run.logical_date.date() for run in runs] == dates("2013-02-27 2013-02-28 2013-03-01")


def test_nothing_is_produced_past_the_end_of_the_table():
    last = calendar("XNYS").last_session
    assert len(produced(timetable(), last, last + timedelta(days=30))) == 1


@pytest.mark.parametrize(
    "clock, last_run, expected",
    [
        ("2024-07-03T17:29:00Z", None, "2024-07-02"),  # the half-day is due at 17:30 UTC
        ("2024-07-03T17:30:00Z", None, "2024-07-03"),
        ("2024-07-03T17:30:00Z", "2024-07-03", "2024-07-05"),
        ("2024-07-06T12:00:00Z", "2024-07-03", "2024-07-05"),  # Saturday: Friday's is late, and still due
        ("2024-07-20T12:00:00Z", "2024-07-03", "2024-07-19"),  # two weeks later: nothing older is made up for
    ],
)
def test_without_catch_up_a_session_stays_due_until_the_next(at, clock, last_run, expected):
    at(clock)
    table, last = timetable(), None
    if last_run:
        last = table.infer_manual_data_interval(run_after=midnight(date.fromisoformat(last_run)))
    info = table.next_dagrun_info(last_automated_data_interval=last, restriction=restriction(None, None, catchup=False))
    assert info.logical_date == midnight(date.fromisoformat(expected))


def test_without_catch_up_a_feed_of_the_past_schedules_nothing(at):
    at("2026-11-21T12:00:00Z")
    table = timetable(last_session=date(2013, 3, 1))
    bound = restriction(None, None, catchup=False)
    assert table.next_dagrun_info(last_automated_data_interval=None, restriction=bound) is None


def test_a_timetable_for_backfills_never_starts_by_itself(at):
    at("2024-07-03T17:30:00Z")
    table = timetable(automatic=False)
    bound = restriction(None, None, catchup=False)
    assert table.next_dagrun_info(last_automated_data_interval=None, restriction=bound) is None
    assert len(produced(table, date(2024, 7, 1), date(2024, 7, 5))) == 4


def test_catch_up_without_a_start_has_nothing_to_begin_with():
    bound = restriction(None, None)
    assert timetable().next_dagrun_info(last_automated_data_interval=None, restriction=bound) is None


@pytest.mark.parametrize(
    "moment, start, end",
    [
        ("2004-11-03T00:00:00Z", "2004-11-03T00:00:00Z", "2004-11-03T21:00:00Z"),  # a bare date: it
        ("2004-11-06T00:00:00Z", "2004-11-06T00:00:00Z", "2004-11-06T00:00:00Z"),  # a Saturday: empty
        ("2004-11-06T10:00:00Z", "2004-11-05T00:00:00Z", "2004-11-05T21:00:00Z"),  # else: the last one due
        ("2004-11-05T21:29:59Z", "2004-11-04T00:00:00Z", "2004-11-04T21:00:00Z"),
        ("2026-11-21T12:00:00Z", "2013-03-01T00:00:00Z", "2013-03-01T21:00:00Z"),  # the feed's last
    ],
)
def test_manual_runs(moment, start, end):
    table = timetable(last_session=date(2013, 3, 1))
    interval = table.infer_manual_data_interval(run_after=pendulum.parse(moment))
    assert interval == DataInterval(pendulum.parse(start), pendulum.parse(end))


def test_a_table_given_by_its_path(at, tmp_path):
    path = tmp_path / "sessions.csv"
    path.write_text(
        "session_date,open_at,close_at\n"
        "2026-11-20,2026-11-20T14:30Z,2026-11-20T21:00Z\n"
        "2026-11-21,2026-11-21T09:00Z,2026-11-21T12:01Z\n"
    )
    at("2026-11-21T12:00:00Z")
    table = timetable(calendar=str(path), run_delay_minutes=0)
    bound = restriction(None, None, catchup=False)
    done = table.infer_manual_data_interval(run_after=midnight(date(2026, 11, 20)))
    info = table.next_dagrun_info(last_automated_data_interval=done, restriction=bound)
    assert info.run_after == pendulum.datetime(2026, 11, 21, 12, 1)
    assert table.next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=bound) is None


@pytest.mark.parametrize("last_session", [None, date(2013, 3, 1)])
@pytest.mark.parametrize("automatic", [True, False])
def test_serialised_and_read_back_it_produces_the_same(last_session, automatic):
    before = timetable(run_delay_minutes=45, last_session=last_session, automatic=automatic)
    after = decode_timetable(encode_timetable(before))  # found by its name: the plugin has registered it
    assert isinstance(after, SessionTimetable)
    assert after.serialize() == before.serialize()
    assert (after.summary, after.description) == (before.summary, before.description)
    span = date(2013, 2, 20), date(2013, 3, 8)
    assert produced(after, *span) == produced(before, *span)
