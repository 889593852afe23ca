"""The alert as rooms hand it to each other; apart from model.py because `watch` runs without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

SEVERITIES = ("info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One message to the owner, as it stands in the outbox (id 0: sent directly, the database is down)."""

    alert_id: int
    severity: str
    kind: str
    book: str
    session_date: date | None
    stage: str
    title: str
    body: str
    next_step: str
    link: str
    raised_at: datetime

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is none of {', '.join(SEVERITIES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDelivery:
    """An alert that a channel has not taken yet; `attempts` are the failed ones so far."""

    alert: Alert
    channel: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """How many deliveries wait for their first try, will be tried again after a failure, or were given up."""

    waiting: int
    retrying: int
    dead: int

    @property
    def healthy(self) -> bool:
        """True when no delivery has failed: what `status` turns into its exit code."""
        return self.retrying == 0 and self.dead == 0
