"""Names of instruments over time: what a configured name is called by now, and what it was called on a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from tradecore import operations
from tradecore.errors import ConfigError
from tradecore.settings import Settings
from tradecore.storage import queries
from tradecore.storage.bars import Action

SQL = queries.load("symbols")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedName:
    """A name to ask a feed for: of the instrument that is called `current` by now; until (exclusive), None: still."""

    name: str
    current: str
    until: date | None


def renamed(conn: psycopg.Connection, names: Sequence[str]) -> dict[str, str]:
    """Return {name: the one that its instrument has by now} of the names that are no longer in use."""
    return dict(conn.execute(SQL["renamed"], {"symbols": list(names)}).fetchall())


def current(settings: Settings, conn: psycopg.Connection) -> Settings:
    """Return the settings with every configured name as it is called by now; themselves where nothing was renamed.

    Raises ConfigError where the configuration holds an instrument under its old and under its new name.
    """
    trading = settings.trading
    names = renamed(conn, trading.universe.symbols)
    if not names:
        return settings
    for old, new in names.items():
        if new in trading.universe.members:
            raise ConfigError(
                f"{old} is called {new} by now, and universe.members holds both.",
                next_step=f"take {old} out of {settings.config_path.name}",
                symbol=old,
            )
    members = {names.get(s, s): m for s, m in trading.universe.members.items()}
    strategies = {
        name: config
        if config.symbols == "all"
        else config.model_copy(update={"symbols": tuple(names.get(s, s) for s in config.symbols)})
        for name, config in trading.strategies.items()
    }
    universe = trading.universe.model_copy(update={"members": members})
    return settings.model_copy(
        update={"trading": trading.model_copy(update={"universe": universe, "strategies": strategies})}
    )


def dated_names(conn: psycopg.Connection, names: Sequence[str], first: date, last: date) -> list[DatedName]:
    """Return under which names the instruments that are called `names` by now were known in a range, the oldest first.

    A name that no instrument has yet stands for itself.
    """
    rows = conn.execute(SQL["dated_names"], {"symbols": list(names), "first": first, "last": last}).fetchall()
    found = [DatedName(name=r[1], current=r[0], until=r[2]) for r in rows]
    known = {d.current for d in found}
    return found + [DatedName(name=n, current=n, until=None) for n in names if n not in known]


def apply_changes(
    settings: Settings, conn: psycopg.Connection, new: Sequence[Action], gone: Sequence[Action], now: datetime
) -> None:
    """Give instruments the names that symbol changes say, from their dates on, and take back what was withdrawn.

    A name that another instrument still has is not taken: a person is told, and the old one stays.
    """
    for action in gone:
        if action.kind == "symbol_change":
            key = {"instrument": action.instrument_id, "symbol": action.new_symbol, "day": action.ex_date}
            if conn.execute(SQL["drop_name"], key).rowcount:
                conn.execute(SQL["reopen_name"], key)
    for action in new:
        if action.kind == "symbol_change":
            _rename(settings, conn, action, now)


def _rename(settings: Settings, conn: psycopg.Connection, action: Action, now: datetime) -> None:
    key = {"instrument": action.instrument_id, "symbol": action.new_symbol, "day": action.ex_date}
    taken = conn.execute(SQL["taken"], key).fetchone() is not None
    old = None
    if not taken:
        row = conn.execute(SQL["end_name"], key).fetchone()
        if row is None:  # it has that name
            return
        old = row[0]
        conn.execute(SQL["begin_name"], key)
    file = settings.config_path.name
    operations.raise_alert(
        settings,
        conn,
        severity="error" if taken else "info",
        kind="symbol_change",
        stage="ingest",
        title=f"{action.new_symbol} is the name of two instruments"
        if taken
        else f"{old} is called {action.new_symbol} from {action.ex_date} on",
        body=f"{settings.trading.data.feed} renames instrument {action.instrument_id} to it on {action.ex_date}, and "
        "another one still has that name: nothing was renamed."
        if taken
        else "Bars, orders and reports go by the new name. The configuration may keep the old one for a while: both "
        "mean the same instrument.",
        next_step=f"take {action.new_symbol} out of universe.members in {file}, or end its name in instrument_symbols"
        if taken
        else f"write {action.new_symbol} for {old} in {file}, also in params of strategies",
        now=now,
        dedup_key=f"symbol_change:{action.instrument_id}:{action.ex_date}:{action.new_symbol}",
    )
