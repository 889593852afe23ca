"""Risk and plan: scores to targets to an order sheet, versioned by the hash of what they were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from tradecore import certificates, configurations, market, order_style, provenance, waiting
from tradecore.backtest import step
from tradecore.bars import Panel
from tradecore.context import Context
from tradecore.errors import BookError, StrategyError
from tradecore.model import (
    DECISION_EVENTS,
    EQUITY,
    EV_GROUP_CAP,
    EV_REPLACED,
    EV_STRESS_CAP,
    EV_THROTTLE,
    EVENT_NAMES,
    O_INSTR,
    O_LIMIT,
    O_LINE,
    O_QTY,
    O_REF,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    O_TYPE,
    PEAK,
    PREV_SESSION_EQUITY,
    STATE,
    Decision,
    Instrument,
    Instruments,
    Journal,
    Market,
)
from tradecore.settlement import load_bar
from tradecore.storage import bars as stored
from tradecore.storage import books, queries
from tradecore.storage.books import Axes, LoadedBook
from tradecore.validation import suite_version

SQL = queries.load("decisions")
PPM = 1_000_000
NOBODY_ASKED = ("not_required", "configuration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything a decision at this bar is made with."""

    axes: Axes
    instruments: list[Instrument]
    loaded: LoadedBook
    bar: Market
    arrays: Instruments
    rules: tuple[market.Rule, ...]


def bench(ctx: Context, *, with_planned: bool = False) -> Bench:
    """Load the book after this bar, and the bar, in the book's order of instruments and strategies."""
    rules = market.rules(ctx.settings)
    members = stored.read_universe(ctx.conn, ctx.record.universe)
    axes = books.held_axes(
        ctx.conn,
        ctx.book,
        ctx.previous_bar_end,
        ctx.bar_end_at,
        instruments=[m.instrument.instrument_id for m in members],
        strategies=[r.name for r in rules],
    )
    loaded = books.load(ctx.conn, ctx.book, ctx.bar_end_at, axes, with_planned=with_planned)
    by_id = stored.instruments_by_id(ctx.conn, axes.instruments)
    bar, arrays = load_bar(ctx, axes)
    return Bench(
        axes=axes, instruments=[by_id[i] for i in axes.instruments], loaded=loaded, bar=bar, arrays=arrays, rules=rules
    )


def newest(ctx: Context, bar_end: datetime | None = None) -> tuple[int, str, str | None] | None:
    """Return (version, inputs hash, sheet hash) of the newest decision at a bar, or None."""
    row = ctx.conn.execute(SQL["newest"], (ctx.book, bar_end or ctx.bar_end_at)).fetchone()
    return (int(row[0]), str(row[1]), row[2]) if row else None


def needs_person(ctx: Context, approval: Sequence[Any]) -> bool:
    """Tell whether an approval (sheet, verdict, actor) is the configuration's own, and a person's is asked for now."""
    return ctx.settings.trading.execution.approval_required and tuple(approval[1:3]) == NOBODY_ASKED


def gate(ctx: Context) -> tuple[bool, str]:
    """Return whether the data gate of this bar is open, and why not."""
    verdict = stored.known_quality(
        ctx.conn,
        source=ctx.record.source,
        timeframe=ctx.record.timeframe,
        bar_end=ctx.bar_end_at,
        universe=ctx.record.universe,
        suite=suite_version(ctx.settings.trading.validation),
    )
    return (verdict.gate_open, verdict.gate_reason) if verdict else (False, "the bar was not validated")


def window_panel(ctx: Context, instruments: list[Instrument], rows: int, rules: Sequence[market.Rule]) -> Panel:
    """Return the last `rows` bars up to this one, with the alternative series that the rules read."""
    ends = market.bar_ends_until(ctx.calendar, ctx.bar_end_at, ctx.record.timeframe, rows)
    return market.read_panel(
        ctx.conn,
        timeframe=ctx.record.timeframe,
        source=ctx.record.source,
        instruments=instruments,
        ends=ends,
        as_of=ctx.as_of(),
        series=market.series_of(rules),
    )


def decide(ctx: Context) -> dict[str, object]:
    """Turn the signals of this bar into targets, limits and a versioned decision; unchanged inputs change nothing."""
    at = bench(ctx)
    panel = window_panel(ctx, at.instruments, market.window_rows(ctx.settings, at.rules), at.rules)
    scores, runs = _scores(ctx, at, panel)
    stopped = [name for name, ok, _ in runs if not ok and _on_failure(at, name) == "stop"]
    if stopped:
        reason = f"strategy {', '.join(stopped)} failed and says stop"
        ctx.alert(
            kind="no_decision",
            severity="error",
            stage="risk",
            title="No decision",
            body=reason,
            next_step="correct the strategy, then clear the signal task",
        )
        return {"decision": "none", "reason": reason}
    params = step.step_params(ctx.settings.trading.risk, ctx.settings.trading.execution)
    data = provenance.data_hash(panel, market.bar_row(at.bar, 1))
    config = configurations.keep(ctx.conn, ctx.settings, ctx.now)
    code = provenance.code_hash(ctx.settings.home)
    inputs = provenance.hash_of(data, config, code, at.loaded.state_hash, sorted(runs))
    last = newest(ctx)
    if last and last[1] == inputs:
        return {"decision": last[0], "already": True}
    if not may_change(ctx):
        raise BookError(
            f"the inputs of session {ctx.session_date} changed after its orders were sent.",
            next_step="leave it: the next session decides on the new data; `replay_day` shows the difference",
            book=ctx.book,
        )
    capital = market.capital_of(at.rules, at.axes.strategies, at.instruments)
    outlook = market.outlook_of(panel, 1, ctx.settings, ctx.calendar, at.axes.strategies)
    decision, journal = step.decide(
        at.loaded.book,
        scores,
        capital,
        market.volatility_now(panel, ctx.settings, ctx.calendar),
        market.bar_row(at.bar, 0),
        market.bar_row(at.bar, 1),
        at.arrays,
        params,
        outlook,
        past_scores(ctx, at.axes, outlook.plan.throttle_bars if outlook else 0),
    )
    version = last[0] + 1 if last else 1
    ctx.conn.execute(
        SQL["add"],
        {
            "book": ctx.book,
            "bar_end": ctx.bar_end_at,
            "version": version,
            "inputs": inputs,
            "data": data,
            "config": config,
            "code": code,
            "state": at.loaded.state_hash,
            "as_of": ctx.as_of(),
            "manifest": ctx.manifest_hash(),
            "now": ctx.now,
        },
    )
    _void_earlier(ctx, version)
    _store_targets(ctx, version, at, decision)
    _store_events(ctx, version, journal, at.axes)
    return {"decision": version, "targets": int((decision.target != 0).sum()), "opinions": int(decision.opinion.sum())}


def may_change(ctx: Context) -> bool:
    """Tell whether a bar may be decided anew: nothing of it was sent."""
    row = ctx.conn.execute(SQL["submitting"], ctx.key).fetchone()
    return row is None or not int(row[0])


def _on_failure(at: Bench, name: str) -> str:
    return next((r.on_failure for r in at.rules if r.name == name), "hold")


def _scores(ctx: Context, at: Bench, panel: Panel) -> tuple[np.ndarray, list[tuple[str, bool, str]]]:
    """Return scores [S, n] and (strategy, ok, hash): a failed one has no opinion, or 0 where it says flatten."""
    scores = np.full((len(at.axes.strategies), len(at.axes.instruments)), np.nan)
    where = {i: k for k, i in enumerate(at.axes.instruments)}
    runs = [_run_of(ctx, rule, panel, record) for rule, record in _records(ctx, at)]
    alive = {name for name, ok, _ in runs if ok}
    for strategy, instrument, score in ctx.conn.execute(SQL["signals"], ctx.key).fetchall():
        if strategy in alive and instrument in where:
            scores[at.axes.strategies.index(strategy), where[instrument]] = score
    for name, ok, _ in runs:
        if not ok and _on_failure(at, name) == "flatten":
            scores[at.axes.strategies.index(name)] = 0.0
    return scores, runs


def past_scores(ctx: Context, axes: Axes, bars: int) -> np.ndarray | None:
    """Return the scores [bars, S, n] that were stored before this bar, NaN where there are none; None for no bars."""
    if not bars:
        return None
    ends = market.bar_ends_until(ctx.calendar, ctx.bar_end_at, ctx.record.timeframe, bars + 1)[:-1]
    row, column = {end: t for t, (_, end) in enumerate(ends)}, {i: k for k, i in enumerate(axes.instruments)}
    out = np.full((bars, len(axes.strategies), len(axes.instruments)), np.nan)
    found = ctx.conn.execute(SQL["signals_since"], (ctx.book, ends[0][1], ctx.bar_end_at)).fetchall()
    for end, strategy, instrument, score in found:
        if end in row and strategy in axes.strategies and instrument in column:
            out[row[end], axes.strategies.index(strategy), column[instrument]] = score
    return out


def _records(ctx: Context, at: Bench) -> list[tuple[market.Rule, tuple[Any, ...] | None]]:
    """Return each strategy with the record (strategy, ok, error, score hash, data hash) that its task left, or None."""
    found = {r[0]: r for r in ctx.conn.execute(SQL["strategy_runs"], ctx.key).fetchall()}
    return [(rule, found.get(rule.name)) for rule in at.rules]


def _run_of(ctx: Context, rule: market.Rule, panel: Panel, record: tuple[Any, ...] | None) -> tuple[str, bool, str]:
    """Return (strategy, ok, score hash). One whose task was killed has failed: it left no record, or an older one.

    An older record is of other bars than those of now: something was restated, and the strategy not scored again.
    """
    if record is not None and record[1] and _refused(ctx, rule):
        return rule.name, False, ""
    if record is not None and (not record[1] or record[4] == provenance.data_hash(market.window_of(rule, panel))):
        return rule.name, bool(record[1]), str(record[3])
    known = record is not None
    ctx.alert(
        kind="strategy",
        severity="error",
        stage="signal",
        key=f"{rule.name}:outdated" if known else rule.name,
        title=f"Strategy {rule.name} {'has scored other bars than those of now' if known else 'left no signal'}",
        body=("Bars changed after it scored them, and it was not run again" if known else "Its task was killed")
        + f"; it counts as failed. Its holdings: {rule.on_failure}.",
        next_step="clear the signal task; look at its log, and at the machine's memory",
    )
    return rule.name, False, ""


def _refused(ctx: Context, rule: market.Rule) -> bool:
    """Tell whether a strategy that was scored has no certificate any more, and alert."""
    try:
        certificates.require(ctx.conn, rule, ctx.settings.strategies_folder)
    except StrategyError as error:
        ctx.alert(
            kind="strategy",
            severity="error",
            stage="risk",
            key=f"{rule.name}:certificate",
            title=f"Strategy {rule.name} has no valid certificate any more",
            body=f"{error.message} It was scored before. Its holdings: {rule.on_failure}.",
            next_step=error.next_step,
        )
        return True
    return False


def _void_earlier(ctx: Context, version: int) -> None:
    """A new version voids approvals and intents of the earlier ones."""
    ctx.conn.execute(SQL["void_approvals"], (*ctx.key, version))
    stale = [r[0] for r in ctx.conn.execute(SQL["open_intents_before"], (*ctx.key, version)).fetchall()]
    books.add_order_events(
        ctx.conn, stale, "VOIDED", bar_end=ctx.bar_end_at, now=ctx.now, detail=f"replaced by version {version}"
    )


def _store_targets(ctx: Context, version: int, at: Bench, decision: Decision) -> None:
    """Write targets, who asked for what, and the risk snapshot."""
    acct = at.loaded.book.acct
    equity = max(1, int(acct[EQUITY]))
    worth = [int(q) * int(r) // 1_000_000 for q, r in zip(decision.target, decision.ref, strict=True)]
    moved = [
        abs(int(t) - int(q)) * int(r) // 1_000_000
        for t, q, r in zip(decision.target, decision.qty, decision.ref, strict=True)
    ]
    with ctx.conn.cursor() as cur:
        cur.executemany(
            SQL["add_target"],
            [
                (
                    *ctx.key,
                    version,
                    at.axes.instruments[i],
                    w * PPM // equity,
                    int(decision.target[i]),
                    int(decision.ref[i]),
                    bool(decision.opinion[i]),
                )
                for i, w in enumerate(worth)
            ],
        )
        cur.executemany(
            SQL["add_contribution"],
            [
                (*ctx.key, version, at.axes.strategies[s], at.axes.instruments[i], int(decision.contribution[s, i]))
                for s, i in np.argwhere(decision.contribution != 0).tolist()
            ],
        )
    before, peak = max(1, int(acct[PREV_SESSION_EQUITY])), max(1, int(acct[PEAK]))
    ctx.conn.execute(
        SQL["add_snapshot"],
        (
            *ctx.key,
            version,
            sum(abs(w) for w in worth) * PPM // equity,
            sum(moved) * PPM // equity,
            (int(acct[EQUITY]) - before) * PPM // before,
            (peak - int(acct[EQUITY])) * PPM // peak,
            int(acct[STATE]),
        ),
    )


def _store_events(ctx: Context, version: int, journal: Journal, axes: Axes) -> None:
    """Write each limit that changed a target and each order that planning left out."""
    for kind, i, before, after, _ns in journal.events.tolist():
        if kind in DECISION_EVENTS:
            ctx.conn.execute(
                SQL["add_risk_event"],
                {
                    "book": ctx.book,
                    "bar_end": ctx.bar_end_at,
                    "version": version,
                    "rule": EVENT_NAMES[kind],
                    "instrument": axes.instruments[i] if i >= 0 else None,
                    "before": before,
                    "after": after,
                    "detail": _detail(ctx, axes, kind, i),
                },
            )


def _detail(ctx: Context, axes: Axes, kind: int, i: int) -> str:
    """Return which group, shock or strategy a limit speaks of."""
    risk = ctx.settings.trading.risk
    if kind == EV_THROTTLE:
        return axes.strategies[-2 - i]
    if kind == EV_GROUP_CAP:
        return list(risk.limits.groups)[-2 - i]
    return list(risk.tail.shocks)[-2 - i] if kind == EV_STRESS_CAP else ""


def make_sheet(ctx: Context) -> dict[str, object]:
    """Turn the targets of the newest decision into intents and the hash of the order sheet. Once per version."""
    last = newest(ctx)
    if last is None:
        return {"orders": 0, "reason": "no decision"}
    version, _, sheet = last
    if sheet is not None:
        return {"orders": _count(ctx, version), "version": version, "already": True}
    at = bench(ctx)
    decision = _load_decision(ctx, version, at)
    params = step.step_params(ctx.settings.trading.risk, ctx.settings.trading.execution)
    _, journal = step.plan(
        at.loaded.book, decision, market.bar_row(at.bar, 0), market.bar_row(at.bar, 1), at.arrays, params
    )
    lines = [line for row in journal.orders.tolist() for line in _add_intents(ctx, version, at, row)]
    books.add_order_events(
        ctx.conn, [str(line["id"]) for line in lines], "PLANNED", bar_end=ctx.bar_end_at, now=ctx.now
    )
    parents = [str(line["id"]) for line in lines if line["type"] == "twap"]
    books.add_order_events(
        ctx.conn, parents, "VOIDED", bar_end=ctx.bar_end_at, now=ctx.now, detail="its slices stand for it"
    )
    cancels = sorted(at.loaded.order_ids[end[0], end[2]] for end in journal.ends.tolist())
    with ctx.conn.cursor() as cur:
        cur.executemany(SQL["add_cancel"], [(*ctx.key, version, order_id) for order_id in cancels])
    _store_events(ctx, version, journal, at.axes)
    digest = provenance.hash_of(ctx.book, ctx.bar_end_at.isoformat(), version, lines, cancels)
    ctx.conn.execute(
        SQL["set_sheet"], {"sheet": digest, "book": ctx.book, "bar_end": ctx.bar_end_at, "version": version}
    )
    return {"orders": len(lines), "version": version, "sheet": digest}


def cancel_replaced(ctx: Context) -> None:
    """End the carried orders that the newest sheet replaces, in the transaction that sends it."""
    last = newest(ctx)
    if last is None:
        return
    replaced = [r[0] for r in ctx.conn.execute(SQL["open_cancels"], (*ctx.key, last[0])).fetchall()]
    books.add_order_events(
        ctx.conn, replaced, "CANCELED", bar_end=ctx.bar_end_at, now=ctx.now, detail=EVENT_NAMES[EV_REPLACED]
    )


def _count(ctx: Context, version: int) -> int:
    row = ctx.conn.execute(
        "SELECT count(*) FROM intents WHERE book = %s AND bar_end_at = %s AND version = %s", (*ctx.key, version)
    ).fetchone()
    return int(row[0]) if row else 0


def _load_decision(ctx: Context, version: int, at: Bench) -> Decision:
    """Rebuild the kernel's Decision from what the risk stage stored."""
    n, strategies = len(at.axes.instruments), at.axes.strategies
    where = {i: k for k, i in enumerate(at.axes.instruments)}
    target, ref = np.zeros(n, np.int64), np.zeros(n, np.int64)
    opinion, contribution = np.zeros(n, np.bool_), np.zeros((len(strategies), n), np.int64)
    for instrument, qty, price, has in ctx.conn.execute(SQL["targets"], (*ctx.key, version)).fetchall():
        i = where[instrument]
        target[i], ref[i], opinion[i] = qty, price, has
    for strategy, instrument, qty in ctx.conn.execute(books.SQL["contributions"], (*ctx.key, version)).fetchall():
        contribution[strategies.index(strategy), where[instrument]] = qty
    qty_next = step.in_next_units(at.loaded.book, market.bar_row(at.bar, 1), at.arrays)
    return Decision(np.zeros_like(contribution), contribution, target, ref, opinion, qty_next, at.loaded.book.alloc)


def client_order_id(ctx: Context, instrument: int, epoch: int, *, leg: int = 0, child: int = 0) -> str:
    """Return the id of an intent: a hash of what it is for, with no clock, no chance and no try number in it."""
    text = "|".join(
        str(x) for x in (ctx.book, ctx.record.account, ctx.bar_end_at.isoformat(), instrument, leg, child, epoch)
    )
    return "tc-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def _add_intents(ctx: Context, version: int, at: Bench, row: list[int]) -> list[dict[str, object]]:
    """Write the orders of one line of the sheet; return their canonical records."""
    instrument = at.axes.instruments[row[O_INSTR]]
    earlier = ctx.conn.execute(SQL["intents_of"], (*ctx.key, instrument)).fetchone()
    epoch = int(earlier[0]) if earlier else 0
    parent_id = client_order_id(ctx, instrument, epoch)
    lines: list[dict[str, object]] = []
    for styled in _styled(ctx, at, row):
        line: dict[str, object] = {
            "id": client_order_id(ctx, instrument, epoch, child=styled.child),
            "book": ctx.book,
            "account": ctx.record.account,
            "bar_end": ctx.bar_end_at,
            "version": version,
            "instrument": instrument,
            "child": styled.child,
            "epoch": epoch,
            "line": styled.line,
            "qty": styled.qty_e6,
            "type": styled.order_type,
            "tif": styled.time_in_force,
            "remainder": ctx.settings.trading.execution.remainder,
            "limit": styled.limit_e4,
            "stop": styled.stop_e4,
            "take_profit": styled.take_profit_e4,
            "stop_loss": styled.stop_loss_e4,
            "parent": parent_id if styled.child else None,
            "not_before": styled.not_before_at,
            "ref": row[O_REF],
            "num": row[O_SPLIT_NUM],
            "den": row[O_SPLIT_DEN],
            "next": ctx.next_bar_end,
            "reason": "rebalance to target",
        }
        ctx.conn.execute(SQL["add_intent"], line)
        lines.append(line)
    return lines


def _styled(ctx: Context, at: Bench, row: list[int]) -> tuple[order_style.Styled, ...]:
    """Return a line as the orders that its venue gets."""
    line, qty, instrument = row[O_LINE], row[O_QTY], row[O_INSTR]
    if ctx.record.kind == "simulated":
        return order_style.simulated(line, qty, kind=row[O_TYPE], limit_e4=row[O_LIMIT], stop_e4=row[O_STOP])
    return order_style.styled(
        ctx.settings.trading.execution,
        line=line,
        qty_e6=qty,
        ref_e4=row[O_REF],
        tick_e4=int(at.arrays.tick[instrument]),
        step_e6=int(at.arrays.step[instrument]),
        window=waiting.window(ctx),
        covers=bool(at.loaded.book.qty[instrument] < 0),
    )
