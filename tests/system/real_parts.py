"""A paper book at the stand-in for Alpaca with nothing simulated but the broker's market, and what goes wrong with it.

The parts: PostgreSQL, a cluster of its own with fsync on; the stand-in, a program with a journal, over HTTP; each stage
a process (stage_processes.py). The trouble: processes killed with SIGKILL, the database's power cut, its server killed,
its disk full, the stand-in killed, and the HTTP faults of its plan. All of it by seed; when it strikes is real time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from alpaca_standin.client import Standin
from alpaca_standin.faults import ANY
from alpaca_standin.market import Sessions
from tradecore import pipeline, settings, venue
from tradecore.storage import embedded, migrate
from tradecore.storage import embedded_cluster as pg
from tradecore.storage.connection import connect

REPO = Path(__file__).resolve().parents[2]
SESSIONS = Sessions.load(REPO / "include/tradecore/data/sessions_XNYS.csv")
BOOK, ACCOUNT = "paper", "paper-account"
HISTORY_DAYS = 150
TRIES = 20  # Airflow's tasks have a few; here trouble is a thousand times as frequent
RETRY_S = 30.0
RECOVERY_S = 60.0
GUARDED = ("signal", "risk", "plan")
STAGES = ("ingest", "validate", "settle", *GUARDED, "report", "approve", "submit", "close")
TROUBLE = {"kill": 60, "power_cut": 10, "server_killed": 8, "disk_full": 8, "venue_killed": 14}
TROUBLE_FRAC = 0.3  # of the tries
STYLES: tuple[dict[str, Any], ...] = (
    {"order_style": "market_on_open"},
    {"order_style": "market"},
    {"order_style": "market_on_close"},
    {"order_style": "limit"},
    {"order_style": "market", "algorithm": "twap", "twap_slices": 3, "twap_minutes": 20},
)


class Database:
    """A cluster of this test's own, made as the embedded one: checksums, fsync, commits that wait for the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = embedded.ensure(root)
        self.connection = pg.Connection(**json.loads((root / ".local/pg/connection.json").read_text()))
        self.data = Path(self.connection.cluster) / "data"

    def create(self, name: str) -> str:
        """Make a database with the current schema; return its URL."""
        with psycopg.connect(self.url, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                value = server.execute(sql.SQL("SHOW {}").format(sql.Identifier(setting))).fetchone()
                assert value == ("on",), f"{setting} is {value}"
        url = self.connection.url_of(name)
        with connect(url) as conn:
            migrate.upgrade(conn)
        return url

    def power_cut(self) -> None:
        """End all of it at once, without a checkpoint; start it again: it recovers from its log."""
        stopped = pg.server(self.data.parent).run(
            "pg_ctl", "stop", "--mode", "immediate", "--pgdata", str(self.data), timeout_s=60
        )
        assert stopped.returncode == 0, stopped.stderr
        self.start()

    def killed(self) -> None:
        """Kill the server itself; its children end when they notice."""
        pid = embedded.status(self.root)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.start()

    def disk_full(self, seconds: float) -> None:
        """Let every write beyond what is there fail, as a full disk does: EFBIG in the place of ENOSPC.

        PostgreSQL ignores SIGXFSZ, so the write returns with an error. What meets it is the log: the server goes down
        with a PANIC, as on a full disk, and comes back once there is room.
        """
        self._limit(1)
        time.sleep(seconds)
        for _ in range(2):  # a session that began meanwhile has what the server had
            self._limit(None)
        deadline = time.monotonic() + RECOVERY_S
        while embedded.status(self.root) and not pg.accepts(self.connection):
            assert time.monotonic() < deadline, "the server neither comes back nor ends"
            time.sleep(0.1)
        self.start()

    def _limit(self, size: int | None) -> None:
        """Limit the size of files that the server's processes may write, as their user; None: no limit."""
        by = pg.server(self.data.parent)
        for pid in [p for p in pg.all_pids() if pg.serves(p, self.data)]:
            soft = "unlimited" if size is None else size
            command = ["prlimit", f"--fsize={soft}:", "--pid", str(pid)]
            done = subprocess.run(command, user=by.uid, group=by.gid, capture_output=True, text=True, check=False)
            assert done.returncode == 0 or "No such process" in done.stderr, done.stderr

    def start(self) -> None:
        """Start it again unless it runs; it keeps its port."""
        assert embedded.ensure(self.root) == self.url, "the server came back at another port"

    def remove(self) -> None:
        embedded.remove(self.root)


class Processes:
    """The process that the stages are forked from."""

    def __init__(self, environ: dict[str, str], standin_url: str, log: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stage_processes.py")), standin_url],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("a"),
            text=True,
        )
        assert self._answer() == {"ready": True}

    def ask(self, stage: str, session: date, kill_s: float | None) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"stage": stage, "session": str(session), "kill_s": kill_s}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the stages' parent ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass
class Seen:
    """What a series went through: trouble by kind, processes killed by stage, failed tries by reason, HTTP faults."""

    trouble: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    fills: int = 0
    partial: int = 0
    tries: int = 0

    def add(self, other: Seen) -> None:
        for name in ("trouble", "killed", "failed", "faults"):
            getattr(self, name).update(getattr(other, name))
        for name in ("sent", "fills", "partial", "tries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Series:
    """Consecutive sessions of one book at one account, in trouble by seed."""

    def __init__(self, folder: Path, database: Database, first: date, seed: int) -> None:
        self.random = random.Random(seed)
        self.database, self.seen = database, Seen()
        self.took: dict[str, float] = {}  # seconds of an undisturbed try, by stage: where a kill may strike
        self.splits = _splits()
        self.url = database.create(f"series_{seed}")
        self.standin = Standin(*self._options(folder, first, seed))
        self.standin.arguments = ("--port", self.standin.url.rpartition(":")[2], *self.standin.arguments)
        self.environ = self._environ(folder, self._profile(folder))
        self.settings = settings.load(self.environ)
        self.now = SESSIONS.previous_close(SESSIONS.on(first).open_at).close_at + timedelta(hours=1)
        self._open(first)
        self.processes = Processes(self.environ, self.standin.url, folder / "stages.log")

    def _options(self, folder: Path, first: date, seed: int) -> list[str]:
        start = SESSIONS.previous_close(SESSIONS.on(first).open_at).close_at
        return ["--start", start.isoformat(), "--journal", str(folder / "account.jsonl"), "--seed", str(seed)]

    def _profile(self, folder: Path) -> Path:
        """Write a profile that orders something nearly every session, in a style of sending by the seed."""
        config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
        config["book"].update(name=BOOK, account=ACCOUNT, broker="alpaca-paper")
        config["data"]["options"] = {"folder": str(REPO / "include/sample_data")}
        config["strategies"]["ma_crossover"]["capital_share"] = 0.5
        config["strategies"]["ma_crossover"]["params"]["confidence_threshold"] = 0.0
        config["strategies"]["buy_and_hold"] = {"capital_share": 0.5}  # set right again every session
        config["risk"].update(rebalance_band_frac=0.0001, min_order_notional_usd=10, max_position_size=0.2)
        config["execution"].update(self.random.choice(STYLES), checks={"max_order_frac": 0.25})
        path = folder / "trading.yaml"
        path.write_text(yaml.safe_dump(config))
        (folder / "no.env").write_text("")
        return path

    def _environ(self, folder: Path, profile: Path) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")}
        return kept | {
            "PYTHONPATH": str(REPO / "include"),
            "DATABASE_URL": self.url,
            "TRADECORE_CONFIG": str(profile),
            "TRADECORE_ENV_FILE": str(folder / "no.env"),
            "TRADECORE_LOCAL_DIR": str(folder / "local"),
            "ALPACA_API_KEY": "STANDIN-KEY",
            "ALPACA_SECRET_KEY": "standin-secret",
            "ALPACA_BASE_URL": self.standin.url,
            "LOG_LEVEL": "ERROR",
        }

    def _open(self, first: date) -> None:
        before = SESSIONS.previous_close(SESSIONS.on(first).open_at).label
        self.standin.set_clock(self.now)
        with connect(self.url) as conn:
            pipeline.load_history(
                self.settings, conn, first=first - timedelta(days=HISTORY_DAYS), last=before, now=self.now
            )
            pipeline.open_book(
                self.settings,
                conn,
                book=BOOK,
                before=first,
                now=self.now,
                desk=lambda record: venue.open_desk(self.settings, conn, record, lambda: self.now, time.sleep),
            )

    def stop(self) -> None:
        self.processes.stop()
        self.standin.stop()

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection of the test's own."""
        return psycopg.connect(self.url, options="-c search_path=tradecore,public")

    # -- time

    def to(self, at: datetime) -> None:
        """Move the venue's clock on to a time, if it is behind it; a split goes ex before its session opens."""
        now = datetime.fromisoformat(self.standin.admin("clock")["now"])
        for symbol, ex_date, num, den in list(self.splits):
            due = datetime.combine(ex_date, datetime.min.time(), UTC) + timedelta(hours=13)
            if due <= max(at, now):
                self.splits.remove((symbol, ex_date, num, den))
                if due >= now:
                    self.standin.set_clock(due)
                    self.standin.admin("splits", {"symbol": symbol, "num": num, "den": den})
        if at > now:
            self.standin.set_clock(at)

    def wait(self, seconds: float) -> None:
        self.to(datetime.fromisoformat(self.standin.admin("clock")["now"]) + timedelta(seconds=seconds))

    # -- a session as Airflow runs it

    def run(self, day: date, *, calm: bool = False, decide: bool = True) -> None:
        """Run every stage of a session, each until it succeeds; submit again while it waits for something.

        Without decide it ends with settle: what is sent then would be in no settled bar.
        """
        self._plan_faults(calm=calm)
        self.to(SESSIONS.on(day).close_at + timedelta(minutes=30))
        self.task("ingest", day, calm=calm)
        gate_open = self.task("validate", day, calm=calm)["gate_open"]
        self.task("settle", day, calm=calm)
        if not decide:
            return
        for stage in GUARDED if gate_open else ():
            self.task(stage, day, calm=calm)
        for stage in ("report", "approve"):
            self.task(stage, day, calm=calm)
        while "waiting" in (done := self.task("submit", day, calm=calm)):
            self.wait(float(str(done["again_s"])))
        self.task("close", day, calm=calm)
        self._note_faults()

    def task(self, stage: str, day: date, *, calm: bool) -> dict[str, Any]:
        """Try a stage until it ends well; the more often it was tried, the less is done to it."""
        for number in range(TRIES):
            trouble = "" if calm or self.random.random() > TROUBLE_FRAC / (1 + number) else self._choose()
            said = self._try(stage, day, trouble)
            self.seen.tries += 1
            if said["end"] == "done":
                if not trouble:
                    self.took[stage] = said["seconds"]
                result: dict[str, Any] = said["result"]
                return result
            if said["end"] == "killed":
                self.seen.killed[stage] += 1
            else:
                assert said["reason"] in ("database", "venue"), f"{stage} of {day}: {said['error']}"
                self.seen.failed[said["reason"]] += 1
            self.wait(RETRY_S)
        raise AssertionError(f"{stage} of {day} did not end well in {TRIES} tries, the last time: {said}")

    def _choose(self) -> str:
        return self.random.choices(list(TROUBLE), list(TROUBLE.values()))[0]

    def _try(self, stage: str, day: date, trouble: str) -> dict[str, Any]:
        """Run one try with one trouble, at a random time of what a try takes."""
        after_s = self.random.uniform(0.0, 1.1) * self.took.get(stage, 0.3)
        if trouble:
            self.seen.trouble[trouble] += 1
        if trouble in ("", "kill"):
            return self.processes.ask(stage, day, after_s if trouble else None)
        with ThreadPoolExecutor(1) as beside:
            struck = beside.submit(self._strike, trouble, after_s)
            said = self.processes.ask(stage, day, None)
            struck.result()
        return said

    def _strike(self, trouble: str, after_s: float) -> None:
        time.sleep(after_s)
        if trouble == "power_cut":
            self.database.power_cut()
        elif trouble == "server_killed":
            self.database.killed()
        elif trouble == "disk_full":
            self.database.disk_full(0.3)
        else:
            fired = self.standin.admin("faults")["fired"]
            self.seen.faults.update(f["kind"] for f in fired)
            self.standin.kill()
            self.standin.start()

    # -- what the network does

    def _plan_faults(self, *, calm: bool) -> None:
        """Give the stand-in its faults for this session: some at sending, or any at any request."""
        chance = self.random
        if calm:
            self.standin.faults()
        elif chance.random() < 0.5:
            late_s = chance.choice((120.0, 80_000.0))  # later than the session's settle
            self.standin.admin("faults", {"seed": chance.randrange(10**6), "rate_frac": 0.04, "late_s": late_s})
        else:
            kinds = (*ANY, "422_duplicate", "duplicated_fill", "dropped_fill", "403_wash")
            sending = [
                {"kind": chance.choice(kinds), "skip": chance.randrange(3), "seconds": 0.0}
                for _ in range(chance.randrange(1, 4))
            ]
            asking = {"kind": chance.choice(ANY), "method": "GET", "skip": chance.randrange(12), "seconds": 0.0}
            self.standin.faults(*sending, asking)

    def _note_faults(self) -> None:
        self.seen.faults.update(f["kind"] for f in self.standin.admin("faults")["fired"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The same facts as the venue has them and as the ledger has them."""

    venue: dict[str, Any]
    ledger: dict[str, Any]


def both_sides(series: Series) -> Sides:
    """Read positions, cash, fills and orders at the venue and in the ledger; nothing of it through tradecore."""
    state = series.standin.admin("state")
    fills = {
        a["document"]["id"]: (a["document"]["symbol"], _signed(a["document"]), Decimal(a["document"]["price"]))
        for a in state["activities"]
        if a["document"]["activity_type"] == "FILL"
    }
    ids = [o["client_order_id"] for o in state["orders"].values()]
    there = {
        "positions": {s: Decimal(h["qty"]) for s, h in state["holdings"].items() if Decimal(h["qty"])},
        "cash": Decimal(state["cash"]),
        "fills": fills,
        "orders": sorted(ids),
    }
    with series.connect() as conn:
        last = conn.execute("SELECT max(bar_end_at) FROM book_states WHERE book = %s", (BOOK,)).fetchone()
        positions = conn.execute(
            "SELECT s.symbol, p.qty_e6 / 1000000.0 FROM book_positions p"
            " JOIN instrument_symbols s USING (instrument_id)"
            " WHERE p.book = %s AND p.bar_end_at = %s AND p.qty_e6 <> 0",
            (BOOK, last[0]),
        ).fetchall()
        cash = conn.execute(
            "SELECT cash_e4 / 10000.0 + (SELECT coalesce(sum(amount), 0) FROM explained_differences"
            " WHERE book = %(b)s AND kind NOT IN ('position', 'accounting'))"
            " FROM book_states WHERE book = %(b)s AND bar_end_at = %(at)s",
            {"b": BOOK, "at": last[0]},
        ).fetchone()
        booked = conn.execute(
            "SELECT fill_id, symbol, qty, price FROM broker_fills WHERE booked_bar_end_at IS NOT NULL"
        ).fetchall()
        sent = conn.execute(
            "SELECT client_order_id FROM orders WHERE status IN ('ACKED', 'PARTIAL', 'FILLED', 'CANCELED', 'EXPIRED')"
        ).fetchall()
    here = {
        "positions": {s: Decimal(q) for s, q in positions},
        "cash": Decimal(cash[0]),
        "fills": {i: (s, Decimal(q), Decimal(p)) for i, s, q, p in booked},
        "orders": sorted(i for (i,) in sent),
    }
    return Sides(venue=there, ledger=here)


def _signed(document: dict[str, Any]) -> Decimal:
    return Decimal(document["qty"]) * (1 if document["side"] == "buy" else -1)


def _splits() -> list[tuple[str, date, int, int]]:
    found = []
    for line in (REPO / "include/sample_data/corporate_actions.csv").read_text().splitlines()[1:]:
        symbol, ex_date, kind, num, den, *_ = line.split(",")
        if kind == "split":
            found.append((symbol, date.fromisoformat(ex_date), int(num), int(den)))
    return found


@contextmanager
def database_of_its_own(root: Path) -> Iterator[Database]:
    """Make a cluster and remove it afterwards."""
    made = Database(root)
    try:
        yield made
    finally:
        made.remove()
