"""What runs beside the pipeline: delivering the outbox, and watching for what did not happen.

Imports stay light (no numpy): `python -m tradecore watch --loop` lives on a small machine all the time.
"""

from __future__ import annotations

import http.client
import logging
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg

from tradecore import notify, sessions, waiting
from tradecore.alert import Alert
from tradecore.errors import DeliveryError, NoDatabase, SessionError, TradecoreError
from tradecore.outage import Outage
from tradecore.settings import Settings
from tradecore.storage import alerts as outbox
from tradecore.storage import streams
from tradecore.streaming import watching

HEARTBEAT_MAX_AGE_S = 60
API_SERVER_PATIENCE_S = 180  # a small machine needs as long to start it
PROBE_TIMEOUT_S = 5
DELIVERIES_PER_CALL = 200
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySummary:
    """What one pass over the outbox did; `errors` names channel and reason of each failed attempt."""

    sent: int
    failed: int
    dead: int
    errors: tuple[str, ...]


def raise_alert(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    dedup_key: str,
    severity: str,
    kind: str,
    stage: str,
    title: str,
    body: str,
    next_step: str,
    now: datetime,
    book: str = "",
    session_date: date | None = None,
    link: str = "",
) -> int | None:
    """Put an alert into the outbox for every configured channel, in the caller's transaction.

    Returns its id, or None when this key was raised before. Without a link it points at Airflow's first page.
    """
    return outbox.raise_alert(
        conn,
        dedup_key=dedup_key,
        severity=severity,
        kind=kind,
        book=book,
        session_date=session_date,
        stage=stage,
        title=title,
        body=body,
        next_step=next_step,
        link=link or settings.airflow_base_url,
        now=now,
        channels=tuple(notify.channels(settings.alerts)),
    )


def deliver(settings: Settings, conn: psycopg.Connection, now: datetime) -> DeliverySummary:
    """Send what is due, each delivery in a transaction of its own; the connection must be in none.

    The row stays locked while its channel is tried, so two deliverers never send the same alert at once. A
    crash after the send and before the commit leaves it due: it is sent again. So an alert may come twice and
    is never lost. A channel that fails is left alone for the rest of the pass, which bounds a pass to one
    timeout a channel.
    """
    channels = notify.channels(settings.alerts)
    sent = dead = 0
    errors: dict[str, str] = {}
    for _ in range(DELIVERIES_PER_CALL):
        with conn.transaction():
            due = outbox.claim_due(conn, now, limit=1, skip_channels=tuple(errors))
            if not due:
                break
            alert_id, channel, attempt = due[0].alert.alert_id, due[0].channel, due[0].attempts + 1
            try:
                if channel not in channels:
                    raise DeliveryError(f"{channel}: this process has no such channel configured")
                channels[channel].send(due[0].alert)
            except DeliveryError as error:
                given_up = notify.is_dead(attempt)
                again_at = notify.next_try(attempt, now, error.details.get("retry_after_s"))
                outbox.mark_failed(conn, alert_id, channel, error.message, again_at, given_up)
                errors[channel] = error.message
                dead += given_up
                log.warning("alert %d, attempt %d: %s", alert_id, attempt, error)
            else:
                outbox.mark_sent(conn, alert_id, channel, now)
                sent += 1
    return DeliverySummary(sent=sent, failed=len(errors), dead=dead, errors=tuple(errors.values()))


def send_directly(settings: Settings, alert: Alert) -> dict[str, str]:
    """Send an alert over every channel without the outbox. Returns per channel '' or why it failed."""
    results: dict[str, str] = {}
    for name, channel in notify.channels(settings.alerts).items():
        try:
            channel.send(alert)
            results[name] = ""
        except DeliveryError as error:
            results[name] = str(error)
    return results


def sample_alert(now: datetime, link: str = "") -> Alert:
    """Make the alert that `tradecore alert test` sends."""
    return Alert(
        alert_id=0,
        severity="info",
        kind="test",
        book="",
        session_date=None,
        stage="alert test",
        title="Test of this channel",
        body="If you can read this, alerts of the trading day reach you here.",
        next_step="nothing",
        link=link,
        raised_at=now,
    )


def watch_once(
    settings: Settings,
    connect: Callable[[], psycopg.Connection],
    now: datetime,
    feed_end: Callable[[Settings], date | None] | None = None,
) -> list[str]:
    """Look once for a late session, dead parts of Airflow and a dead database; raise and deliver alerts.

    Parameters: connect, opens a prepared connection or raises NoDatabase; now (aware UTC); feed_end, the last
    session that the feed will ever have (None = asked from the configured feed, and only when a session looks
    late).
    Returns one line per trouble found, an empty list when all is well. What was alerted before is not alerted
    again; without a database the alert goes straight over the channels, remembered in
    `<local_dir>/watch.json`.
    """
    outage = Outage.load(settings.local_dir / "watch.json")
    try:
        with connect() as conn:
            found = _database_is_back(settings, conn, outage, now)
            found += _look(settings, conn, now, feed_end or _feed_end)
            conn.commit()
            found += [f"alert not delivered: {error}" for error in deliver(settings, conn, now).errors]
            state = outbox.undelivered(conn)
            if state.dead:
                found.append(f"{state.dead} alert deliveries were given up: `python -m tradecore status` lists them")
    except (NoDatabase, psycopg.Error) as error:
        return [_database_is_down(settings, outage, error, now)]
    outage.forget()
    return found


def _look(
    settings: Settings, conn: psycopg.Connection, now: datetime, feed_end: Callable[[Settings], date | None]
) -> list[str]:
    found = [_component_line(settings, conn, beat, now) for beat in outbox.heartbeats(conn) or ()]
    found.append(_api_server_line(settings, conn, now))
    found += _stream_lines(settings, conn, now)
    try:
        found.append(_late_session(settings, conn, now, feed_end))
    except SessionError as error:
        found.append(_calendar_ended(settings, conn, error, now))
    return [line for line in found if line]


def _late_session(
    settings: Settings, conn: psycopg.Connection, now: datetime, feed_end: Callable[[Settings], date | None]
) -> str:
    """Raise an alert when the last session that should be closed by now is not. Returns a line or ''."""
    book, routing = settings.trading.book, settings.trading.alerts
    calendar = sessions.calendar(book.calendar)
    patience = timedelta(minutes=book.run_delay_minutes + routing.late_after_minutes)
    due = calendar.session_at_or_before(now - patience)
    close_at = calendar.session(due).close_at
    progress = outbox.book_progress(conn, book.name, close_at)
    if progress is None:
        return f"book {book.name} is not opened yet: `python -m tradecore init`"
    if progress.status == "closed" or close_at <= progress.inception_at:
        return ""
    if progress.status == "decided" and waiting.wait_of(settings, conn, calendar, progress, close_at, now) is not None:
        return ""  # for a person or a venue's window, both of which end by themselves
    end = feed_end(settings)
    if end is not None and due > end:
        return ""
    what = "has not started" if progress.status is None else f"is still '{progress.status}'"
    waited = now - close_at - timedelta(minutes=book.run_delay_minutes)
    line = f"session {due} of {book.name} {what}, {_minutes(waited)} after it was due"
    raise_alert(
        settings,
        conn,
        dedup_key=f"late:{book.name}:{close_at.isoformat()}:{progress.status or 'never'}",
        severity="error",
        kind="late_session",
        stage="watch",
        book=book.name,
        session_date=due,
        title=f"The session {what}",
        body=f"{line[0].upper()}{line[1:]}. Until it is closed nothing is sent for the next session.",
        next_step=f"`make status`, then `python -m tradecore run-session {due}` or trigger the DAG for {due}",
        link=f"{settings.airflow_base_url}/dags/trading_day/runs",
        now=now,
    )
    return line


def _component_line(settings: Settings, conn: psycopg.Connection, beat: outbox.Heartbeat, now: datetime) -> str:
    """Raise an alert for a component that stopped without being told to. Returns a line or ''."""
    name = outbox.AIRFLOW_COMPONENTS[beat.job_type]
    stopped_in_order = beat.state == "success"  # SIGTERM or the end of its work: Airflow wrote that itself
    if stopped_in_order or beat.latest_heartbeat is None:
        return ""
    silence = now - beat.latest_heartbeat
    if silence <= timedelta(seconds=HEARTBEAT_MAX_AGE_S):
        return ""
    line = f"Airflow's {name} is dead: no heartbeat for {_minutes(silence)}"
    raise_alert(
        settings,
        conn,
        dedup_key=f"dead:{name}:{beat.latest_heartbeat.isoformat()}",
        severity="critical",
        kind="dead_component",
        stage="watch",
        title=f"Airflow's {name} is dead",
        body=f"{line} (host {beat.hostname or 'unknown'}, last at {beat.latest_heartbeat:%Y-%m-%d %H:%M:%S} "
        "UTC). No session runs until it is back.",
        next_step="`make logs` for its last words, then `make down && make up` or restart its service",
        now=now,
    )
    return line


def _stream_lines(settings: Settings, conn: psycopg.Connection, now: datetime) -> list[str]:
    """Raise an alert for each live stream that died, gave up or cannot connect. Returns their lines."""
    found = watching.troubles(streams.heartbeats(conn), now)
    for trouble in found:
        raise_alert(
            settings,
            conn,
            dedup_key=trouble.key,
            severity="error",
            kind="stream",
            stage="watch",
            title=trouble.title,
            body=f"{trouble.line}.",
            next_step=trouble.next_step,
            now=now,
        )
    return [trouble.line for trouble in found]


def _api_server_line(settings: Settings, conn: psycopg.Connection, now: datetime) -> str:
    """Raise an alert for an api-server that `make up` started here and that has not answered for 3 minutes.

    It writes no heartbeat, so its health endpoint is asked, on the port that `make up` wrote down and `make down`
    takes away: the address in the configuration is for people, and may lead through a proxy. Returns a line or ''.
    """
    noted, silence = settings.local_dir / "run" / "port", Outage.load(settings.local_dir / "watch-api-server.json")
    port = noted.read_text(encoding="ascii").strip() if noted.exists() else ""
    why = _unanswered(f"http://127.0.0.1:{port}/api/v2/monitor/health") if port else ""
    if not why:
        silence.forget()
        return ""
    silence.begin(now)
    waited = now - silence.since_at
    if waited < timedelta(seconds=API_SERVER_PATIENCE_S):
        return ""
    line = f"Airflow's api-server is dead: no answer for {_minutes(waited)} ({why})"
    raise_alert(
        settings,
        conn,
        dedup_key=f"dead:api-server:{silence.since_at.isoformat()}",
        severity="critical",
        kind="dead_component",
        stage="watch",
        title="Airflow's api-server is dead",
        body=f"{line}, port {port}. Its pages are gone, and no task can run: tasks report to it.",
        next_step="`make logs` for its last words, then `make down && make up` or restart its service",
        now=now,
    )
    return line


def _unanswered(url: str) -> str:
    """Return why a health endpoint is not well, or ''."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S):
            return ""
    except (OSError, ValueError, http.client.HTTPException) as error:  # HTTPError and URLError are OSErrors
        return f"{type(error).__name__}: {error}"


def _calendar_ended(settings: Settings, conn: psycopg.Connection, error: SessionError, now: datetime) -> str:
    name = settings.trading.book.calendar
    raise_alert(
        settings,
        conn,
        dedup_key=f"calendar_ended:{name}:{now:%Y-%m}",
        severity="error",
        kind="calendar_ended",
        stage="watch",
        title=f"The table of sessions of {name} does not know today",
        body=error.message,
        next_step=error.next_step,
        now=now,
    )
    return f"calendar {name}: {error}"


def _database_is_down(settings: Settings, outage: Outage, error: Exception, now: datetime) -> str:
    """Tell every channel that was not told yet about this outage; a failed one is tried again later."""
    outage.begin(now)
    down = isinstance(error, NoDatabase | psycopg.OperationalError)
    what, step = ("is down", "`make status`, then `make up`")
    if not down:  # it answers, and does not have what we ask for
        what, step = ("cannot be used", "`python -m tradecore db upgrade`, then `python -m tradecore doctor`")
    said = error.message if isinstance(error, TradecoreError) else f"{type(error).__name__}: {error}"
    said = " ".join(said.split())
    step = (error.next_step if isinstance(error, TradecoreError) else "") or step
    line = f"database {what}: {said}"
    alert = Alert(
        alert_id=0,
        severity="critical",
        kind="database_down",
        book=settings.trading.book.name,
        session_date=None,
        stage="watch",
        title=f"The database {what}",
        body=f"{said} Noticed at {outage.since_at:%Y-%m-%d %H:%M} UTC. No session can run.",
        next_step=step,
        link=settings.airflow_base_url,
        raised_at=outage.since_at,
    )
    for name, channel in notify.channels(settings.alerts).items():
        if not outage.is_due(name, now):
            continue
        try:
            channel.send(alert)
            outage.told(name)
        except DeliveryError as failure:
            attempt = outage.failed_attempts(name) + 1
            outage.failed(name, notify.next_try(attempt, now, failure.details.get("retry_after_s")))
            line += f"; not told: {failure.message}"
    return line


def _database_is_back(settings: Settings, conn: psycopg.Connection, outage: Outage, now: datetime) -> list[str]:
    if not outage.known:
        return []
    raise_alert(
        settings,
        conn,
        dedup_key=f"database_back:{outage.since_at.isoformat()}",
        severity="info",
        kind="database_back",
        stage="watch",
        title="The database is back",
        body=f"It did not answer from {outage.since_at:%Y-%m-%d %H:%M} to {now:%H:%M} UTC.",
        next_step="`python -m tradecore status`: check that the last session is closed",
        now=now,
    )
    return [f"database is back after {_minutes(now - outage.since_at)}"]


def _feed_end(settings: Settings) -> date | None:
    """Return the last session that the configured feed has, None for one that goes on."""
    from tradecore.feeding import feed_of  # brings numpy; only asked when a session looks late

    return feed_of(settings).last_session(settings.trading.universe.symbols)


def _minutes(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 120 else f"{minutes} min"
