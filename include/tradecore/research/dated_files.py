"""Files that a strategy's parameters name, as they were on a day: the rows with a later date are cut away.

A CSV file with a column of dates is cut by it; where it says when a row became known (known_at, published_at) by that
column, else by the first column of dates. Any other file (a fitted model, a number) cannot be cut: what it knows is for
its owner to say, and a certificate names it with its hash.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from pydantic import BaseModel

from tradecore.bars import Panel
from tradecore.units import from_day

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
            day = from_day(int(panel.day[t]))
            cut = {name: str(_written(Path(folder), name, table, day)) for name, table in tables.items()}
            return type(params)(**{**params.model_dump(), **cut})

        yield params_at


Dated = list[tuple[date | None, str]]


def read_dated(path: Path) -> Dated | None:
    """Return (date, line) of a CSV file, the head without a date first; None where no column holds dates alone."""
    if path.suffix != ".csv":
        return None
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = list(csv.reader(lines))
    if len(rows) < 2 or len(rows) != len(lines):  # a field with a line break in it
        return None
    order = sorted(range(len(rows[0])), key=lambda k: rows[0][k] not in KNOWN)
    for k in order:
        days = [_day(row[k]) if k < len(row) else None for row in rows[1:]]
        if all(days):
            return [(None, lines[0]), *zip(days, lines[1:], strict=True)]
    return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None


def _written(folder: Path, name: str, table: Dated, day: date) -> Path:
    """Write the rows up to a day, once for each length."""
    kept = [line for known, line in table if known is None or known <= day]
    path = folder / f"{name}-{len(kept)}.csv"
    if not path.exists():
        path.write_text("".join(kept), encoding="utf-8")
    return path
