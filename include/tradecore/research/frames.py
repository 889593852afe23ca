"""The records of a backtest as pandas frames, one row a record: for notebooks, spreadsheets and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tradecore.lot_matching import Method, TaxLot
from tradecore.model import H_NS, STATE_NAMES
from tradecore.reports.tearsheet_model import RoundTrip
from tradecore.research import attribution, records, sheet
from tradecore.research.backtest import Backtest
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE

if TYPE_CHECKING:
    import pandas as pd


def equity(result: Backtest) -> pd.DataFrame:
    """Return equity_usd, cash_usd, state, orders and simple_return, by the bar's end."""
    import pandas as pd  # a second of start-up, for those who ask for frames only

    table, start = result.fold.table, result.inputs.cash_e4
    worth = table[:, 1] / MONEY_SCALE
    before = np.concatenate([[start / MONEY_SCALE], worth[:-1]])
    columns = {
        "equity_usd": worth,
        "cash_usd": table[:, 0] / MONEY_SCALE,
        "state": [STATE_NAMES[s] for s in table[:, 2]],
        "orders": table[:, 3],
        "simple_return": worth / before - 1.0,
    }
    return pd.DataFrame(columns, index=_bar_ends(result))


def positions(result: Backtest) -> pd.DataFrame:
    """Return the shares of each symbol, by the bar's end."""
    import pandas as pd

    return pd.DataFrame(
        result.fold.qty_e6 / QTY_SCALE, index=_bar_ends(result), columns=pd.Index(result.inputs.symbols, name="symbol")
    )


def marks(result: Backtest) -> pd.DataFrame:
    """Return the price in USD at which each symbol is valued, by the bar's end; NaN before its first."""
    import pandas as pd

    mark = result.fold.table[:, 4 + result.fold.n :] / PRICE_SCALE
    return pd.DataFrame(
        np.where(mark > 0, mark, np.nan),
        index=_bar_ends(result),
        columns=pd.Index(result.inputs.symbols, name="symbol"),
    )


def trades(result: Backtest) -> pd.DataFrame:
    """Return one row a fill (records.Trade)."""
    return _frame(records.Trade, records.trades(result.fold, result.inputs.symbols))


def round_trips(result: Backtest) -> pd.DataFrame:
    """Return one row a round trip (tearsheet_model.RoundTrip), with its return_frac."""
    return _frame(RoundTrip, sheet.round_trips(result), "return_frac")


def strategies(result: Backtest) -> pd.DataFrame:
    """Return the gain in USD of each strategy (net of fees; its sizing and fills as in the fold), by the bar's end."""
    import pandas as pd

    moved = attribution.flows(result.inputs, result.fold.journal)
    gain, _, _ = attribution.gains_of_strategies(result, moved, attribution.allocations(result.inputs))
    return pd.DataFrame(gain, index=_bar_ends(result), columns=pd.Index(result.inputs.strategies, name="strategy"))


def tax_lots(result: Backtest, method: Method = "fifo") -> pd.DataFrame:
    """Return one row a part of a lot (lot_matching.TaxLot), with its gain_usd."""
    found = records.lots(result.fold, result.inputs.market, result.inputs.symbols, method)
    return _frame(TaxLot, found, "gain_usd")


def _bar_ends(result: Backtest) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(pd.to_datetime(result.inputs.market.head[:-1, H_NS], utc=True), name="bar_end_at")


def _frame(kind: type[Any], rows: Sequence[Any], *derived: str) -> pd.DataFrame:
    """Return records as a frame: Decimal becomes float, times stay aware."""
    import pandas as pd

    names = [f.name for f in fields(kind)] + list(derived)
    money = [name for name in names if name.endswith(("_usd", "_frac")) or name == "qty"]
    frame = pd.DataFrame([[getattr(row, name) for name in names] for row in rows], columns=names)
    return frame.astype(dict.fromkeys(money, float))
