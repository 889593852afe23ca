"""The form fields of the session and research DAGs, with what a person reads beside them in Airflow's form."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

DATE: dict[str, Any] = {"type": ["null", "string"], "format": "date"}
NAMED = "^replay:[a-z0-9._-]{1,50}$"


def own_book(name: str) -> dict[str, Param]:
    """Return the fields of the DAG that runs the configured book."""
    return {
        "session": _session(),
        "book": Param(name, type="string", enum=[name], title="Book", description="The one in trading.yaml."),
    }


def named_book() -> dict[str, Param]:
    """Return the fields of the DAG that runs a book of any name, and opens it if there is none."""
    begins = "Where a book begins that does not exist yet; a backfill needs it. A book that exists ignores it."
    name = (
        "'replay:' and a name of yours: each name is a book with its own cash and history. "
        "For a backfill tick 'Override parameters on existing runs': else Airflow sends no field."
    )
    return {
        "session": _session(),
        "book": Param("replay:default", type="string", pattern=NAMED, title="Book", description=name),
        "first_session": Param(None, **DATE, title="First session", description=begins),
    }


def backtest() -> dict[str, Param]:
    """Return the fields of a backtest; an empty one leaves what trading.yaml says."""
    money: dict[str, Any] = {"type": ["null", "number"], "exclusiveMinimum": 0, "maximum": 100_000_000}
    costs: dict[str, Any] = {"type": ["null", "number"], "minimum": 0, "maximum": 1_000}
    names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    against = "'universe': all names in equal parts, free of costs; or one of its symbols; empty: none."
    return {
        **_range(),
        "strategies": Param([], **names, title="Strategies", description="Empty: those that are on."),
        "params_json": Param(
            "{}",
            type="string",
            title="Parameters",
            description='By strategy, as JSON: {"ma_crossover": {"short_period": 10}}.',
        ),
        "cash_usd": Param(None, **money, title="Opening cash, USD", description="Empty: the configured cash."),
        "cost_bps": Param(
            None, **costs, title="Costs, bps", description="Slippage and commission together. Empty: as configured."
        ),
        "benchmark": Param("universe", type="string", maxLength=20, title="Benchmark", description=against),
    }


def analysis() -> dict[str, Param]:
    """Return the fields of the page on a universe."""
    names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    return {**_range(), "symbols": Param([], **names, title="Symbols", description="Empty: the whole universe.")}


def _range() -> dict[str, Param]:
    return {
        "first_session": Param(None, **DATE, title="First session", description="Empty: five years before the last."),
        "last_session": Param(None, **DATE, title="Last session", description="Empty: the feed's last."),
    }


def _session() -> Param:
    which = "The trading session to run; the logical date does not matter. Empty: the book's next one."
    return Param(None, **DATE, title="Session", description=f"{which} In a backfill leave it empty.")
