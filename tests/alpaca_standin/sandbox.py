"""The sandbox: the sample's prices moved to today, an account that lasts, and the profile that trades there.

A session of 2005 becomes the session of the day on which the sandbox was first started; what was 2005 after it is
the years to come. So the real clock, the real calendar and the project's own stages can be used as they are.
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_left
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from alpaca_standin.market import Sessions

SAMPLE_TODAY = date(2005, 11, 23)
DATE_COLUMNS = ("session_date", "ex_date", "pay_date")
PROFILE = """\
# Made by `make sandbox`: daily prices of the sample, moved to today, traded at the stand-in for Alpaca.
book: {{name: sandbox, broker: alpaca-paper, account: alpaca-sandbox, calendar: XNYS, timeframe: 1d}}
universe: {{name: sandbox, symbols: [AAPL, MSFT, IBM, GOOG]}}
data: {{feed: csv, options: {{folder: {bars}, name: sandbox}}, publication_lag_minutes: 15}}
strategies:
  ma_crossover: {{params: {{short_period: 20, long_period: 50, average: sma, confidence_threshold: 0.75}}}}
"""


def prepare(folder: Path, sample: Path, sessions: Sessions, now: datetime) -> Path:
    """Make the sandbox's files if they are not there; returns the folder of its bars.

    Which session is which is decided once: started again later, the prices of a date are what they were.
    """
    bars = folder / "bars"
    bars.mkdir(parents=True, exist_ok=True)
    anchor = folder / "anchor.json"
    if not anchor.is_file():
        today = sessions.after(now).label
        anchor.write_text(json.dumps({"sample": SAMPLE_TODAY.isoformat(), "today": today.isoformat()}) + "\n")
    chosen = {key: date.fromisoformat(value) for key, value in json.loads(anchor.read_text()).items()}
    moved = shift(sessions, chosen["sample"], chosen["today"])
    for source in sorted(sample.glob("*.csv")):
        _move(source, bars / source.name, moved)
    (folder / "trading.yaml").write_text(PROFILE.format(bars=json.dumps(str(bars.resolve()))), encoding="utf-8")
    return bars


def shift(sessions: Sessions, was: date, becomes: date) -> Callable[[date], date | None]:
    """Return the function that moves dates so that one session becomes another; None past the calendar.

    Sessions keep their order without gaps; a date between two sessions goes where the later one goes.
    """
    labels = [row.label for row in sessions.rows]
    offset = bisect_left(labels, becomes) - bisect_left(labels, was)

    def moved(day: date) -> date | None:
        index = bisect_left(labels, day) + offset
        return labels[index] if 0 <= index < len(labels) else None

    return moved


def _move(source: Path, target: Path, moved: Callable[[date], date | None]) -> None:
    with source.open(encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            for column in DATE_COLUMNS:
                if row.get(column):
                    day = moved(date.fromisoformat(row[column]))
                    row[column] = day.isoformat() if day else ""
            if row.get("session_date") or row.get("ex_date"):  # neither: past the calendar
                writer.writerow(row)
