"""An alert as text: which session and stage, what happened, what to do next, where the log is."""

from __future__ import annotations

from tradecore.alert import Alert

BODY_MAX_CHARS = 3_000  # Telegram takes 4096 and Slack shows about that much before it folds


def subject(alert: Alert) -> str:
    """Return one line that says what, for which book and session, at which stage."""
    where = " ".join(part for part in (alert.book, _session(alert), alert.stage) if part)
    return one_line(
        f"[{alert.severity.upper()}] {where}: {alert.title}" if where else f"[{alert.severity.upper()}] {alert.title}"
    )


def message(alert: Alert) -> str:
    """Return the whole text, subject line excluded; a body too long for a chat is cut with a mark."""
    body = alert.body.strip()
    if len(body) > BODY_MAX_CHARS:
        body = body[:BODY_MAX_CHARS].rstrip() + " ... (cut; the log has the rest)"
    lines = [body] if body else []
    if alert.next_step:
        lines.append(f"Next: {alert.next_step}")
    facts = [("Book", alert.book), ("Session", _session(alert)), ("Stage", alert.stage)]
    lines.append(", ".join(f"{name} {value}" for name, value in facts if value))
    if alert.link:
        lines.append(f"Log: {alert.link}")
    return "\n".join(line for line in lines if line)


def single_line(alert: Alert) -> str:
    """Return subject, body, next step and link as one line for a console or a journal."""
    parts = [subject(alert), alert.body]
    if alert.next_step:
        parts.append(f"Next: {alert.next_step}")
    if alert.link:
        parts.append(f"Log: {alert.link}")
    return one_line(" | ".join(part for part in parts if part.strip()))


def one_line(text: str) -> str:
    """Collapse all white space, so that no text can start a header or a log line of its own."""
    return " ".join(text.split())


def _session(alert: Alert) -> str:
    return alert.session_date.isoformat() if alert.session_date is not None else ""
