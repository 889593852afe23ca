"""One strategy's scores of a bar: computed, stored with the hashes of what they were made from; a failure is told."""

from __future__ import annotations

import numpy as np

from tradecore import certificates, decision, market, provenance
from tradecore.context import Context, deliver_quietly
from tradecore.errors import StrategyError


def score(ctx: Context, name: str) -> dict[str, object]:
    """Score one strategy on the bar and keep what came of it. Commits.

    A failure is recorded and alerted, then raised: StrategyError.
    """
    rule = next(r for r in market.rules(ctx.settings) if r.name == name)
    at = decision.bench(ctx)
    panel = decision.window_panel(ctx, at.instruments, rule.lookback_bars, [rule])
    failure: StrategyError | None = None
    scores: dict[int, float] = {}
    try:
        values = market.score_now(rule, panel)
        certificates.require(ctx.conn, rule, ctx.settings.strategies_folder)
        scores = {at.axes.instruments[i]: float(values[i]) for i in market.columns_of(rule, at.instruments)}
    except StrategyError as error:
        failure = error
        ctx.alert(
            kind="strategy",
            severity="error",
            stage="signal",
            key=name,
            title=f"Strategy {name} failed",
            body=f"{error.message} Its holdings: {rule.on_failure}.",
            next_step=error.next_step,
        )
    with ctx.conn.cursor() as cur:
        cur.executemany(decision.SQL["add_signal"], [(*ctx.key, name, i, s) for i, s in scores.items()])
    ctx.conn.execute(
        decision.SQL["add_strategy_run"],
        {
            "book": ctx.book,
            "bar_end": ctx.bar_end_at,
            "strategy": name,
            "ok": failure is None,
            "error": failure.message if failure else "",
            "hash": provenance.score_hash(scores),
            "data": provenance.data_hash(market.window_of(rule, panel)),
        },
    )
    ctx.conn.commit()
    if failure:
        deliver_quietly(ctx)
        raise failure
    opinions = sum(not np.isnan(s) for s in scores.values())
    return {"strategy": name, "opinions": opinions, "long": sum(s > 0 for s in scores.values())}
