"""Every feed on a bench of its own, with the same prices behind it: what the conformance list runs against.

A bench opens its feed, tells the truth, and can break its vendor. A folder has no faults of a network and no running
session: what a bench lacks it says.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tradecore.feeds import Access, Feed, open_feed
from tradecore.sessions import Calendar, calendar
from vendor_standin import alpaca as face
from vendor_standin import others
from vendor_standin.client import Standin, running
from vendor_standin.market import COINS, CRYPTO_FIRST
from yahoo_standin.client import Standin as YahooStandin
from yahoo_standin.client import running as yahoo_running

SAMPLE = Path(__file__).resolve().parents[1] / "include" / "sample_data"
QUICK = {"timeout_s": 5.0, "attempts": 2, "backoff_s": 0.005, "max_wait_s": 0.01}
XNYS = calendar("XNYS")
FIRST, LAST = date(2005, 2, 22), date(2005, 2, 28)
SHARES = ("AAPL", "IBM", "MSFT")
Row = tuple[str, str, float, float, float, float, float]


@dataclass(slots=True, kw_only=True)
class Bench:
    """One feed. keys: whether it asks with one; faults: what its vendor can be made to do; actions: of AAPL's split."""

    name: str
    options: dict[str, Any]
    access: Access
    symbols: tuple[str, ...] = SHARES
    calendar: Calendar = XNYS
    first: date = FIRST
    last: date = LAST
    standin: Any = None
    path: str = ""
    has_actions: bool = True

    def open(self, access: Access | None = None, **more: Any) -> Feed:
        return open_feed(self.name, options={**self.options, **more}, access=access or self.access)

    @property
    def has_faults(self) -> bool:
        return self.standin is not None

    def reset(self) -> None:
        if isinstance(self.standin, Standin):
            self.standin.reset()
        elif self.standin is not None:
            self.standin.heal()
            self.standin.set_now(datetime(2013, 3, 1, 22, tzinfo=UTC))

    def fault(self, kind: str, times: int = 1_000_000) -> None:
        if isinstance(self.standin, Standin):
            self.standin.fault(kind, times=times, path=self.path)
        else:
            self.standin.fault(int(kind) if kind.isdigit() else {"page": "text"}.get(kind, kind), times=times)

    def truth(self) -> list[Row]:
        """Return the bars of the symbols from first to last, as the sample has them."""
        rows: list[Row] = []
        for symbol in self.symbols:
            with (SAMPLE / f"{COINS.get(symbol, symbol)}.csv").open(encoding="utf-8") as lines:
                for k, row in enumerate(
                    r for r in csv.DictReader(lines) if symbol not in COINS or r["session_date"] >= START
                ):
                    day = (
                        row["session_date"]
                        if symbol not in COINS
                        else str(date.fromordinal(CRYPTO_FIRST.toordinal() + k))
                    )
                    if str(self.first) <= day <= str(self.last):
                        numbers = [float(row[name]) for name in ("open", "high", "low", "close", "volume")]
                        rows.append((symbol, day, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]))
        return rows


START = "2005-02-01"  # the stand-in's first session, which lends its prices to the first day of a coin


@contextmanager
def benches(folder: Path) -> Iterator[dict[str, Bench]]:
    """Yield all benches by name; the vendors' programs end with the block."""
    with ExitStack() as stack:
        vendors = stack.enter_context(running("--first", START, "--last", "2005-03-31"))
        yahoo: YahooStandin = stack.enter_context(yahoo_running())
        network = {**QUICK, "requests_per_minute": 1_000_000, "base_url": vendors.url}
        keys = Access(api_key=face.KEY, secret_key=face.SECRET)
        columns = write_parquet(folder / "parquet")
        found = [
            Bench(name="csv", options={"folder": str(SAMPLE)}, access=Access()),
            Bench(name="parquet", options={"folder": str(columns)}, access=Access()),
            Bench(
                name="yahoo",
                options={**network, "requests_per_minute": 60_000, "base_url": yahoo.url, "cache_dir": str(folder)},
                access=Access(),
                standin=yahoo,
            ),
            Bench(name="alpaca", options=network, access=keys, standin=vendors, path="/v2/stocks/bars"),
            Bench(
                name="alpha_vantage",
                options=network,
                access=Access(api_key=others.VANTAGE_KEY),
                standin=vendors,
                path="/query",
            ),
            Bench(
                name="crypto",
                options={**network, "exchange": "bitstamp", "rows_per_page": 3},
                access=Access(),
                symbols=tuple(COINS),
                calendar=calendar("24/7"),
                first=date(2021, 1, 2),
                last=date(2021, 1, 9),
                standin=vendors,
                path="/api/v2/ohlc/",
                has_actions=False,
            ),
        ]
        yield {bench.name: bench for bench in found}


def write_parquet(folder: Path) -> Path:
    """Write the sample as Parquet: one file of all symbols but AAPL, which has its own; and the actions."""
    folder.mkdir()
    tables = {}
    for path in sorted(SAMPLE.glob("*.csv")):
        if path.stem == "corporate_actions":
            continue
        with path.open(encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        data: dict[str, Any] = {"session_date": pa.array([date.fromisoformat(r["session_date"]) for r in rows])}
        for name in ("open", "high", "low", "close", "volume"):
            data[name] = pa.array([float(r[name]) if r[name] else None for r in rows], pa.float64())
        tables[path.stem] = pa.table(data)
    pq.write_table(tables.pop("AAPL"), folder / "AAPL.parquet")
    named = [t.append_column("symbol", pa.array([s] * t.num_rows, pa.string())) for s, t in tables.items()]
    pq.write_table(pa.concat_tables(named), folder / "others.parquet")
    with (SAMPLE / "corporate_actions.csv").open(encoding="utf-8") as lines:
        actions = list(csv.DictReader(lines))
    pq.write_table(pa.Table.from_pylist(actions), folder / "corporate_actions.parquet")
    return folder
