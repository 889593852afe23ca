"""What the core sees of a book's world: members, bars and actions from the database as arrays of one bar or many.

The only place where rows become arrays; production (one bar) and backtests (many) call the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np
import psycopg
from pydantic import BaseModel

from tradecore import strategies
from tradecore.backtest import step
from tradecore.bars import Panel, adjusted
from tradecore.config_models import Member as ConfiguredMember
from tradecore.errors import ConfigError, NotBuilt, StrategyError
from tradecore.model import (
    H_COLUMNS,
    H_DAY,
    H_DAYS,
    H_FIRST,
    H_LAST,
    H_NS,
    H_PERSON,
    H_QUIET,
    Capital,
    Floats,
    Instrument,
    Instruments,
    Ints,
    Market,
)
from tradecore.risk import outlook as risk_outlook
from tradecore.risk.outlook import Outlook
from tradecore.risk.plan import plan_of
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import series as values
from tradecore.storage.bars import Action, Member
from tradecore.units import PRICE_SCALE, QTY_SCALE, from_day, to_day, to_ns, to_quanta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A configured strategy: its code, its validated parameters, its symbols with their dates, and what its failure
    means."""

    name: str
    strategy: strategies.Strategy
    params: BaseModel
    lookback_bars: int
    symbols: tuple[str, ...]
    due: Mapping[str, tuple[int, int]]  # {symbol: (first day as a member, first day no more)}
    share: float
    on_failure: str
    needs_certificate: bool = False
    series: tuple[str, ...] = ()


def rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the enabled strategies in configured order; one whose file is broken raises when it is asked to score.

    Raises ConfigError for an unknown strategy or parameters that it does not take.
    """
    own, found = settings.strategies_folder, []

    def load(kind: str) -> strategies.Strategy:
        try:
            return strategies.load(kind, own)
        except StrategyError as error:  # its failure, and not that of the others
            return strategies.broken(kind, error)

    trading = settings.checked(strategy_params=lambda kind: load(kind).params_model).trading
    for name in trading.enabled():
        config = trading.strategies[name]
        rule = load(config.kind)
        params = rule.params_model(**config.params)
        try:
            lookback = rule.lookback(params)
        except ValueError as error:
            raise settings.located(
                ConfigError(
                    f"strategies.{name}.params: {error}",
                    next_step="correct it in trading.yaml",
                    location=f"strategies.{name}.params",
                )
            ) from error
        found.append(
            Rule(
                name=name,
                strategy=rule,
                params=params,
                lookback_bars=lookback,
                symbols=trading.strategy_symbols(name),
                due={s: _due_days(trading.universe.members[s]) for s in trading.strategy_symbols(name)},
                share=float(config.capital_share),
                on_failure=config.on_failure,
                needs_certificate=trading.needs_certificate(name),
                series=rule.series(params),
            )
        )
    return tuple(found)


def _due_days(member: ConfiguredMember) -> tuple[int, int]:
    """Return the days from which and until which (exclusive) a name is a member."""
    return to_day(member.due_from or date.min), to_day(member.member_to or date.max)


def sync_members(conn: psycopg.Connection, settings: Settings, calendar: Calendar) -> tuple[Member, ...]:
    """Make the database know the configured universe and return it."""
    wanted = {
        symbol: (
            to_quanta(m.tick_usd, PRICE_SCALE),
            to_quanta(m.qty_step_shares, QTY_SCALE),
            m.due_from or calendar.first_session,
            m.member_to,
        )
        for symbol, m in settings.trading.universe.members.items()
    }
    return stored.sync_universe(
        conn,
        universe=settings.trading.universe.name,
        calendar=settings.trading.book.calendar,
        currency=settings.trading.book.currency,
        members=wanted,
    )


def and_held(members: Sequence[Member], held: Sequence[Instrument]) -> tuple[Member, ...]:
    """Return the universe, and behind it what the book holds of names that were taken out: due on no day."""
    known = {m.instrument.instrument_id for m in members}
    gone = [Member(instrument=i, member_from=date.max, member_to=None) for i in held if i.instrument_id not in known]
    return (*members, *gone)


def bar_ends_until(calendar: Calendar, bar_end: datetime, timeframe: str, count: int) -> list[tuple[date, datetime]]:
    """Return the `count` bar ends up to and with bar_end, each with its session, oldest first."""
    ends = [bar_end]
    while len(ends) < count:
        ends.append(calendar.previous_bar_end(ends[-1], timeframe))
    return [(calendar.session_of(end), end) for end in reversed(ends)]


def read_panel(
    conn: psycopg.Connection,
    *,
    timeframe: str,
    source: str,
    instruments: Sequence[Instrument],
    ends: Sequence[tuple[date, datetime]],
    as_of: datetime | None = None,
    series: Sequence[str] = (),
) -> Panel:
    """Read the panel of some instruments at some (session, bar end) pairs, as known at as_of (None: now).

    series: alternative series to read beside the bars, each row as known at its own bar's end.
    """
    ns, day = stored.session_days(ends)
    panel = stored.read_panel(
        conn, timeframe=timeframe, source=source, instruments=instruments, bar_end_ns=ns, day=day, as_of=as_of
    )
    if not series:
        return panel
    ids = [i.instrument_id for i in instruments]
    return replace(panel, series=values.read(conn, series, instruments=ids, bar_end_ns=ns, as_of=as_of))


def series_of(found: Iterable[Rule]) -> tuple[str, ...]:
    """Return the alternative series that some strategies read."""
    return tuple(sorted({name for rule in found for name in rule.series}))


def to_market(
    panel: Panel,
    actions: Sequence[Action],
    *,
    calendar: Calendar,
    timeframe: str,
    deposits: Mapping[int, int] | None = None,
    person_states: Mapping[int, int] | None = None,
    left_days: Mapping[int, int] | None = None,
) -> Market:
    """Return a panel and the actions that go ex in it as kernel arrays [T + 1, n]: one more row tells the next bar.

    An action goes ex at the first bar of its session, or of the next one if its date is none. deposits and
    person_states are keyed by bar_end_ns; left_days says from which day on an instrument is no longer a member.
    """
    n_bars, n = panel.traded.shape
    last_end = calendar.next_bar_end(_at(panel, n_bars - 1, calendar, timeframe), timeframe)
    days = np.append(panel.day, to_day(calendar.session_of(last_end)))
    ns = np.append(panel.bar_end_ns, to_ns(last_end))
    ones, zeros = np.ones((n_bars + 1, n), np.int64), np.zeros((n_bars + 1, n), np.int64)
    num, den, dividend, pay_day = ones, ones.copy(), zeros, zeros.copy()
    head = np.zeros((n_bars + 1, H_COLUMNS), np.int64)
    head[:, H_NS], head[:, H_DAY], head[:, H_PERSON] = ns, days, -1
    for t in range(n_bars + 1):
        ends = calendar.bar_ends(from_day(int(days[t])), timeframe)
        head[t, H_FIRST] = ns[t] == to_ns(ends[0])
        head[t, H_LAST] = ns[t] == to_ns(ends[-1])
        if head[t, H_FIRST]:
            head[t, H_DAYS] = days[t] - to_day(calendar.previous_session(from_day(int(days[t]))))
    where = {i.instrument_id: k for k, i in enumerate(panel.instruments)}
    for action in actions:
        t = int(np.searchsorted(days, to_day(action.ex_date)))
        if t > n_bars or action.instrument_id not in where or (t == 0 and not head[0, H_FIRST]):
            continue
        _put_action(action, t, where[action.instrument_id], num, den, dividend, pay_day)
    head[:, H_QUIET] = ((num == 1) & (den == 1) & (dividend == 0)).all(axis=1)
    for key, amount in (deposits or {}).items():
        head[ns == key, 4] = amount
    for key, state in (person_states or {}).items():
        head[ns == key, H_PERSON] = state
    left = np.zeros((n_bars + 1, n), np.bool_)
    for instrument, day in (left_days or {}).items():
        if instrument in where:
            left[:, where[instrument]] = days >= day
    padded = {
        name: np.vstack([getattr(panel, name), np.zeros((1, n), getattr(panel, name).dtype)])
        for name in ("open", "high", "low", "close", "volume", "traded")
    }
    return Market(**padded, split_num=num, split_den=den, dividend=dividend, pay_day=pay_day, left=left, head=head)


def _at(panel: Panel, t: int, calendar: Calendar, timeframe: str) -> datetime:
    """Return the bar end of row t as the calendar's own datetime."""
    for end in calendar.bar_ends(from_day(int(panel.day[t])), timeframe):
        if to_ns(end) == panel.bar_end_ns[t]:
            return end
    raise NotBuilt(
        f"row {t} of the panel is no bar end of timeframe {timeframe}", next_step="load bars of the timeframe"
    )


def _put_action(action: Action, t: int, i: int, num: Ints, den: Ints, dividend: Ints, pay_day: Ints) -> None:
    """Write one action into row t, column i."""
    if action.kind in ("split", "stock_dividend"):
        num[t, i] *= action.ratio_num
        den[t, i] *= action.ratio_den
    elif action.kind == "dividend":
        dividend[t, i] += action.dividend_e6
        if action.pay_date is not None:
            pay_day[t, i] = to_day(action.pay_date)
    elif action.kind == "delisting":
        num[t, i], den[t, i] = 0, 1
        dividend[t, i] += action.dividend_e6
    elif action.kind != "symbol_change":  # a name is no number
        raise NotBuilt(
            f"corporate action {action.kind!r} of instrument {action.instrument_id} on {action.ex_date}",
            next_step="settle it by hand and mark the instrument as no longer a member",
        )


def bar_row(market: Market, t: int) -> Market:
    """Return row t of a market."""
    return Market(*(a[t] for a in market))


def left_days(members: Sequence[Member], instruments: Sequence[int]) -> dict[int, int]:
    """Return {instrument: first day no longer a member} of those that leave, or were taken out of the universe."""
    until = {m.instrument.instrument_id: m.member_to for m in members}
    gone = {i: date.min for i in instruments if i not in until}
    return {i: to_day(d) for i, d in {**until, **gone}.items() if d is not None}


def instrument_arrays(instruments: Sequence[Instrument]) -> Instruments:
    """Return tick and step of instruments as kernel arrays."""
    return Instruments(
        np.array([i.tick_e4 for i in instruments], np.int64), np.array([i.qty_step_e6 for i in instruments], np.int64)
    )


def capital_of(found: Sequence[Rule], names: Sequence[str], instruments: Sequence[Instrument]) -> Capital:
    """Return shares and membership of strategies in the given order; one that is no longer configured gets nothing."""
    by_name = {r.name: r for r in found}
    share = np.array([by_name[s].share if s in by_name else 0.0 for s in names])
    member = np.array([[s in by_name and i.symbol in by_name[s].symbols for i in instruments] for s in names], np.bool_)
    return Capital(share, member.reshape(len(names), len(instruments)))


def window_rows(settings: Settings, found: Sequence[Rule] | None = None) -> int:
    """Return how many bars back a decision looks: the longest look-back of the strategies, or that of the risk."""
    loaded, trading = rules(settings) if found is None else found, settings.trading
    plan = plan_of(trading, trading.universe.symbols, trading.enabled(), 252.0)  # rows, whatever a year has
    risk = max(trading.risk.volatility_lookback_bars, plan.rows if plan else 0)
    return max([r.lookback_bars for r in loaded] + [risk + 1])


def columns_of(rule: Rule, instruments: Sequence[Instrument]) -> list[int]:
    """Return the columns of a strategy's symbols."""
    return [k for k, i in enumerate(instruments) if i.symbol in rule.symbols]


def window_of(rule: Rule, panel: Panel) -> Panel:
    """Return what a strategy scores the last row of a panel from: its symbols, its lookback, its series."""
    end, own = panel.bar_end_ns.size, panel.with_series(rule.series)
    return own.columns(columns_of(rule, panel.instruments)).rows(end - rule.lookback_bars, end)


def score_now(rule: Rule, panel: Panel) -> Floats:
    """Return a strategy's scores [n] at the last row of a panel that holds its lookback; NaN beside its symbols.

    A name that is no member yet has no score, though bulk loads bring bars from before; one that left is flat.

    Raises StrategyError whatever the strategy's own code raised: it is the owner's, and may raise anything.
    """
    index, cut = columns_of(rule, panel.instruments), window_of(rule, panel)
    out = np.full(len(panel.instruments), np.nan)
    try:
        out[index] = strategies.score_last(rule.strategy, rule.params, cut)
    except StrategyError:
        raise
    except Exception as error:  # the boundary to the owner's code
        raise StrategyError(
            f"strategy {rule.name} raised {type(error).__name__}: {error}.",
            next_step=f"run `python -m tradecore signal SESSION --strategy {rule.name}` to see it",
            strategy=rule.name,
        ) from error
    return np.asarray(_while_member(rule, panel, out[None, :])[-1])


def score_history(rule: Rule, panel: Panel) -> Floats:
    """Return a strategy's scores [T, n] of every row, each from its own lookback rows."""
    index = columns_of(rule, panel.instruments)
    out = np.full(panel.traded.shape, np.nan)
    out[:, index] = strategies.score_panel(rule.strategy, rule.params, panel.with_series(rule.series).columns(index))
    return _while_member(rule, panel, out)


def _while_member(rule: Rule, panel: Panel, score: Floats) -> Floats:
    """Return scores of the last rows of a panel as membership has them: NaN before it, 0 once a name has left."""
    day, never = panel.day[-score.shape[0] :, None], (to_day(date.max), to_day(date.max))
    first, until = np.array([rule.due.get(i.symbol, never) for i in panel.instruments], np.int64).reshape(-1, 2).T
    return np.asarray(np.where(day >= until, 0.0, np.where(day >= first, score, np.nan)))


def bars_per_year(calendar: Calendar, timeframe: str) -> float:
    """Return the sessions of a year times the bars of a full session."""
    return calendar.sessions_per_year * max(len(calendar.bar_ends(d, timeframe)) for d in _sample_sessions(calendar))


def _sample_sessions(calendar: Calendar) -> tuple[date, ...]:
    return calendar.sessions_in_range(calendar.last_session.replace(month=1, day=1), calendar.last_session)[:5]


def outlook_of(
    panel: Panel, n_bars: int, settings: Settings, calendar: Calendar, names: Sequence[str]
) -> Outlook | None:
    """Return what the decisions at the last n_bars rows of a panel know of risk; None where nothing asks for it. names:
    the strategies, in the order of the scores."""
    trading = settings.trading
    plan = plan_of(trading, panel.symbols, names, bars_per_year(calendar, trading.book.timeframe))
    if plan is None:
        return None
    end = panel.bar_end_ns.size
    cut = panel.rows(end - n_bars - plan.rows, end)
    return risk_outlook.outlook(plan, adjusted(cut.close, cut), cut.close * cut.volume)


def volatility_now(panel: Panel, settings: Settings, calendar: Calendar) -> Floats:
    """Return the annualised volatility [n] at the last row of a panel."""
    lookback = settings.trading.risk.volatility_lookback_bars
    cut = panel.rows(max(0, panel.bar_end_ns.size - lookback - 1), panel.bar_end_ns.size)
    return np.asarray(
        step.volatilities(adjusted(cut.close, cut), lookback, bars_per_year(calendar, settings.trading.book.timeframe))[
            -1
        ]
    )
