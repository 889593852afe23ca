"""What a book could lose, and whether what was said of it held. (`risk` is the stage of that name.)"""

from __future__ import annotations

from typing import Any

from tradecore.cli.shell import Bar, Book, Day, Json, app, connection, load_settings, run_stage, show


@app.command("portfolio-risk")
def portfolio_risk(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Measure what a book could lose from a session's close on: value at risk, shortfall, stress, who is responsible.

    Stores nothing; the report's own figures are kept at each session. Example: python -m tradecore portfolio-risk
    2005-02-28
    """

    def call(_: Any, ctx: Any) -> dict[str, object]:
        from tradecore import portfolio_risk as of

        found = of.measured(ctx)
        ctx.conn.rollback()
        return found if found is not None else {"measured": "nothing: the book is worth nothing"}

    if as_json:
        run_stage("portfolio-risk", day, book, bar, True, call)
        return

    def lines(p: Any, ctx: Any) -> dict[str, object]:
        found = call(p, ctx)
        if "losses" not in found:
            return found
        out: dict[str, object] = {
            f"{x['method']} {x['confidence']:.0%} {x['bars']}": f"VaR {x['value_at_risk']:.2%}  "
            f"ES {x['expected_shortfall']:.2%}"
            for x in found["losses"]  # type: ignore[attr-defined]
        }
        for name, loss in found["stress"].items():  # type: ignore[attr-defined]
            out[f"stress {name}"] = f"{loss:.2%}"
        for n in found["names"]:  # type: ignore[attr-defined]
            out[n["symbol"]] = f"weight {n['weight']:.2%}  beta {n['beta']:.2f}  component {n['component']:.2%}"
        return out

    run_stage("portfolio-risk", day, book, bar, False, lines)


@app.command("risk-backtest")
def risk_backtest(book: Book = "", as_json: Json = False) -> None:
    """Hold the kept value at risk of each session against the next one's return: Kupiec and Christoffersen.

    Example: python -m tradecore risk-backtest
    """
    from tradecore import portfolio_risk as of

    found = load_settings()
    with connection(found) as conn:
        result = of.backtests(conn, book or found.trading.book.name)
    text = {
        name: f"{r['exceeded']} of {r['sessions']} beyond, {r['expected']} expected; p {r['kupiec']['p']:.3f}, "
        f"independence {r['independence']['p']:.3f}"
        for name, r in result.items()
    }
    show(result if as_json else text or {"risk": "nothing was measured yet"}, as_json)
