"""What the heartbeats of streams tell somebody who looks: a dead process, one that gave up, one that cannot connect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tradecore.storage.streams import Beat

BEAT_MAX_AGE = timedelta(seconds=60)
CONNECT_PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One stream that is not well: key names this occurrence."""

    key: str
    title: str
    line: str
    next_step: str


def troubles(beats: Iterable[Beat], now: datetime) -> list[Trouble]:
    """Return what is wrong with the streams that were not stopped in order."""
    found = []
    for beat in beats:
        if beat.state == "failed":
            what, step = f"gave up: {beat.last_error}", "put that right, then start `python -m tradecore stream` again"
        elif beat.state != "stopped" and now - beat.beat_at > BEAT_MAX_AGE:
            seconds = (now - beat.beat_at).total_seconds()
            what = f"is dead: no heartbeat for {seconds:.0f} s (process {beat.pid} on {beat.host})"
            step = "start `python -m tradecore stream` again: it fetches what it missed"
        elif beat.state == "connecting" and now - beat.state_at > CONNECT_PATIENCE:
            what = f"has not been connected since {beat.state_at:%Y-%m-%d %H:%M} UTC: {beat.last_error}"
            step = "see its last error; it goes on trying, and fetches what it missed"
        else:
            continue
        since = beat.beat_at if "is dead" in what else beat.state_at
        found.append(
            Trouble(
                key=f"stream:{beat.source}:{beat.state}:{since.isoformat()}",
                title=f"The live stream {beat.source} is not well",
                line=f"stream {beat.source} {what}",
                next_step=step,
            )
        )
    return found
