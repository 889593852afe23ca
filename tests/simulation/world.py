"""The world of a run: real prices in a template database, a book, the venue, and the settings that tie them together.

Everything that costs time is made once a process: the cluster (fsync off), a template database with migrations and
validated bars, a working copy of it. A run begins by emptying what the run before has written.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import yaml
from psycopg import sql

from alpaca_standin.market import Market, Sessions, bars_from_rows
from alpaca_standin.state import Config, State
from tradecore import pipeline, settings
from tradecore.sessions import TABLES, calendar
from tradecore.settings import Settings
from tradecore.storage import embedded, migrate
from tradecore.storage.connection import connect
from tradecore.strategies import strategy

REPO = Path(__file__).resolve().parents[2]
SAMPLE = REPO / "include" / "sample_data"
ROOT = REPO / ".local" / "simulation"
SYMBOLS = ("AAPL", "IBM", "MSFT")
BOOK, KEY, SECRET, ACCOUNT = "alpaca-paper", "STANDIN-KEY", "standin-secret", "PA0STANDIN00"
HISTORY, FIRST, LAST = date(2004, 12, 1), date(2005, 2, 4), date(2005, 2, 11)
LOADED_AT = datetime(2005, 2, 4, 12, tzinfo=UTC)
KEPT = {"schema_migrations", "migrations", "bars", "bar_versions", "corporate_actions", "instruments"}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "jit": "off"}
RELOAD_S = 30
RUNS_A_TRUNCATE = 25
CONFIG: dict[str, Any] = {
    "book": {"name": BOOK, "broker": "alpaca-paper", "account": BOOK, "run_delay_minutes": 30},
    "universe": {"name": "simulation", "members": {s: {"list_from": date(2000, 3, 1)} for s in SYMBOLS}},
    "data": {"feed": "csv", "options": {"folder": "prices"}, "publication_lag_minutes": 15},
    "validation": {"max_jump_frac": 0.4},
    "strategies": {"sim_targets": {"params": {"seed": 0}}},
    "risk": {"rebalance_band_frac": 0.0, "min_order_notional_usd": 10, "max_daily_loss": 0.5, "max_drawdown": 0.9},
    "execution": {"commission_bps": 0, "window_margin_s": 60},
}


@strategy(lookback_bars=2)
def sim_targets(window: Any, *, seed: int = 0) -> Any:
    """Want something else each session: full, half or nothing of each name, by the seed and the last close."""
    wanted = []
    for k, close in enumerate(window.close[-1]):
        digest = hashlib.sha256(f"{seed} {k} {close:.6f}".encode()).digest()
        wanted.append((1.0, 0.5, 0.0, 1.0)[digest[0] % 4])
    return np.array(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What a run's seed chooses beside the faults: cash, targets, order style and what the venue is like."""

    seed: int = 0
    cash_usd: int = 100_000
    style: str = "market_on_open"
    algorithm: str = "none"
    approval: bool = False
    bracket: bool = False
    partial_frac: str = "0.1"
    sessions: int = 4


@dataclass(slots=True, kw_only=True)
class Ground:
    """What a worker keeps between runs: its database, an administrator's connection, idle sessions for processes."""

    url: str
    monitor: psycopg.Connection[Any]
    base: Settings
    market: Market
    tables: tuple[str, ...]
    columns: dict[str, list[str]]
    wipe: str
    idle: list[Any] = field(default_factory=list)
    runs: int = 0

    def clean(self) -> None:
        """Empty what a run wrote; numbers of identity columns begin anew.

        Rows are deleted: new files under 51 tables and their indexes cost a sixth of a run, and every session would
        plan its statements again. Now and then the tables are cut, so that dead rows do not pile up.
        """
        if self.runs % RUNS_A_TRUNCATE == 0:
            self.monitor.execute("TRUNCATE " + ", ".join(self.tables) + " RESTART IDENTITY")
        else:
            self.monitor.execute(self.wipe)
        self.runs += 1

    def close(self) -> None:
        for conn in self.idle:
            conn.close()
        self.monitor.close()


def sessions_of(variant: Variant) -> Sequence[date]:
    """Return the sessions that a run trades."""
    return calendar("XNYS").sessions_in_range(FIRST, LAST)[: variant.sessions]


def settings_for(ground: Ground, variant: Variant) -> Settings:
    """Return the settings of a variant; what is not varied is the base's."""
    trading = ground.base.trading
    execution = trading.execution.model_copy(
        update={
            "order_style": variant.style,
            "algorithm": variant.algorithm,
            "twap_slices": 2,
            "twap_minutes": 30,
            "approval_required": variant.approval,
            "stop_loss_frac": 0.2 if variant.bracket else None,
            "take_profit_frac": 0.5 if variant.bracket else None,
        }
    )
    rule = trading.strategies["sim_targets"].model_copy(update={"params": {"seed": variant.seed}})
    return ground.base.model_copy(
        update={
            "initial_cash_usd": Decimal(variant.cash_usd),
            "trading": trading.model_copy(update={"execution": execution, "strategies": {"sim_targets": rule}}),
        }
    )


def venue_state(variant: Variant) -> State:
    """Return a fresh account at the venue with the variant's cash."""
    return State.new(
        Config(
            key_id=KEY,
            secret_key=SECRET,
            account_number=ACCOUNT,
            seed=variant.seed,
            cash_usd=Decimal(variant.cash_usd),
            partial_fill_frac=Decimal(variant.partial_frac),
            rate_limit_per_min=200,
        )
    )


# -- what is made once


def cluster() -> str:
    """Start the simulation's own PostgreSQL, with everything off that only a power cut would miss; return its URL."""
    url = embedded.ensure(ROOT)
    with psycopg.connect(url, autocommit=True) as server:
        if server.execute("SELECT current_setting('fsync')").fetchone() == ("off",):
            return url
        place = json.loads((ROOT / ".local/pg/connection.json").read_text())["cluster"]
        with (Path(place) / "data/postgresql.auto.conf").open("a") as conf:  # the application is no superuser
            conf.writelines(f"{name} = {value}\n" for name, value in FAST.items())
        pid = embedded.status(ROOT)
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_S
        while server.execute("SELECT current_setting('fsync')").fetchone() != ("off",):
            assert time.monotonic() < deadline, "the simulation's PostgreSQL does not take its settings"
            time.sleep(0.02)
    return url


def pin(conn: psycopg.Connection[Any]) -> None:
    """Keep a session of the server on this process's core, where that is one core: the two take turns."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(cores) == 1:
        os.sched_setaffinity(conn.info.backend_pid, cores)


def stop_if_idle() -> None:
    """Stop the server unless another process simulates on it; it is kept for the next time."""
    with _locked():
        if embedded.status(ROOT) is not None and not _sweep(embedded.describe(ROOT)):
            embedded.stop(ROOT)


def ground(worker: int = 0) -> Ground:
    """Make a worker's database from the template, and what goes with it; the server is started if need be."""
    ROOT.mkdir(parents=True, exist_ok=True)
    base = _settings()
    with _locked():
        url = cluster()
        _sweep(url)
        return _ground(url, worker, base)


def _ground(url: str, worker: int, base: Settings) -> Ground:
    with psycopg.connect(url, autocommit=True) as server:
        template = _template(server, url, base)
        name = f"sim_{os.getpid()}_{worker}"
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    own = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    monitor = psycopg.connect(own, autocommit=True, options="-c search_path=tradecore,public -c lock_timeout=20s")
    pin(monitor)
    tables = _written(monitor)
    return Ground(
        url=own,
        monitor=monitor,
        base=base,
        market=_market(),
        tables=tables,
        columns=_columns(monitor),
        wipe=_wipe(monitor, tables),
    )


def drop(ground: Ground) -> None:
    """Take a worker's database away, and stop the server if it was the last."""
    ground.close()
    name = urlsplit(ground.url).path.lstrip("/")
    with _locked():
        url = embedded.describe(ROOT)
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        if not _sweep(url):
            embedded.stop(ROOT)


def _sweep(url: str) -> int:
    """Drop the databases of processes that are gone; return how many are left."""
    left = 0
    with psycopg.connect(url, autocommit=True) as server:
        for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'sim\\_%'").fetchall():
            if _lives(int(name.split("_")[1])):
                left += 1
            else:
                server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    return left


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _settings() -> Settings:
    home = ROOT / "home"
    prices = home / "prices"
    prices.mkdir(parents=True, exist_ok=True)
    for symbol in SYMBOLS:
        head, *lines = (SAMPLE / f"{symbol}.csv").read_text().splitlines()
        kept = [line for line in lines if str(HISTORY) <= line[:10] <= str(LAST + timedelta(days=10))]
        _put(prices / f"{symbol}.csv", "\n".join([head, *kept]) + "\n")
    _put(prices / "corporate_actions.csv", (SAMPLE / "corporate_actions.csv").read_text())
    _put(home / "trading.yaml", yaml.safe_dump(CONFIG, sort_keys=False))
    environ = {
        "TRADECORE_HOME": str(home),
        "TRADECORE_CONFIG": str(home / "trading.yaml"),
        "ALPACA_API_KEY": KEY,
        "ALPACA_SECRET_KEY": SECRET,
        "DEMO_MODE": "false",
        "ALERT_CONSOLE": "false",
        "APPRISE_URLS": "json://127.0.0.1:9/",
        "LOG_LEVEL": "ERROR",
    }
    return settings.load(environ)


def _put(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(path)


def _market() -> Market:
    sessions = Sessions.load(TABLES / "sessions_XNYS.csv")
    rows: list[dict[str, Any]] = []
    for symbol in SYMBOLS:
        with (SAMPLE / f"{symbol}.csv").open(encoding="utf-8") as lines:
            rows += [{**row, "symbol": symbol} for row in csv.DictReader(lines)]
    rows = [row for row in rows if str(HISTORY) <= row["session_date"] <= str(LAST + timedelta(days=10))]
    return Market(sessions, bars_from_rows(rows, sessions))


@contextmanager
def _locked() -> Iterator[None]:
    with (ROOT / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _template(server: psycopg.Connection[Any], url: str, base: Settings) -> str:
    """Make, once for these migrations and prices, the database that workers copy."""
    digest = hashlib.sha256(base.config_hash().encode())
    for path in sorted((Path(migrate.__file__).parent / "migrations").glob("*.sql")):
        digest.update(path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    name = f"template_{digest.hexdigest()[:12]}"
    if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        return name
    fresh = f"{name}_new"
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(fresh)))
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(fresh)))
    with connect(urlunsplit(urlsplit(url)._replace(path=f"/{fresh}"))) as conn:
        migrate.upgrade(conn)
        after = calendar("XNYS").sessions_in_range(LAST, LAST + timedelta(days=7))[0]
        pipeline.load_history(base, conn, first=HISTORY, last=after, now=LOADED_AT + timedelta(days=30))
        conn.commit()
        conn.autocommit = True
        conn.execute("VACUUM ANALYZE")
    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(fresh), sql.Identifier(name)))
    return name


def _written(monitor: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Return the tables that a run writes: those that are empty in the template."""
    found = monitor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'tradecore' ORDER BY 1").fetchall()
    empty = []
    for (table,) in found:
        row = monitor.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))).fetchone()
        if row is None:
            empty.append(str(table))
    return tuple(empty)


def _columns(monitor: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return the columns of every table, in order."""
    found: dict[str, list[str]] = {}
    for table, column in monitor.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'tradecore'"
        " ORDER BY table_name, ordinal_position"
    ).fetchall():
        found.setdefault(table, []).append(column)
    return found


def _wipe(monitor: psycopg.Connection[Any], tables: Sequence[str]) -> str:
    """Return the statements that delete all rows, of those that refer to others first, and set the numbers back."""
    refers = monitor.execute(
        "SELECT DISTINCT child.relname, parent.relname FROM pg_constraint"
        " JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid"
        " WHERE contype = 'f' AND conrelid <> confrelid"
    ).fetchall()
    before = {table: [child for child, parent in refers if parent == table and child in tables] for table in tables}
    order = TopologicalSorter(before).static_order()
    deletes = [f"{'TRUNCATE' if table == 'audit_log' else 'DELETE FROM'} {table}" for table in order]  # append-only
    numbers = monitor.execute(
        "SELECT number.relname FROM pg_depend JOIN pg_class AS number ON number.oid = objid AND number.relkind = 'S'"
        " JOIN pg_class AS owner ON owner.oid = refobjid WHERE owner.relname = ANY(%s)",
        (list(tables),),
    ).fetchall()
    return "; ".join([*deletes, *(f"SELECT setval('{name}', 1, false)" for (name,) in numbers)])
