"""Files that a strategy's parameters name, as they were on a day: the rows with a later date are cut away.

A CSV file with a column of dates is cut by it; where it says when a row became known (known_at, published_at) by that
column, else by the first column of dates. A date alone counts as known within its session; a time of day (UTC where no
offset is given) as known from then on, so that what came after a bar's end is cut away from it. Any other file (a
fitted model, a number) cannot be cut: what it knows is for its owner to say, and a certificate names it with its hash.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import BaseModel

from tradecore.bars import Panel
from tradecore.units import from_day, to_ns

CUT_PREFIX = "tradecore-cut-"
KNOWN = ("known_at", "published_at")


def named_files(params: BaseModel) -> dict[str, Path]:
    """Return the parameters whose value is the path of a file that exists."""
    found = {}
    for name, value in params.model_dump().items():
        if isinstance(value, str | Path) and str(value) and Path(value).is_file():
            found[name] = Path(value)
    return found


@contextmanager
def cutter(params: BaseModel, panel: Panel) -> Iterator[Callable[[int], BaseModel] | None]:
    """Give a function that returns the parameters with every dated file cut after the session of row t.

    None where no parameter names a file with dates. The cut files are temporary and gone at the end.
    """
    tables = {name: table for name, path in named_files(params).items() if (table := read_dated(path))}
    if not tables:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=CUT_PREFIX) as folder:

        def params_at(t: int) -> BaseModel:
            seen = (from_day(int(panel.day[t])), int(panel.bar_end_ns[t]))
            cut = {name: str(_written(Path(folder), name, table, *seen)) for name, table in tables.items()}
            return type(params)(**{**params.model_dump(), **cut})

        yield params_at


Known = tuple[date, int | None]  # a day, and the instant within it in ns if it is told
Dated = list[tuple[Known | None, str]]


def read_dated(path: Path) -> Dated | None:
    """Return (when known, line) of a CSV file, the head without a date first; None where no column is of dates."""
    if path.suffix != ".csv":
        return None
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = list(csv.reader(lines))
    if len(rows) < 2 or len(rows) != len(lines):  # a field with a line break in it
        return None
    order = sorted(range(len(rows[0])), key=lambda k: rows[0][k] not in KNOWN)
    for k in order:
        days = [_known(row[k]) if k < len(row) else None for row in rows[1:]]
        if all(days):
            return [(None, lines[0]), *zip(days, lines[1:], strict=True)]
    return None


def _known(text: str) -> Known | None:
    text = text.strip()
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:  # a day and a word, say
        return day, None
    return day, to_ns(at if at.tzinfo else at.replace(tzinfo=UTC)) if len(text) > 10 else None


def _written(folder: Path, name: str, table: Dated, day: date, end_ns: int) -> Path:
    """Write the rows that were known at a bar's end, once for each length."""

    def there(known: Known | None) -> bool:
        return known is None or (known[0] <= day if known[1] is None else known[1] <= end_ns)

    kept = [line for known, line in table if there(known)]
    path = folder / f"{name}-{len(kept)}.csv"
    if not path.exists():
        path.write_text("".join(kept), encoding="utf-8")
    return path
