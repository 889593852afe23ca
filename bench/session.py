"""`make bench`: how long the stages of one session take, and how many rows a second go in and come out.

    deploy/run python bench/session.py                               # 5, 100 and 500 symbols
    deploy/run python bench/session.py --symbols 500 --sessions 1250 # five years of 500 names
    deploy/run python bench/session.py --json                        # the same as JSON, progress on stderr
    deploy/run python bench/session.py --symbols 500 --profile validate,ingest

5 symbols are the sample; more are made up (bench/synthetic.py): csv files, loaded through the real load-history into
a scratch database, which is dropped. Then some sessions run stage by stage. Times are the best of these runs: seconds
of the wall, and in brackets of CPU (this process, and the database's where its process is on this machine), which other
work on the machine disturbs less. 'first' is the first session of the process, which also loads what a stage needs.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "include")]

import numpy as np  # noqa: E402
import psycopg  # noqa: E402
import synthetic  # noqa: E402
import yaml  # noqa: E402
from psycopg import sql  # noqa: E402

from tradecore import ingestion, market, pipeline, settings  # noqa: E402
from tradecore.context import book_calendar  # noqa: E402
from tradecore.feeding import feed_of  # noqa: E402
from tradecore.sessions import Calendar  # noqa: E402
from tradecore.storage import bars as stored  # noqa: E402
from tradecore.storage import embedded, migrate  # noqa: E402
from tradecore.storage.connection import connect  # noqa: E402

SAMPLE_SYMBOLS = 5
SAMPLE_LAST, MADE_LAST = date(2013, 2, 20), date(2024, 12, 20)
STAGES = ("ingest", "validate", "settle", "signal", "risk", "plan", "report", "approve", "submit", "close")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Seconds of the wall and of CPU: this process's, and the database's (None: it runs elsewhere)."""

    wall_s: float
    own_cpu_s: float
    database_cpu_s: float | None

    @property
    def cpu_s(self) -> float:
        return self.own_cpu_s + (self.database_cpu_s or 0.0)


@dataclass(slots=True, kw_only=True)
class Result:
    """What was seen with one number of symbols."""

    symbols: int
    sessions: int
    bars: int
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, Took] = field(default_factory=dict)
    stages: dict[str, Took] = field(default_factory=dict)
    imports: dict[str, Took] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    took: dict[str, Took] = field(default_factory=dict)

    def own_stages(self) -> Took:
        """Return the sum of all stages, without Great Expectations' import."""
        return total(list(self.stages.values()))

    def rate(self, what: str) -> float:
        """Return rows a second of the wall."""
        return self.rows[what] / self.took[what].wall_s


def total(parts: list[Took]) -> Took:
    """Return the sum of some times."""
    database = None if any(p.database_cpu_s is None for p in parts) else sum(p.database_cpu_s or 0.0 for p in parts)
    return Took(wall_s=sum(p.wall_s for p in parts), own_cpu_s=sum(p.own_cpu_s for p in parts), database_cpu_s=database)


def best(runs: list[Took]) -> Took:
    """Return the least of each figure over some runs."""
    database = None if any(r.database_cpu_s is None for r in runs) else min(r.database_cpu_s or 0.0 for r in runs)
    return Took(wall_s=min(r.wall_s for r in runs), own_cpu_s=min(r.own_cpu_s for r in runs), database_cpu_s=database)


class Watch:
    """Times calls; knows the CPU time of the connection's server process if that runs here."""

    def __init__(self, conn: psycopg.Connection, profiled: tuple[str, ...] = ()) -> None:
        self._stat = self._stat_of(conn)
        self._profiled = profiled

    @staticmethod
    def _stat_of(conn: psycopg.Connection) -> Path | None:
        process = Path("/proc") / str(conn.info.backend_pid)
        name = process / "comm"
        here = name.is_file() and name.read_text().strip() == "postgres"
        return process / "stat" if here else None

    def _database_cpu(self) -> float | None:
        if self._stat is None:
            return None
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def time(self, what: str, call: Callable[[], T]) -> tuple[T, Took]:
        """Return what a call returns and what it took; one asked for with --profile prints where its time went."""
        profile = cProfile.Profile() if what in self._profiled else None
        before, cpu, wall = self._database_cpu(), time.process_time(), time.perf_counter()
        value = profile.runcall(call) if profile else call()
        wall, cpu, after = time.perf_counter() - wall, time.process_time() - cpu, self._database_cpu()
        if profile:
            say(f"--- {what}")
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
        database = None if before is None or after is None else after - before
        return value, Took(wall_s=wall, own_cpu_s=cpu, database_cpu_s=database)


def say(text: str) -> None:
    """Tell where we are; on stderr, so that --json stays JSON."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def scratch_database() -> Iterator[str]:
    """Make a database of its own on DATABASE_URL's server or the embedded one; drop it afterwards."""
    server = os.environ.get("DATABASE_URL") or embedded.ensure(HERE.parent)
    plain = server.replace("postgresql+psycopg2://", "postgresql://")
    name = sql.Identifier(f"bench_{uuid4().hex[:12]}")
    with psycopg.connect(plain, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield urlunsplit(urlsplit(plain)._replace(path=f"/{name.as_string(None)[1:-1]}"))
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def configure(folder: Path, url: str, count: int, names: tuple[str, ...], last: date) -> settings.Settings:
    """Return settings for so many symbols on a scratch database: the sample profile, with the market's folder."""
    profile = yaml.safe_load((HERE.parent / "include" / "config" / "trading.yaml").read_text(encoding="utf-8"))
    if count > SAMPLE_SYMBOLS:
        profile["universe"] = {"name": f"bench{count}", "symbols": list(names)}
        profile["data"] |= {"options": {"folder": str(folder / "market")}, "last_session": last}
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    environ = {"DATABASE_URL": url, "INITIAL_CASH": "10000000" if count > SAMPLE_SYMBOLS else "100000"}
    found = settings.load({**environ, "LOG_LEVEL": "WARNING"}, path)
    return found.model_copy(update={"local_dir": folder / "local"})


def run_case(count: int, history: int, runs: int, folder: Path, profiled: tuple[str, ...]) -> Result:
    """Load `history` sessions of `count` symbols, run the next `runs` sessions, measure rows in and out."""
    with scratch_database() as url:
        names = synthetic.symbols(count)
        last = SAMPLE_LAST if count <= SAMPLE_SYMBOLS else MADE_LAST
        found = configure(folder, url, count, names, last)
        calendar = book_calendar(found)
        past = calendar.sessions_in_range(last - timedelta(days=int((history + runs) * 1.5) + 10), last)
        sessions = past[-(history + runs) :]
        if count > SAMPLE_SYMBOLS:
            say(f"{count} symbols: writing {len(sessions)} sessions of a made-up market")
            made = synthetic.write(folder / "market", names, sessions)
            counts = {"splits": made.splits, "dividends": made.dividends}
        else:
            counts = {}
        with connect(url) as conn:
            migrate.upgrade(conn)
            conn.commit()
            watch = Watch(conn, profiled)
            result = Result(symbols=count, sessions=history, bars=0, counts=counts)
            _imports(watch, result)
            _load(watch, result, found, conn, calendar, sessions[:history])
            _sessions(watch, result, found, conn, sessions[history:])
            _rows(watch, result, found, conn, calendar, sessions[:history])
        return result


def _imports(watch: Watch, result: Result) -> None:
    """Time what validate and report import when they run: only once in a process."""
    if "tradecore.validation.suite" not in sys.modules:
        say("importing Great Expectations")

        def suite() -> None:
            import tradecore.validation.suite  # noqa: F401

        result.imports["validate"] = watch.time("import", suite)[1]


def _load(
    watch: Watch,
    result: Result,
    found: settings.Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    sessions: tuple[date, ...],
) -> None:
    """Load the history as `load-history` does, twice: the second time there is nothing new."""

    def load() -> dict[str, object]:
        return ingestion.load_history(
            found,
            conn,
            first=sessions[0],
            last=sessions[-1],
            now=_after(calendar, sessions[-1]),
            progress=lambda text: say(f"{result.symbols} symbols: {text}"),
        )

    done, took = watch.time("load_history", load)
    result.bars = int(str(done["bars"]))
    result.rows["load-history, first"], result.took["load-history, first"] = result.bars, took
    conn.execute("ANALYZE")  # as autovacuum does in time
    conn.commit()
    again, took = watch.time("load_history again", load)
    if again["versions"] or again["bars"]:
        raise SystemExit(f"loading again was to change nothing, it said {again}")
    result.rows["load-history, again"], result.took["load-history, again"] = result.bars, took


def _sessions(
    watch: Watch, result: Result, found: settings.Settings, conn: psycopg.Connection, sessions: tuple[date, ...]
) -> None:
    """Run sessions stage by stage; keep the first's times and the best of all."""
    pipeline.open_book(found, conn, book="bench", before=sessions[0], now=_after(book_calendar(found), sessions[0]))
    seen: dict[str, list[Took]] = {stage: [] for stage in STAGES}
    fills = orders = 0
    for day in sessions:
        say(f"{result.symbols} symbols: session {day}")
        now = _after(book_calendar(found), day)
        ctx = pipeline.context(found, conn, book="bench", session_date=day, now=now)
        for stage in STAGES:
            if stage == "settle":
                pipeline.turn(ctx)
            done, took = watch.time(stage, lambda ctx=ctx, stage=stage: _stage(ctx, stage))  # type: ignore[misc]
            seen[stage].append(took)
            if stage == "validate" and not done["gate_open"]:
                raise SystemExit(f"the gate closed on made-up data: {done['gate_reason']}")
            fills, orders = fills + int(str(done.get("fills", 0))), orders + int(str(done.get("sent", 0)))
    result.counts |= {"orders": orders, "fills": fills}
    result.first = {stage: runs[0] for stage, runs in seen.items()}
    result.stages = {stage: best(runs) for stage, runs in seen.items()}


def _stage(ctx: pipeline.Context, stage: str) -> dict[str, object]:
    if stage == "signal":
        for name in pipeline.strategies(ctx):
            pipeline.signal(ctx, name)
        return {}
    return dict(getattr(pipeline, stage)(ctx))


def _rows(
    watch: Watch,
    result: Result,
    found: settings.Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    sessions: tuple[date, ...],
) -> None:
    """Measure the bulk path in (COPY, stage, one insert; rolled back) and the panel out, without the feed."""
    say(f"{result.symbols} symbols: rows in and out")
    feed = feed_of(found)
    batch, took = watch.time(
        "feed", lambda: feed.bars(found.trading.universe.symbols, "1d", sessions[0], sessions[-1], calendar)
    )
    result.rows["csv feed"], result.took["csv feed"] = batch.rows.size, took
    members = stored.read_universe(conn, found.trading.universe.name)
    ends = [(day, end) for day in sessions for end in calendar.bar_ends(day, "1d")]
    instruments = [m.instrument for m in members]
    panels = [
        watch.time(
            "read_panel",
            lambda: market.read_panel(conn, timeframe="1d", source="csv", instruments=instruments, ends=ends),
        )
        for _ in range(3)
    ]
    conn.rollback()
    panel = panels[0][0]
    result.rows["read_panel"], result.took["read_panel"] = int(panel.traded.sum()), best([took for _, took in panels])
    now = _after(calendar, sessions[-1])
    rows = np.zeros(result.rows["read_panel"], ingestion.VERSION_DTYPE)
    t, column = np.nonzero(panel.traded)
    rows["instrument_id"] = np.array([i.instrument_id for i in instruments])[column]
    rows["bar_end_ns"], rows["session_day"] = panel.bar_end_ns[t], panel.day[t]
    rows["known_ns"] = rows["bar_end_ns"] + 900_000_000_000
    for name in ("open", "high", "low", "close", "volume"):
        rows[name] = getattr(panel, name)[t, column] / (1 if name == "volume" else 10_000)
    for what in ("append_versions, first", "append_versions, again"):
        _, took = watch.time(
            "append_versions", lambda: stored.append_versions(conn, timeframe="1d", source="bench", rows=rows, now=now)
        )
        result.rows[what], result.took[what] = rows.size, took
    conn.rollback()


def _after(calendar: Calendar, day: date) -> datetime:
    """Return the clock's time when the session of `day` runs: half an hour after its close."""
    return (calendar.session(day).close_at + timedelta(minutes=30)).astimezone(UTC)


def table(results: list[Result]) -> str:
    """Return the figures as text: a column per number of symbols."""
    lines = [f"{'':<26}" + "".join(f"{r.symbols:>21} symbols" for r in results)]
    shape = [f"{r.sessions:,} sessions, {r.bars:,} bars" for r in results]
    lines.append(f"{'history':<26}" + "".join(f"{text:>29}" for text in shape))
    lines.append("\none session, s, best (CPU) · first")
    lines += [
        f"  {stage:<24}" + "".join(f"{_cell(r.stages[stage], r.first[stage]):>29}" for r in results) for stage in STAGES
    ]
    lines.append(f"  {'all stages':<24}" + "".join(f"{_cell(r.own_stages()):>29}" for r in results))
    for stage, took in next((r.imports for r in results if r.imports), {}).items():
        lines.append(f"  {stage + ', its imports':<24}" + f"{_cell(took):>29}  once in a process, beside the above")
    lines.append("\nrows a second, s (CPU)")
    lines += [
        f"  {what:<24}" + "".join(f"{f'{r.rate(what):,.0f}/s  {_cell(r.took[what])}':>29}" for r in results)
        for what in results[0].took
    ]
    counts = [", ".join(f"{n} {what}" for what, n in r.counts.items()) for r in results]
    lines.append("\nmade up: " + "; ".join(f"{r.symbols}: {text}" for r, text in zip(results, counts, strict=True)))
    return "\n".join(lines)


def _cell(took: Took, first: Took | None = None) -> str:
    return f"{took.wall_s:.2f} ({took.cpu_s:.2f})" + (f" · {first.wall_s:.2f}" if first else "")


def as_json(results: list[Result]) -> dict[str, Any]:
    """Return the figures as plain records."""
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {
        "machine": machine,
        "results": [
            {
                **asdict(r),
                "all_stages": asdict(r.own_stages()),
                "rows_per_s": {what: round(r.rate(what)) for what in r.took},
            }
            for r in results
        ],
    }


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", default="5,100,500", help="numbers of symbols (5,100,500); up to 5 are the sample")
    parser.add_argument("--sessions", type=int, default=260, help="sessions of history to load (260)")
    parser.add_argument("--runs", type=int, default=4, help="sessions to run after it (4)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--profile", default="", help="print where the time of these stages goes, such as validate,ingest"
    )
    arguments = parser.parse_args()
    profiled = tuple(arguments.profile.split(",")) if arguments.profile else ()
    results, started = [], time.monotonic()
    for count in (int(text) for text in arguments.symbols.split(",")):
        with tempfile.TemporaryDirectory(prefix="tradecore-bench-") as folder:
            results.append(run_case(count, arguments.sessions, arguments.runs, Path(folder), profiled))
    say(f"done in {time.monotonic() - started:.0f} s\n")
    print(json.dumps(as_json(results), indent=2) if arguments.json else table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
