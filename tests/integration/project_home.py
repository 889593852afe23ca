"""A project of one's own in a temporary folder: real sample prices in a copied csv folder, configuration, strategies.

What a test changes here is what a person would change: lines of files, keys of trading.yaml, a strategy's file.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tradecore import cli, pipeline, settings, strategies
from tradecore.context import book_calendar

REPO = Path(__file__).resolve().parents[2]
SAMPLE = REPO / "include" / "sample_data"
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
FIRST_LINE, LAST_LINE = "2004-12-01", "2005-03-31"
HISTORY, FIRST = date(2004, 12, 1), date(2005, 2, 1)
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
OWN = "own_momentum"
OWN_FILE = '''"""Hold what rose over the last `days` bars by more than the model says: a file with one number."""

from pathlib import Path

import numpy as np

from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: p.days + 1)
def own_momentum(window, *, days: int = 10, model: str):
    least = float(Path(model).read_text())
    return np.where(window.close[-1] / window.close[0] - 1 > least, 1.0, 0.0)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document of a command that ran with --json."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project's folder with a database of its own."""

    home: Path
    database_url: str

    @property
    def prices(self) -> Path:
        return self.home / "prices"

    @property
    def model(self) -> Path:
        return self.home / "model.txt"

    @property
    def config(self) -> Path:
        return self.home / "trading.yaml"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "TRADECORE_HOME": str(self.home),
            "TRADECORE_CONFIG": str(self.config),
            "DATABASE_URL": self.database_url,
            "INITIAL_CASH": "100000",
            "LOG_LEVEL": "ERROR",
        }

    def settings(self) -> settings.Settings:
        return settings.load(self.environ)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change keys of trading.yaml by section."""
        config = yaml.safe_load(self.config.read_text())
        for section, values in changes.items():
            config[section].update(values)
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def lines(self, symbol: str) -> list[str]:
        return (self.prices / f"{symbol}.csv").read_text().splitlines()

    def line(self, symbol: str, session: date) -> str:
        """Return the line of a session as it stands in the file."""
        return next(line for line in self.lines(symbol) if line.startswith(str(session)))

    def change(self, symbol: str, session: date, change: Callable[[str], str | None]) -> str:
        """Change the line of a session (None: remove it); return what it was."""
        before = self.line(symbol, session)
        after = [change(line) if line == before else line for line in self.lines(symbol)]
        text = "\n".join(line for line in after if line is not None) + "\n"
        (self.prices / f"{symbol}.csv").write_text(text)
        return before

    def run(self, *args: str, environ: Mapping[str, str] | None = None) -> Said:
        """Run `python -m tradecore ARGS` in this process: the real entry point, with its own environment."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, _logging_kept(), redirect_stdout(out), redirect_stderr(err):
            for key in ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
                patch.delenv(key, raising=False)
            for key, value in {**self.environ, **(environ or {})}.items():
                patch.setenv(key, value)
            patch.setattr("sys.argv", ["tradecore", *args])
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code=code, out=out.getvalue(), err=err.getvalue())

    def trade(self, conn: psycopg.Connection, *sessions: date, now: datetime = NOW) -> list[dict[str, Any]]:
        """Run every stage of the sessions through the pipeline; return the stages' results of each."""
        found = self.settings()
        return [
            pipeline.run_session(found, conn, book="sim", session_date=day, now=now)[0]  # one bar a session
            for day in sessions
        ]

    def sessions(self, count: int, first: date = FIRST) -> tuple[date, ...]:
        """Return `count` sessions from `first` on."""
        return book_calendar(self.settings()).sessions_in_range(first, date(2005, 3, 31))[:count]


def make(folder: Path, database_url: str, *, own: Mapping[str, Any] | None = None) -> Project:
    """Lay out a project: four symbols of the sample, 2004-12 to 2005-03; own = settings of the owner's strategy."""
    project = Project(home=folder / "home", database_url=database_url)
    project.prices.mkdir(parents=True)
    for symbol in SYMBOLS:
        head, *lines = (SAMPLE / f"{symbol}.csv").read_text().splitlines()
        kept = [line for line in lines if FIRST_LINE <= line[:10] <= LAST_LINE]
        (project.prices / f"{symbol}.csv").write_text("\n".join([head, *kept]) + "\n")
    shutil.copy(SAMPLE / "corporate_actions.csv", project.prices)
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    del config["universe"]["members"]["FB"]  # not listed yet
    config["data"]["options"]["folder"] = "prices"
    config["data"]["last_session"] = None
    config["strategies"]["ma_crossover"]["params"] |= {"short_period": 5, "long_period": 15}
    config["strategies"]["ma_crossover"]["params"]["confidence_threshold"] = 0.0
    config["risk"] |= {"rebalance_band_frac": 0.0001, "min_order_notional_usd": 10}
    if own is not None:
        params = {"days": 10, "model": str(project.model)}
        config["strategies"]["ma_crossover"]["capital_share"] = 0.5
        config["strategies"][OWN] = {"symbols": "all", "capital_share": 0.5, "params": params, **own}
        project.model.write_text("-1.0\n")
        place = project.home / "include" / "strategies"
        place.mkdir(parents=True)
        (place / f"{OWN}.py").write_text(OWN_FILE)
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))
    strategies.REGISTRY.pop(OWN, None)  # this project's file, not the one of the test before
    return project


def open_for_trading(project: Project, conn: psycopg.Connection, first: date = FIRST) -> None:
    """Load the history up to the session before `first` and open the book there."""
    found = project.settings()
    last = book_calendar(found).previous_session(first)
    pipeline.load_history(found, conn, first=HISTORY, last=last, now=NOW)
    pipeline.open_book(found, conn, book="sim", before=first, now=NOW)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Take back what the command did to logging: its handler writes to a stream that ends with it."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.setLogRecordFactory(factory)


def rows(conn: psycopg.Connection, query: str, *args: object) -> list[tuple[Any, ...]]:
    """Return a query's rows; leaves no transaction behind."""
    found = conn.execute(query, args).fetchall()  # type: ignore[call-overload]
    conn.rollback()
    return list(found)
