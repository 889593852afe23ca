"""Which status of an order may follow which; what ends one. Statuses are events, the newest counts."""

from __future__ import annotations

WAITING = ("PLANNED", "APPROVED")
AT_RISK = ("SUBMITTING", "UNKNOWN")  # it may be at the venue: only a look-up tells
AT_VENUE = ("ACKED", "PARTIAL")
ENDED = ("FILLED", "CANCELED", "EXPIRED", "REJECTED", "VOIDED", "NOT_SENT")
REACHED = (*AT_VENUE, "FILLED", "CANCELED", "EXPIRED")  # fills may exist, or still come

FOLLOWS: dict[str, tuple[str, ...]] = {
    "": ("PLANNED",),
    "PLANNED": ("APPROVED", "SUBMITTING", "VOIDED", "NOT_SENT"),
    "APPROVED": ("SUBMITTING", "VOIDED", "NOT_SENT"),
    "SUBMITTING": ("ACKED", "PARTIAL", "FILLED", "CANCELED", "EXPIRED", "REJECTED", "UNKNOWN", "APPROVED", "NOT_SENT"),
    "UNKNOWN": ("UNKNOWN", "ACKED", "PARTIAL", "FILLED", "CANCELED", "EXPIRED", "REJECTED", "SUBMITTING", "NOT_SENT"),
    "ACKED": ("PARTIAL", "FILLED", "CANCELED", "EXPIRED", "REJECTED"),
    "PARTIAL": ("PARTIAL", "FILLED", "CANCELED", "EXPIRED"),
    "CANCELED": ("PARTIAL", "FILLED"),  # a fill and a cancel that crossed
    "EXPIRED": ("PARTIAL", "FILLED"),
    "FILLED": (),
    "REJECTED": (),
    "VOIDED": (),
    "NOT_SENT": (),
}
OF_VENUE = {
    "pending": "ACKED",
    "open": "ACKED",
    "pending_cancel": "ACKED",
    "pending_replace": "ACKED",
    "partial": "PARTIAL",
    "filled": "FILLED",
    "canceled": "CANCELED",
    "replaced": "CANCELED",
    "expired": "EXPIRED",
    "rejected": "REJECTED",
}


def may_follow(before: str, after: str) -> bool:
    """Tell whether an order of status `before` ('' for a new one) may get the status `after`."""
    return after in FOLLOWS[before]
