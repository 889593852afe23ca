"""The parquet feed: a folder of Parquet files with the columns of the csv feed.

    anything.parquet            daily bars: symbol (or the file's name), session_date, open, high, low, close, volume
    195m/*.parquet              bars of another timeframe: the same with bar_end_at (a timestamp in UTC)
    corporate_actions.parquet   symbol, ex_date, kind, ratio_num, ratio_den, dividend_usd, pay_date, new_symbol
                                (the last two optional)

Prices in USD and volume in shares as traded; null means that there is no value (NaN). Only the rows asked for are read.
A row that is no bar is rejected with its number within the file's answer.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tradecore.errors import MalformedData, NoDataYet, NoSuchSymbol
from tradecore.feeds.base import (
    BAR_DTYPE,
    MAX_SYMBOL_CHARS,
    BarBatch,
    CorporateAction,
    Reject,
    Rows,
    in_order,
    make_rows,
)
from tradecore.sessions import DAILY, Calendar
from tradecore.units import DIVIDEND_SCALE, to_ns, to_quanta

PROJECT = Path(__file__).resolve().parents[3]
ACTIONS_FILE = "corporate_actions.parquet"
PRICE_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetOptions:
    """Options of the parquet feed: the folder (relative to the project, or absolute) and the source's name."""

    folder: str
    name: str = "parquet"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty")
        if not self.path.is_dir():
            raise ValueError(f"folder {self.folder!r} is no folder")

    @property
    def path(self) -> Path:
        """The folder, absolute."""
        return PROJECT / self.folder


class ParquetFeed:
    """Bars and corporate actions from a folder of Parquet files."""

    def __init__(self, options: ParquetOptions) -> None:
        self._folder, self._name = options.path, options.name

    @property
    def name(self) -> str:
        """The source's name in the database."""
        return self._name

    def last_session(self, symbols: Sequence[str]) -> date | None:
        """Return the newest label of any of the symbols' daily bars. Raises MalformedData."""
        newest = [
            pc.max(table["session_date"]).as_py()
            for table in self._tables(symbols, DAILY, None, None)
            if table.num_rows
        ]
        return max(newest, default=None)

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the bars of the sessions from first to last, both included.

        Raises NoSuchSymbol (naming the nearest known one), NoDataYet (the folder ends before the last session),
        MalformedData (no Parquet, a missing column), NotASession.
        """
        ends = {
            day: tuple(to_ns(end) for end in calendar.bar_ends(day, timeframe))
            for day in calendar.sessions_in_range(first_session, last_session)
        }
        known = self._known(timeframe)
        for symbol in symbols:
            if symbol not in known or len(symbol) > MAX_SYMBOL_CHARS:
                raise self._no_such_symbol(symbol, sorted(known), timeframe)
        parts, rejects = list[Rows](), list[Reject]()
        for table in self._tables(symbols, timeframe, first_session, last_session):
            rows, bad = _rows(table, timeframe, ends)
            parts.append(rows)
            rejects += bad
        rows = np.concatenate(parts) if parts else make_rows(())
        if not rows.size or rows["session_date"].max() < np.datetime64(last_session):
            newest = self.last_session(symbols) if timeframe == DAILY else None
            if newest is None or newest < last_session:
                raise NoDataYet(
                    f"The {self._name} feed ends on {newest}; asked for bars up to {last_session}.",
                    next_step=f"Ask for sessions up to {newest}, or add newer rows to {self._folder.name}/.",
                    last_session=newest,
                )
        order = np.lexsort((rows["bar_end_ns"], rows["symbol"]))
        return BarBatch(rows=rows[order], rejects=tuple(rejects))

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return the actions with an ex-date from first to last, both included, sorted by symbol and date.

        A row that cannot be read raises MalformedData: a book that misses a split is wrong by half.
        """
        path = self._folder / ACTIONS_FILE
        if not path.is_file():
            return ()
        found = [_action(row, self._name, path) for row in _read(path, None).to_pylist()]
        return in_order((action for action in found if action.symbol in symbols), first_session, last_session)

    def _paths(self, timeframe: str) -> list[Path]:
        folder = self._folder if timeframe == DAILY else self._folder / timeframe
        return sorted(path for path in folder.glob("*.parquet") if path.name != ACTIONS_FILE)

    def _known(self, timeframe: str) -> set[str]:
        known: set[str] = set()
        for path in self._paths(timeframe):
            if "symbol" in _schema(path).names:
                known |= {str(s) for s in pc.unique(_read(path, None, ["symbol"])["symbol"]).to_pylist()}
            else:
                known.add(path.stem)
        return known

    def _tables(
        self, symbols: Sequence[str], timeframe: str, first: date | None, last: date | None
    ) -> Iterable[pa.Table]:
        """Yield each file's rows of the symbols and sessions, with a column symbol. Raises MalformedData."""
        keys = ["session_date"] if timeframe == DAILY else ["session_date", "bar_end_at"]
        for path in self._paths(timeframe):
            names = _schema(path).names
            missing = [column for column in (*keys, *PRICE_COLUMNS) if column not in names]
            if missing:
                raise MalformedData(
                    f"{path.name} has no column {missing[0]!r}; it has {', '.join(names)}.",
                    next_step=f"Give it {', '.join(missing)}.",
                    path=str(path),
                )
            if "symbol" not in names and path.stem not in symbols:
                continue
            wanted = [] if "symbol" not in names else [pc.field("symbol").isin(list(symbols))]
            wanted += [] if first is None else [pc.field("session_date") >= pa.scalar(first, pa.date32())]
            wanted += [] if last is None else [pc.field("session_date") <= pa.scalar(last, pa.date32())]
            chosen = wanted[0] if wanted else None
            for more in wanted[1:]:
                chosen = chosen & more
            columns = [*keys, *PRICE_COLUMNS, *(["symbol"] if "symbol" in names else [])]
            table = _read(path, chosen, columns)
            yield (
                table
                if "symbol" in names
                else table.append_column("symbol", pa.array([path.stem] * table.num_rows, pa.string()))
            )

    def _no_such_symbol(self, symbol: str, known: list[str], timeframe: str) -> NoSuchSymbol:
        close = difflib.get_close_matches(symbol.upper(), known, n=1, cutoff=0.4)
        listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        return NoSuchSymbol(
            f"The {self._name} feed has no {timeframe} bars of {symbol!r}; it has {listed or 'none'}.",
            next_step=(f"Did you mean {close[0]}? " if close else "")
            + "Correct universe.members, or add its rows to the feed's folder.",
            symbol=symbol,
            known=tuple(known),
            nearest=close[0] if close else None,
        )


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error


def _read(path: Path, chosen: Any, columns: list[str] | None = None) -> pa.Table:
    try:
        table = pq.read_table(path, columns=columns, filters=chosen, partitioning=None)
        if "session_date" in table.column_names:
            at = table.column_names.index("session_date")
            table = table.set_column(at, "session_date", table["session_date"].cast(pa.date32()))
        return table
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error


def _no_parquet(path: Path, error: Exception) -> MalformedData:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return MalformedData(f"{path.name} cannot be read as Parquet: {said}", next_step=f"Restore {path}.", path=str(path))


def _rows(table: pa.Table, timeframe: str, ends: Mapping[date, tuple[int, ...]]) -> tuple[Rows, list[Reject]]:
    """Return a table's bars, and its rows that end where no bar does."""
    days = table["session_date"].to_numpy().astype("M8[D]")
    last_of = {np.datetime64(day): ns for day, ns in ends.items()}
    if timeframe == DAILY:
        end_ns = np.array([last_of[day][-1] if day in last_of else -1 for day in days], np.int64)
    else:
        given = table["bar_end_at"].cast(pa.timestamp("ns")).to_numpy().astype("M8[ns]").astype(np.int64)
        end_ns = np.array(
            [ns if ns in last_of.get(day, ()) else -1 for day, ns in zip(days, given.tolist(), strict=True)], np.int64
        )
    rows = np.empty(table.num_rows, BAR_DTYPE)
    rows["symbol"] = np.array(table["symbol"].to_pylist(), "U16") if table.num_rows else rows["symbol"]
    rows["session_date"], rows["bar_end_ns"] = days, end_ns
    for name in PRICE_COLUMNS:
        rows[name] = table[name].cast(pa.float64()).to_numpy()
    rejects = [
        Reject(
            symbol=str(rows["symbol"][k]),
            line_no=int(k),
            raw=json.dumps(table.slice(int(k), 1).to_pylist()[0], default=str),
            reason=f"{days[k]} is not a session, or no {timeframe} bar ends then",
            session_date=days[k].item(),
        )
        for k in np.flatnonzero(end_ns < 0)
    ]
    return rows[end_ns >= 0], rejects


def _action(row: Mapping[str, Any], source: str, path: Path) -> CorporateAction:
    try:
        return CorporateAction(
            symbol=row["symbol"],
            ex_date=_day(row["ex_date"]),
            kind=row["kind"],
            ratio_num=int(row.get("ratio_num") or 1),
            ratio_den=int(row.get("ratio_den") or 1),
            dividend_e6=to_quanta(Decimal(str(row.get("dividend_usd") or 0)), DIVIDEND_SCALE),
            pay_date=_day(row["pay_date"]) if row.get("pay_date") else None,
            new_symbol=row.get("new_symbol") or "",
            source=source,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, MalformedData) as error:
        raise MalformedData(
            f"{path.name}: {json.dumps(row, default=str)} is no corporate action ({error}).",
            next_step="Give it symbol, ex_date, kind, and a ratio or dividend_usd.",
            path=str(path),
        ) from error


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)
