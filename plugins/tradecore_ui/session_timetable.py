"""One run per exchange session, some minutes after its close.

Airflow's own cron schedules fire in UTC: they miss the close at each change of daylight-saving time and on
half-days, and run on holidays. This timetable walks the checked-in table of sessions instead.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

if TYPE_CHECKING:
    from airflow.timetables.base import TimeRestriction
    from pendulum import DateTime

    from tradecore.sessions import Calendar
    from tradecore.settings import Trading


def midnight(session_date: date) -> DateTime:
    """Return 00:00 UTC of a session's date: the start of its data interval, and so its logical date.

    Not the open: a backfill's `--to-date` is an inclusive midnight bound and would lose the last session.
    """
    return pendulum.instance(datetime.combine(session_date, time(), UTC))


class SessionTimetable(Timetable):
    """Runs of a calendar's sessions: data interval from midnight UTC of the session's date to its close.

    Parameters: calendar (as `tradecore.sessions.calendar` takes it), run_delay_minutes (after the close),
    last_session (the last one that the feed has; None when it goes on), automatic (False: sessions for
    backfills only, for a DAG of named books that must not start by itself).

    Without catch-up a session stays due until the next one's run: a scheduler that was down at the close
    still runs it late, and nothing older is made up for. A feed that ended in the past schedules nothing.
    """

    def __init__(
        self, *, calendar: str, run_delay_minutes: int, last_session: date | None, automatic: bool = True
    ) -> None:
        self.calendar = calendar
        self.run_delay = timedelta(minutes=run_delay_minutes)
        self.last_session = last_session
        self.automatic = automatic
        when = f"{self._name} sessions, {run_delay_minutes} min after the close"
        self.description = when if automatic else f"{when}; backfills only"

    @classmethod
    def of(cls, trading: Trading, *, automatic: bool = True) -> SessionTimetable:
        """Make the timetable of a configuration's book and feed."""
        return cls(
            calendar=trading.book.calendar,
            run_delay_minutes=trading.book.run_delay_minutes,
            last_session=trading.data.last_session,
            automatic=automatic,
        )

    @property
    def summary(self) -> str:
        """The short form in Airflow's list of DAGs."""
        return self.description if self.automatic else f"{self._name} sessions, by backfill"

    @property
    def _name(self) -> str:
        return self.calendar.rpartition("/")[2].removesuffix(".csv")

    def serialize(self) -> dict[str, Any]:
        """Return what `deserialize` needs, as JSON."""
        return {
            "calendar": self.calendar,
            "run_delay_minutes": int(self.run_delay.total_seconds() // 60),
            "last_session": self.last_session.isoformat() if self.last_session else None,
            "automatic": self.automatic,
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> SessionTimetable:
        """Rebuild the timetable in the scheduler."""
        last = data["last_session"]
        return cls(**{**data, "last_session": date.fromisoformat(last) if last else None})

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """Return the interval of a run that a person starts.

        A bare date (midnight UTC, as `airflow dags test DAG 2004-11-03` gives) means that session, and an
        empty interval on a day without one: the run's first task then says so. Any other moment means the
        last session that was due by then.
        """
        if run_after == run_after.start_of("day"):
            exact = self._session_from(run_after.date())
            return self._interval(exact) if exact == run_after.date() else DataInterval.exact(run_after)
        latest = self._last_due(run_after)
        return self._interval(latest) if latest else DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run after the last one, or the first of the range; None when there is none to come."""
        if not restriction.catchup and not self.automatic:
            return None
        earliest = self._earliest(last_automated_data_interval, restriction)
        session_date = self._session_from(earliest) if earliest else None
        if session_date is None or (self.last_session and session_date > self.last_session):
            return None
        start, end = self._interval(session_date)
        if restriction.latest is not None and start > restriction.latest:
            return None
        return DagRunInfo(run_after=end + self.run_delay, data_interval=DataInterval(start, end))

    def _earliest(self, last: DataInterval | None, restriction: TimeRestriction) -> date | None:
        """Return the first date from which a session may run; None when nothing bounds the past."""
        bounds = []
        if last is not None:
            bounds.append(last.start.date() + timedelta(days=1))
        if restriction.earliest is not None:
            day = restriction.earliest.date()
            bounds.append(day if restriction.earliest <= midnight(day) else day + timedelta(days=1))
        if not restriction.catchup:
            bounds.append(self._last_closed(pendulum.now("UTC")) or date.min)
        return max(bounds, default=None)

    def _last_due(self, at: DateTime) -> date | None:
        """Return the last session whose run was due by `at` and that the feed has."""
        closed = self._last_closed(at)
        if closed is None or self.last_session is None or closed <= self.last_session:
            return closed
        return self._calendar().previous_session(self.last_session + timedelta(days=1))

    def _last_closed(self, at: DateTime) -> date | None:
        from tradecore.errors import NotASession

        try:
            return self._calendar().session_at_or_before(at - self.run_delay)
        except NotASession:
            return None

    def _session_from(self, day: date) -> date | None:
        """Return the day if it is a session, else the next one; None past the end of the table."""
        sessions = self._calendar()
        if day > sessions.last_session:
            return None
        return sessions.next_session(max(day, sessions.first_session) - timedelta(days=1))

    def _interval(self, session_date: date) -> DataInterval:
        close_at = self._calendar().session(session_date).close_at
        return DataInterval(midnight(session_date), pendulum.instance(close_at))

    def _calendar(self) -> Calendar:
        # Imported late and cached there: reading the table takes longer than reading a DAG file should.
        from tradecore.sessions import calendar

        return calendar(self.calendar)
