"""`tradecore certify`: every proof of validity of one strategy on the bars of the database, as one certificate.

The certificate names what it speaks for: the strategy's code, its parameters (with the files that they name) and the
bars that it saw, each by hash. `passed` says that every required check holds; the others are told.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from tradecore import certificates, market, provenance, strategies
from tradecore.bars import Panel
from tradecore.config_models import StrategyConfig
from tradecore.context import book_calendar
from tradecore.errors import ConfigError, SessionError, StrategyError
from tradecore.model import Floats
from tradecore.reports.metrics import simple_returns
from tradecore.research import adjustment, asked, backtest, causality, checks, reads, sheet, variants, warm_up
from tradecore.research.certificate_page import page
from tradecore.research.checks import Check
from tradecore.research.dated_files import cutter, named_files
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import series as values
from tradecore.units import MONEY_SCALE

FORMAT = 1
SEED = 20_140_731  # of everything that is drawn: a certificate can be made again to the digit
LEAST_SESSIONS = 60
COST_MULTIPLES = (0.0, 1.0, 2.0, 5.0, 10.0)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The canonical content of a certificate, the hash that names it, and where it lies on disk."""

    content: dict[str, Any]
    hash: str
    json_path: Path
    html_path: Path

    @property
    def passed(self) -> bool:
        return bool(self.content["passed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is certified: the strategy alone in the book, its neighbours, and the bars with their look-back.

    `start` is the row of panel at which the first session's bar lies."""

    settings: Settings
    rule: market.Rule
    neighbours: list[market.Rule]
    panel: Panel
    start: int
    first: date
    last: date
    imported: frozenset[str]  # what its file read while it was imported


def certify(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    strategy: str,
    params: Mapping[str, Any],
    first: date | None,
    last: date | None,
    tried: int,
    now: datetime,
    allow_gaps: bool = False,
    progress: Progress = lambda what, done, all_: None,
) -> Certificate:
    """Run every check of a strategy, configured or by its kind, and store the certificate in the database and on disk.

    Parameters: params over the configured ones; sessions first..last, default: all that the database has, after the
    look-back; tried, how many other strategies were tried beside the neighbours that are tried here; allow_gaps as
    in `backtest.load`.
    Raises ConfigError for an unknown strategy or parameter, StrategyError where its file is broken, SessionError where
    the database has too few sessions.
    """
    subject = _subject(settings, conn, strategy, params, first, last)
    rule, own = subject.rule, settings.strategies_folder
    code, named = certificates.code_hash(rule.strategy.name, own), certificates.params_hash(rule.params)
    found, raised = _proofs(subject, conn, progress)
    if not raised:
        found += _statistics(subject, conn, tried, allow_gaps, progress)
    content: dict[str, Any] = {
        "format": FORMAT,
        "strategy": strategy,
        "kind": rule.strategy.name,
        "params": rule.params.model_dump(mode="json"),
        "symbols": list(rule.symbols),
        "feed": settings.trading.data.feed,
        "timeframe": settings.trading.book.timeframe,
        "first": str(subject.first),
        "last": str(subject.last),
        "bars": subject.panel.day.size - subject.start,
        "made_at": now.isoformat(timespec="seconds"),
        "code_hash": code,
        "code_files": [_short(p, own) for p in certificates.code_files(rule.strategy.name, own)],
        "params_hash": named,
        "data_hash": provenance.data_hash(_own_bars(subject)),
        "seed": SEED,
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("numpy", "numba", "pandas")},
        "checks": [_plain(dataclasses.asdict(c)) for c in found],
        "passed": all(c.ok for c in found if c.required),
    }
    return _keep(settings, conn, content, subject, now)


def _subject(
    settings: Settings,
    conn: psycopg.Connection,
    strategy: str,
    params: Mapping[str, Any],
    first: date | None,
    last: date | None,
) -> Subject:
    """Read what is to be certified: the strategy alone with the whole capital, on the bars that the database has."""
    trading, calendar = settings.trading, book_calendar(settings)
    known = trading.strategies.get(strategy)
    kind = known.kind or strategy if known else strategy
    # What is no strategy, or a broken file, is said here and not in every check.
    strategies.forget(kind)  # what it reads while it is imported is to be seen: a score may be made of that, too
    with reads.watching() as imported:
        found = asked.strategy(kind, settings.strategies_folder, "STRATEGY")
    config = known or StrategyConfig(kind=strategy)
    if params:
        asked.check_params(found, config.params, params, "--param")
    alone = config.model_copy(update={"enabled": True, "capital_share": 1.0, "params": {**config.params, **params}})
    only = settings.model_copy(update={"trading": trading.model_copy(update={"strategies": {strategy: alone}})})
    (rule,) = market.rules(only)
    near = [
        dataclasses.replace(rule, params=p, lookback_bars=rule.strategy.lookback(p))
        for p in variants.neighbours(rule.strategy, rule.params)
    ]
    with conn.transaction():
        members = market.sync_members(conn, only, calendar)
    instruments = [m.instrument for m in members]
    span = conn.execute(
        certificates.SQL["span"],
        {
            "timeframe": trading.book.timeframe,
            "source": trading.data.feed,
            "instruments": [i.instrument_id for i in instruments if i.symbol in rule.symbols],
        },
    ).fetchone()
    back = max(r.lookback_bars for r in (rule, *near))
    back = max(back, trading.risk.volatility_lookback_bars + 1)
    days = calendar.sessions_in_range(span[0], min(last, span[1]) if last else span[1]) if span and span[0] else ()
    ends = [(d, e) for d in days for e in calendar.bar_ends(d, trading.book.timeframe)]
    start = next((k for k, (d, _) in enumerate(ends) if first and d >= first), back - 1) if first else back - 1
    if len(ends) - start < LEAST_SESSIONS:
        raise SessionError(
            f"the database has {len(ends)} bars of {trading.data.feed} for {strategy}, {max(0, len(ends) - start)} of "
            f"them to certify on; {LEAST_SESSIONS} or more are needed after a look-back of {back}.",
            next_step="python -m tradecore load-history FIRST LAST; or give an earlier --first, a later --last",
        )
    panel = market.read_panel(
        conn,
        timeframe=trading.book.timeframe,
        source=trading.data.feed,
        instruments=instruments,
        ends=ends[max(0, start + 1 - back) :],
        series=market.series_of((rule, *near)),
    )
    conn.rollback()
    return Subject(
        settings=only,
        rule=rule,
        neighbours=near,
        panel=panel,
        start=min(start, back - 1),
        first=ends[start][0],
        last=ends[-1][0],
        imported=frozenset(imported),
    )


def _own_bars(subject: Subject) -> Panel:
    """Return the bars of the strategy's names, from the first look-back on."""
    rule, panel = subject.rule, subject.panel
    own = panel.with_series(rule.series).columns(market.columns_of(rule, panel.instruments))
    return own.rows(max(0, subject.start + 1 - rule.lookback_bars), panel.day.size)


def _series_at(subject: Subject, conn: psycopg.Connection, panel: Panel) -> causality.SeriesAt | None:
    """Return a function that gives the alternative series from what was known by a row's bar end, and nothing else."""
    if not subject.rule.series:
        return None
    ids = [i.instrument_id for i in panel.instruments]
    said = values.load(conn, subject.rule.series, instruments=ids, until_ns=int(panel.bar_end_ns[-1]))

    def at(t: int) -> dict[str, Floats]:
        then = {
            name: {i: statements.until(int(panel.bar_end_ns[t])) for i, statements in mine.items()}
            for name, mine in said.items()
        }
        return values.panels(then, instruments=ids, bar_end_ns=panel.bar_end_ns[: t + 1])

    return at


def _proofs(subject: Subject, conn: psycopg.Connection, progress: Progress) -> tuple[list[Check], bool]:
    """Run what is required, and the warm-up beside it; say whether the strategy raised."""
    rule, params, panel = subject.rule.strategy, subject.rule.params, _own_bars(subject)
    with reads.watching() as seen, cutter(params, panel) as params_at:
        proof = causality.prove(
            rule,
            params,
            panel,
            rng=np.random.default_rng(SEED),
            params_at=params_at,
            series_at=_series_at(subject, conn, panel),
            progress=lambda done, all_: progress("causality", done, all_),
        )
    actions = stored.read_actions(
        conn,
        source=subject.settings.trading.data.feed,
        instruments=[i.instrument_id for i in panel.instruments],
        after=date.min,
        until=subject.last,
    )
    conn.rollback()
    progress("prices", 0, 1)
    prices = adjustment.prove_adjustment(panel, adjustment.actions_of(panel, actions))
    progress("warm-up", 0, 1)
    longer = warm_up.warm_up(rule, params, panel) if not proof.raised else []
    found = [
        checks.causality(proof),
        checks.adjustment(prices),
        checks.reads(
            reads.undeclared([*seen, *subject.imported], list(named_files(params).values())),
            certificates.file_hashes(params),
        ),
        checks.warm_up(longer),
    ]
    return found, bool(proof.raised)


def _statistics(
    subject: Subject, conn: psycopg.Connection, tried: int, allow_gaps: bool, progress: Progress
) -> list[Check]:
    """Fold the strategy, its neighbours and its costs; say what luck and costs make of it."""
    inputs = backtest.load(subject.settings, conn, first=subject.first, last=subject.last, allow_gaps=allow_gaps)
    conn.rollback()
    a_year = market.bars_per_year(book_calendar(subject.settings), subject.settings.trading.book.timeframe)
    fold = backtest.fold(inputs)
    returns = _returns(inputs, fold.equity_e4)
    columns = [returns]
    for k, near in enumerate(subject.neighbours):
        progress("neighbours", k, len(subject.neighbours))
        try:
            scores = causality.guarded(partial(market.score_history, near, subject.panel))
        except StrategyError:  # a neighbour that its own code refuses has not been tried
            continue
        mine = np.ascontiguousarray(scores[subject.start :, None, :])  # as the kernels are compiled for
        again = backtest.fold(dataclasses.replace(inputs, scores=mine))
        columns.append(_returns(inputs, again.equity_e4))
    table, rng = np.column_stack(columns), np.random.default_rng(SEED)
    curves = []
    for k, multiple in enumerate(COST_MULTIPLES):
        progress("costs", k, len(COST_MULTIPLES))
        curves.append(_returns(inputs, backtest.fold(_with_costs(inputs, multiple)).equity_e4))
    progress("statistics", 0, 1)
    return [
        checks.walked_forward(table, a_year=a_year),
        checks.cross_validated(table, a_year=a_year),
        checks.sharpe(returns, table, a_year=a_year, tried=tried),
        checks.overfit(table),
        checks.resampled(returns, rng, a_year=a_year),
        checks.reordered(trades(backtest.Backtest(inputs=inputs, fold=fold, seconds=0.0)), rng),
        checks.costs(COST_MULTIPLES, curves, a_year=a_year),
    ]


def _returns(inputs: backtest.Inputs, equity_e4: np.ndarray) -> Floats:
    return simple_returns(np.concatenate([[inputs.cash_e4], equity_e4]) / MONEY_SCALE)


def _with_costs(inputs: backtest.Inputs, multiple: float) -> backtest.Inputs:
    """Return inputs with slippage and commissions times a multiple."""
    names = ("slippage_ppm", "commission_ppm", "commission_per_share_e6", "commission_min_e4")
    changed = {name: round(getattr(inputs.params, name) * multiple) for name in names}
    return dataclasses.replace(inputs, params=inputs.params._replace(**changed))


def trades(result: backtest.Backtest) -> Floats:
    """Return the round trips of a fold, dividends and fees included, as fractions of the equity before the session
    that each began in; an open one counts with its value now."""
    inputs = result.inputs
    labels, _, first = sheet.sessions_of(inputs.days)
    before = np.concatenate([[inputs.cash_e4], result.fold.equity_e4[:-1]])[first] / MONEY_SCALE
    place = {label: t for t, label in enumerate(labels)}
    return np.array([trip.gain_usd / before[place[trip.opened_on]] for trip in sheet.round_trips(result)], np.float64)


def _keep(
    settings: Settings, conn: psycopg.Connection, content: dict[str, Any], subject: Subject, now: datetime
) -> Certificate:
    """Write a certificate as JSON and as a page, whole or not at all, and into the database."""
    digest = provenance.hash_of(content)
    folder = settings.local_dir / "certificates"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Certificate(
        content=content,
        hash=digest,
        json_path=folder / f"{content['strategy']}-{digest[:12]}.json",
        html_path=folder / f"{content['strategy']}-{digest[:12]}.html",
    )
    text = json.dumps({**content, "certificate_hash": digest}, sort_keys=True, indent=1) + "\n"
    for path, written in ((made.json_path, text), (made.html_path, page(content, digest))):
        fresh = path.with_suffix(".new")
        fresh.write_text(written, encoding="utf-8")
        fresh.replace(path)
    conn.execute(
        certificates.SQL["add"],
        {
            "hash": digest,
            "kind": content["kind"],
            "code": content["code_hash"],
            "params": content["params_hash"],
            "data": content["data_hash"],
            "first": subject.first,
            "last": subject.last,
            "passed": content["passed"],
            "made": now,
            "content": Jsonb(content),
        },
    )
    conn.commit()
    return made


def _plain(value: Any) -> Any:
    """Return a value as canonical JSON: real numbers to nine digits, what is no number as None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


def _short(path: Path, own_folder: Path) -> str:
    base = certificates.PACKAGE.parent if path.is_relative_to(certificates.PACKAGE) else own_folder.parent
    return str(path.relative_to(base))


def _no_number(item: str, text: str) -> float:
    raise ConfigError(f"--param {item!r}: {text} is no number.", next_step="give one, or leave it out", value=item)


def parsed_params(items: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` texts as parameters: JSON where a value is JSON, else text. Raises ConfigError for others."""
    found: dict[str, Any] = {}
    for item in items:
        key, sign, text = item.partition("=")
        if not sign or not key:
            raise ConfigError(
                f"--param {item!r} is no key=value.", next_step="write it as --param period=55", value=item
            )
        try:
            found[key] = json.loads(text, parse_constant=partial(_no_number, item))
        except json.JSONDecodeError:
            found[key] = text
    return found
