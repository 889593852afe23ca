"""Sweeps and walk-forwards in the database: chunks that are there whole or not at all. Commits are the caller's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row

from tradecore.model import Floats, Ints
from tradecore.storage import queries

SQL = queries.load("sweeps")
BATCH_ROWS = 5_000  # in memory at once, whatever the sweep
Record = dict[str, Any]


def add_sweep(
    conn: psycopg.Connection,
    *,
    sweep_id: str,
    spec: Mapping[str, Any],
    n_chunks: int,
    hashes: Mapping[str, str],
    now: datetime,
) -> None:
    """Make a sweep known; one that is there stays as it is."""
    names = ("strategy", "sample", "engine", "metric", "first", "last", "n_sets", "chunk_size")
    values = {name: spec[name] for name in names}
    key = {"sweep_id": sweep_id, "n_chunks": n_chunks, "spec": json.dumps(spec), "now": now}
    conn.execute(SQL["add_sweep"], {**values, **hashes, **key})


def sweep(conn: psycopg.Connection, sweep_id: str) -> Record | None:
    """Return a sweep with its hashes, and how many chunks and results are there."""
    return _one(conn, "sweep", {"sweep_id": sweep_id})


def sweeps(conn: psycopg.Connection, most: int) -> list[Record]:
    """Return the newest sweeps."""
    return _all(conn, "sweeps", {"most": most})


def chunks_done(conn: psycopg.Connection, sweep_id: str) -> list[int]:
    """Return the numbers of the chunks that are there."""
    return [int(r["chunk_no"]) for r in _all(conn, "chunks_done", {"sweep_id": sweep_id})]


def add_chunk(
    conn: psycopg.Connection,
    sweep_id: str,
    chunk: Mapping[str, Any],
    *,
    set_no: Ints,
    params: Sequence[str],
    figures: Floats,
    n_trades: Ints,
) -> bool:
    """Store a chunk with its results, unless it is there; return whether it was stored.

    figures [k, 8] in the order of the table's columns; NaN in the columns that may be NULL is NULL where the whole
    column is: not computed.
    """
    if conn.execute(SQL["add_chunk"], {**chunk, "sweep_id": sweep_id}).fetchone() is None:
        return False
    absent = np.isnan(figures).all(axis=0) & np.array([name not in _NEEDED for name in _COLUMNS])
    with conn.cursor().copy(SQL["copy_results"]) as copy:
        for number, text, row, trades in zip(set_no.tolist(), params, figures.tolist(), n_trades.tolist(), strict=True):
            values = [None if gone else value for value, gone in zip(row, absent, strict=True)]
            copy.write_row([sweep_id, number, text, *values, trades])
    return True


_COLUMNS = ("total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "hit_rate")
_NEEDED = ("total_return", "sharpe", "max_drawdown")


def results(conn: psycopg.Connection, sweep_id: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the results in batches, by number: set_no, params, the eight figures, n_trades. Memory stays constant."""
    with conn.cursor(name="sweep_results") as cursor:
        cursor.execute(SQL["results"], {"sweep_id": sweep_id})
        while batch := cursor.fetchmany(BATCH_ROWS):
            yield batch


def best(conn: psycopg.Connection, sweep_id: str, metric: str, most: int) -> list[Record]:
    """Return the best results by a metric, best first."""
    return _all(conn, "best", {"sweep_id": sweep_id, "metric": metric, "most": most})


def set_best(conn: psycopg.Connection, sweep_id: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Store the best of a sweep with both their figures; what is the same stays untouched."""
    for line in lines:
        texts = {name: json.dumps(line[name]) for name in ("params", "swept", "folded")}
        conn.execute(SQL["set_best"], {"sweep_id": sweep_id, "rank": line["rank"], "set_no": line["set_no"], **texts})


def folded_best(conn: psycopg.Connection, sweep_id: str) -> list[Record]:
    """Return the stored best of a sweep."""
    return _all(conn, "folded_best", {"sweep_id": sweep_id})


def add_walk(
    conn: psycopg.Connection,
    *,
    walk_id: str,
    spec: Mapping[str, Any],
    windows: Sequence[Mapping[str, Any]],
    now: datetime,
) -> None:
    """Make a walk-forward and its windows known; one that is there stays as it is."""
    key = {name: spec[name] for name in ("strategy", "metric", "first", "last")}
    conn.execute(SQL["add_walk"], {**key, "walk_id": walk_id, "spec": json.dumps(spec), "now": now})
    for line in windows:
        conn.execute(SQL["add_window"], {**line, "walk_id": walk_id})


def walk(conn: psycopg.Connection, walk_id: str) -> Record | None:
    """Return a walk-forward with its windows and, if it is finished, its figures."""
    found = _one(conn, "walk", {"walk_id": walk_id})
    return found and {**found, "windows": _all(conn, "windows", {"walk_id": walk_id})}


def finish_walk(
    conn: psycopg.Connection,
    walk_id: str,
    *,
    windows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Any],
    days: Sequence[date],
    equity_e4: Ints,
) -> None:
    """Store what a walk-forward came to: the parameters of each window, the figures, the joined curve."""
    for line in windows:
        texts = {name: json.dumps(line[name]) for name in ("params", "in_sample", "out_of_sample")}
        conn.execute(SQL["set_window"], {"walk_id": walk_id, "window_no": line["window_no"], **texts})
    conn.execute(SQL["set_walk"], {"walk_id": walk_id, "figures": json.dumps(figures)})
    rows = [
        {"walk_id": walk_id, "bar_no": k, "session": day, "equity_e4": int(value)}
        for k, (day, value) in enumerate(zip(days, equity_e4, strict=True))
    ]
    with conn.cursor() as cursor:
        cursor.executemany(SQL["add_equity"], rows)


def walk_equity(conn: psycopg.Connection, walk_id: str) -> list[Record]:
    """Return the joined out-of-sample curve."""
    return _all(conn, "equity", {"walk_id": walk_id})


def _all(conn: psycopg.Connection, name: str, values: Mapping[str, Any]) -> list[Record]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL[name], values).fetchall()


def _one(conn: psycopg.Connection, name: str, values: Mapping[str, Any]) -> Record | None:
    found = _all(conn, name, values)
    return found[0] if found else None
