"""From a backtest to the tear sheet's records: a row a session, whatever the bars were."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np

from tradecore import provenance
from tradecore.errors import ConfigError
from tradecore.model import EV_SPLIT, F_BAR_NS, F_FEE, F_INSTR, F_OPEN, F_PRICE, F_QTY, H_NS, Floats, Market
from tradecore.reports import metrics
from tradecore.reports.tearsheet_model import Benchmark, Part, RoundTrip, TearSheet
from tradecore.research import attribution, trips
from tradecore.research.backtest import Backtest, Inputs
from tradecore.settings import Settings
from tradecore.units import DIVIDEND_SCALE, MONEY_SCALE, PRICE_SCALE, QTY_SCALE, to_day

UNIVERSE = "universe"


def tear_sheet(result: Backtest, settings: Settings, *, benchmark: str = UNIVERSE) -> TearSheet:
    """Return what the page shows of a backtest.

    benchmark: 'universe' (equal weights, set right each session, free of costs), one of its symbols, or '' for none.
    Raises ConfigError for a symbol that the universe does not have.
    """
    inputs, fold = result.inputs, result.fold
    labels, last, first = sessions_of(inputs.days)
    n = len(inputs.symbols)
    equity = np.concatenate([[inputs.cash_e4], fold.equity_e4[last]]) / MONEY_SCALE
    value = fold.qty_e6[last] / QTY_SCALE * (fold.table[last][:, 4 + n : 4 + 2 * n] / PRICE_SCALE)
    moved, fills = attribution.flows(inputs, fold.journal), fold.journal.fills
    ns = inputs.market.head[:-1, H_NS]
    at = np.searchsorted(ns, fills[:, F_BAR_NS])
    slippage = np.zeros(len(inputs.days))
    np.add.at(slippage, at, np.abs(fills[:, F_QTY] / QTY_SCALE * (fills[:, F_PRICE] - fills[:, F_OPEN]) / PRICE_SCALE))
    traded = np.zeros_like(slippage)
    np.add.at(traded, at, np.abs(fills[:, F_QTY] / QTY_SCALE * fills[:, F_PRICE] / PRICE_SCALE))
    volume = inputs.market.volume[at, fills[:, F_INSTR]]
    return TearSheet(
        title=", ".join(inputs.strategies) or "no strategy",
        lead=f"{n} name{'s' if n != 1 else ''}, {len(labels):,} sessions, "
        f"{'daily' if settings.trading.book.timeframe == '1d' else settings.trading.book.timeframe} bars",
        day=np.array([to_day(d) for d in labels], np.int64),
        equity_usd=equity,
        returns=metrics.simple_returns(equity),
        benchmark=benchmark_of(inputs, first, benchmark),
        gross_frac=np.abs(value).sum(axis=1) / equity[1:],
        net_frac=value.sum(axis=1) / equity[1:],
        names_held=(value != 0.0).sum(axis=1).astype(np.float64),
        traded_usd=np.add.reduceat(traded, first),
        fees_usd=np.add.reduceat(moved.fees_usd.sum(axis=1), first),
        slippage_usd=np.add.reduceat(slippage, first),
        state=fold.table[last, 2].astype(np.float64),
        strategies=_of_strategies(result, moved, first),
        names=_of_names(result, moved, first, value / equity[1:, None]),
        trips=round_trips(result),
        orders=int(fold.journal.counts[3]),
        fills=int(fold.journal.counts[1]),
        participation_frac=np.abs(fills[:, F_QTY]) / QTY_SCALE / np.maximum(volume, 1),
        participation_limit_frac=settings.trading.execution.participation_frac,
        settings=_settings(settings),
        hashes=tuple(hashes(result, settings).items()),
    )


def hashes(result: Backtest, settings: Settings) -> dict[str, str]:
    """Return what names a backtest: its data (bars, actions and scores), configuration and code, and the final book.

    The cash that the book opens with is part of the configuration here, though it is set in the environment.
    """
    inputs = result.inputs
    scores = np.nan_to_num(np.rint(inputs.scores * 1e9), nan=-1.0).astype("<i8")
    volatility = np.nan_to_num(np.rint(inputs.volatility * 1e12), nan=-1.0).astype("<i8")
    data = provenance.hash_of_arrays([np.array(inputs.instrument_ids), *inputs.market, scores, volatility])
    return {
        "data": data,
        "config": provenance.hash_of(settings.config_hash(), inputs.cash_e4),
        "code": provenance.code_hash(settings.home),
        "book": book_hash(result),
    }


def book_hash(result: Backtest) -> str:
    """Return the hash of the final book: that of the production book after the same sessions."""
    from tradecore.backtest.step import canonical_book

    return provenance.hash_of([a.tolist() for a in canonical_book(result.fold.book)])


def sessions_of(days: tuple[date, ...]) -> tuple[list[date], np.ndarray, np.ndarray]:
    """Return the sessions of bars, and of each the places of its last and its first bar."""
    number = np.array([to_day(d) for d in days])
    first = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    last = np.append(first[1:], len(days)) - 1
    return [days[t] for t in first], last, first


def total_returns(market: Market) -> Floats:
    """Return each name's return [T, n] at each bar with splits and dividends; NaN before its first bar, 0 while it
    does not trade. A dividend is put back at the close of its ex-date, as in bars.next_factor; a delisting pays."""
    n_bars, n = market.head.shape[0] - 1, market.close.shape[1]
    out = np.full((n_bars, n), np.nan)
    last, factor = np.full(n, np.nan), np.ones(n)  # the last close, and what a share of then has become since
    for t in range(n_bars):
        traded, close = market.traded[t], market.close[t] / PRICE_SCALE
        gone = market.split_num[t] == 0
        paid = np.where(gone, market.dividend[t] / DIVIDEND_SCALE * factor / last - 1.0, 0.0)
        last[gone], factor[gone] = np.nan, 1.0
        factor *= np.where(gone, 1.0, market.split_num[t] / market.split_den[t])
        pays = traded & ~gone
        factor[pays] *= 1.0 + market.dividend[t, pays] / DIVIDEND_SCALE / close[pays]
        out[t] = np.where(traded, close * factor / last - 1.0, np.where(np.isnan(last), np.nan, 0.0))
        out[t, gone] = paid[gone]
        last[traded], factor[traded] = close[traded], 1.0
    return out


def relative(result: Backtest, name: str) -> dict[str, float | str]:
    """Return the figures of a backtest against a benchmark (see `tear_sheet`), session by session; {} for none."""
    _, last, first = sessions_of(result.inputs.days)
    found = benchmark_of(result.inputs, first, name)
    if found is None:
        return {}
    equity = np.concatenate([[result.inputs.cash_e4], result.fold.equity_e4[last]]) / MONEY_SCALE
    r, b = metrics.simple_returns(equity), found.returns
    figures = {
        "total_return": metrics.total_return(b),
        "cagr": metrics.cagr(b),
        "sharpe": metrics.sharpe(b),
        "max_drawdown": metrics.max_drawdown(b),
        "excess_return": metrics.total_return(r) - metrics.total_return(b),
        "alpha": metrics.alpha(r, b),
        "beta": metrics.beta(r, b),
        "information_ratio": metrics.information_ratio(r, b),
        "tracking_error": metrics.tracking_error(r, b),
        "up_capture": metrics.up_capture(r, b),
        "down_capture": metrics.down_capture(r, b),
    }
    return {"benchmark": found.label, **{key: round(value, 6) for key, value in figures.items()}}


def benchmark_of(inputs: Inputs, first: np.ndarray, name: str) -> Benchmark | None:
    """Return the benchmark's returns by session; None for ''. Raises ConfigError for an unknown name."""
    if not name:
        return None
    if name != UNIVERSE and name not in inputs.symbols:
        raise ConfigError(
            f"the benchmark {name!r} is no member of the universe: {', '.join(inputs.symbols)}.",
            next_step=f"name one of them, '{UNIVERSE}' for all in equal parts, or '' for none",
            value=name,
        )
    returns = total_returns(inputs.market)
    if name == UNIVERSE:
        known = ~np.isnan(returns) & ~inputs.market.left[:-1]
        count = known.sum(axis=1)
        of_bar = np.where(known, returns, 0.0).sum(axis=1) / np.maximum(count, 1)
        label = "universe, equal weights"
    else:
        of_bar, label = np.nan_to_num(returns[:, inputs.symbols.index(name)]), name
    of_bar[0] = 0.0
    return Benchmark(label=label, returns=np.multiply.reduceat(1.0 + of_bar, first) - 1.0)


def _of_names(result: Backtest, moved: attribution.Flows, first: np.ndarray, weight: Floats) -> tuple[Part, ...]:
    gain = np.add.reduceat(attribution.gains_of_names(result, moved), first, axis=0)
    parts = [
        Part(
            name=symbol,
            gain_usd=gain[:, i],
            weight_frac=float(weight[:, i].mean()),
            fees_usd=float(moved.fees_usd[:, i].sum()),
            traded_usd=float(np.abs(moved.cost_usd[:, i]).sum()),
        )
        for i, symbol in enumerate(result.inputs.symbols)
    ]
    return tuple(sorted((p for p in parts if p.traded_usd), key=lambda p: -p.total_usd))


def _of_strategies(result: Backtest, moved: attribution.Flows, first: np.ndarray) -> tuple[Part, ...]:
    inputs, n = result.inputs, len(result.inputs.symbols)
    held = attribution.allocations(inputs) if len(inputs.strategies) > 1 else result.fold.qty_e6[:, None, :]
    gain, fees, traded = attribution.gains_of_strategies(result, moved, held)
    mark = result.fold.table[:, 4 + n : 4 + 2 * n] / PRICE_SCALE
    weight = (held / QTY_SCALE * mark[:, None, :]).sum(axis=2) / (result.fold.equity_e4 / MONEY_SCALE)[:, None]
    return tuple(
        Part(
            name=name,
            gain_usd=np.add.reduceat(gain[:, s], first),
            weight_frac=float(weight[:, s].mean()),
            fees_usd=float(fees[:, s].sum()),
            traded_usd=float(traded[:, s].sum()),
        )
        for s, name in enumerate(inputs.strategies)
    )


def round_trips(result: Backtest) -> tuple[RoundTrip, ...]:
    """Return the round trips of a fold, in sessions: splits and income come before the fills of their bar."""
    inputs, journal, n = result.inputs, result.fold.journal, len(result.inputs.symbols)
    labels, _, _ = sessions_of(inputs.days)
    place = {label: t for t, label in enumerate(labels)}
    session_of = np.array([place[d] for d in inputs.days])
    ns = inputs.market.head[:-1, H_NS]
    moves: list[tuple[int, int, trips.Move]] = []
    for kind, instrument, _, after, at in journal.events[journal.events[:, 1] >= 0]:
        bar = int(np.searchsorted(ns, at))
        known = {"t": int(session_of[bar]), "symbol": inputs.symbols[instrument]}
        if kind == EV_SPLIT:
            moves.append((bar, 1, trips.Move(**known, qty_after_e6=int(after))))
        elif kind in attribution.INCOME:
            moves.append((bar, 0, trips.Move(**known, cash_usd=int(after) / MONEY_SCALE)))
    for row in journal.fills:
        bar = int(np.searchsorted(ns, row[F_BAR_NS]))
        fill = trips.Move(
            t=int(session_of[bar]),
            symbol=inputs.symbols[row[F_INSTR]],
            qty_e6=int(row[F_QTY]),
            price_usd=int(row[F_PRICE]) / PRICE_SCALE,
            fee_usd=int(row[F_FEE]) / MONEY_SCALE,
        )
        moves.append((bar, 2, fill))
    marks: Mapping[str, float] = {
        symbol: int(result.fold.table[-1, 4 + n + i]) / PRICE_SCALE for i, symbol in enumerate(inputs.symbols)
    }
    return trips.round_trips([m for _, _, m in sorted(moves, key=lambda m: m[:2])], labels, marks)


def _settings(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return what a backtest was run with, in words."""
    trading = settings.trading
    lines = []
    for name in trading.enabled():
        chosen = trading.strategies[name]
        params = ", ".join(f"{key} {value}" for key, value in chosen.params.items())
        kind = "" if chosen.kind == name else f"{chosen.kind}, "
        lines.append((name, f"{kind}capital share {chosen.capital_share:g}" + (f", {params}" if params else "")))
    costs, risk = trading.execution, trading.risk
    lines += [
        ("Opening cash", f"${settings.initial_cash_usd:,}"),
        (
            "Costs",
            f"slippage {costs.slippage_bps:g} bps, commission {costs.commission_bps:g} bps, "
            f"{costs.commission_per_share_usd} USD a share, at least {costs.commission_min_usd} USD",
        ),
        (
            "Limits",
            f"{risk.max_position_size:.0%} a name, {risk.max_exposure:.0%} gross, halt at {risk.max_drawdown:.0%} "
            f"below the peak, reduce-only after a loss of {risk.max_daily_loss:.0%} in a session",
        ),
        ("Sizing", risk.position_sizing_method.replace("_", " ")),
    ]
    return tuple(lines)
